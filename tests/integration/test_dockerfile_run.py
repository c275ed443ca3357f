"""RUN of Dockerfiles in real containers, on an image of busybox."""

from __future__ import annotations

import hashlib
import shutil
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from built_images import contents_of, files_of
from busybox import busybox_image
from pycontainer.build import Bound, Builder, CacheMount, SecretMount, TmpfsMount, VertexLog
from pycontainer.content import Store
from pycontainer.errors import BuildError, BuildStepFailed
from pycontainer.images import Image

pytestmark = pytest.mark.root


class Bench:
    """A context and a store that has ``busybox``."""

    def __init__(self, store: Store, context: Path) -> None:
        self.store = store
        self.context = context

    def build(
        self, text: str, *, tag: str | None = None, use_cache: bool = True, **more: Any
    ) -> Image:
        (self.context / "Dockerfile").write_text(text)
        builder = Builder.from_dockerfile(context=self.context, store=self.store, **more)
        return builder.build(tag, use_cache=use_cache)

    def new(self, text: str, **more: Any) -> dict[str, bytes]:
        """The contents of files that are not the base's."""
        base = contents_of(Image.get("busybox:test", store=self.store))
        files = contents_of(self.build(text, **more))
        return {path: content for path, content in files.items() if base.get(path) != content}


@pytest.fixture
def bench(store: Store, tmp_path: Path) -> Bench:
    busybox_image(store, tmp_path / "rootfs")
    (tmp_path / "context").mkdir()
    return Bench(store, tmp_path / "context")


FROM = "FROM busybox:test\n"


def test_forms_of_commands(bench: Bench) -> None:
    files = bench.new(
        FROM
        + """\
ARG WHO=world
ENV GREETING=hello
SHELL ["/bin/sh", "-ec"]
RUN echo "$GREETING $WHO" > /shell
RUN ["/bin/sh", "-c", "echo $0 > /exec", "arg"]
RUN <<EOF
echo one > /here
echo two >> /here
EOF
RUN cat <<'EOF' > /there && cat <<-second >> /there
$not expanded
EOF
\tindented
second
RUN <<EOF
#!/bin/sh -e
echo "by $0" > /script
EOF
USER app
WORKDIR /home
RUN id -u > /tmp/user && pwd >> /tmp/user
"""
    )
    assert files == {
        "shell": b"hello world\n",
        "exec": b"arg\n",
        "here": b"one\ntwo\n",
        "there": b"$not expanded\nindented\n",
        "script": b"by /dev/pipes/EOF\n",
        "tmp/user": b"1000\n/home\n",
    }


def test_the_history_of_commands(bench: Bench) -> None:
    image = bench.build(FROM + "ARG A=1\nRUN <<EOF\ntrue\nEOF\nRUN true\n")
    assert [entry.created_by for entry in image.history[-2:]] == [
        "RUN |1 A=1 /bin/sh -c <<EOF\ntrue\nEOF",
        "RUN |1 A=1 /bin/sh -c true",
    ]


def test_a_failing_step_says_where_it_stands(bench: Bench) -> None:
    with pytest.raises(BuildStepFailed) as caught:
        bench.build(FROM + "\nRUN true\nRUN echo last words; \\\n    exit 7\n")
    error = caught.value
    assert error.file == str(bench.context / "Dockerfile")
    assert error.line == 4
    assert error.exit_code == 7
    assert error.output == "last words"
    assert error.command[:2] == ("/bin/sh", "-c")
    assert error.source == "RUN echo last words; \\"
    assert str(error).startswith(f"{error.file}:4: ")
    assert str(error).endswith("last words\n\n    RUN echo last words; \\\n    ^")


def test_bind_mounts(bench: Bench) -> None:
    (bench.context / "src/deep").mkdir(parents=True)
    (bench.context / "src/deep/file").write_text("content")
    (bench.context / "secret").write_text("ignored")
    (bench.context / ".dockerignore").write_text("secret\n")
    files = bench.new(
        """\
FROM busybox:test AS tools
RUN mkdir -p /opt/tools && echo tool > /opt/tools/t
FROM busybox:test
WORKDIR /work
RUN --mount=target=. cat src/deep/file > /one && ! test -e secret && ! touch x
RUN --mount=source=src/deep/file,target=/in/file cp /in/file /two
RUN --mount=from=tools,source=/opt/tools,target=/tools,rw cat /tools/t > /three && touch /tools/x
RUN --mount=source=src/deep,target=/rw,rw touch /rw/x && ls /rw > /four
RUN --mount=type=bind,from=busybox:test,target=/other test -x /other/bin/sh
"""
    )
    assert files == {"one": b"content", "two": b"content", "three": b"tool\n", "four": b"file\nx\n"}


def test_a_stage_without_files_is_mounted_empty(bench: Bench) -> None:
    run = "RUN --mount=from=nothing,target=/m ls -A /m > /seen\n"
    assert bench.new(f"FROM scratch AS nothing\n{FROM}{run}") == {"seen": b""}


def test_what_a_command_sees_bound_is_in_its_cache_key(bench: Bench) -> None:
    (bench.context / "a").write_text("1")
    text = FROM + "RUN --mount=source=a,target=/a cp /a /b\n"
    assert bench.new(text) == {"b": b"1"}
    (bench.context / "a").write_text("2")
    assert bench.new(text) == {"b": b"2"}


def test_cache_mounts_outlive_builds(bench: Bench) -> None:
    text = FROM + (
        "ARG N\nRUN --mount=type=cache,target=/root/.cache,id=mine,mode=0700"
        " stat -c %a /root/.cache > /mode; cat /root/.cache/n > /seen 2>/dev/null;"
        " echo $N > /root/.cache/n\n"
    )
    assert bench.new(text, args={"N": "1"}) == {"mode": b"700\n", "seen": b""}
    assert bench.new(text, args={"N": "2"}) == {"mode": b"700\n", "seen": b"1\n"}
    assert not any(path.startswith("root/.cache") for path in files_of(bench.build(text)))


def test_a_cache_mount_begins_with_what_it_is_given(bench: Bench) -> None:
    text = """\
FROM busybox:test AS seed
RUN mkdir /seed && echo grown > /seed/x
FROM busybox:test
RUN --mount=type=cache,target=/c,from=seed,source=/seed cat /c/x > /seen
"""
    assert bench.new(text) == {"seen": b"grown\n"}


def test_locked_caches_are_used_one_after_the_other(bench: Bench) -> None:
    step = (
        "RUN --mount=type=cache,target=/c,sharing=locked"
        " test ! -e /c/busy && touch /c/busy && sleep 0.1 && rm /c/busy && echo {0} > /{0}\n"
    )
    text = f"{FROM[:-1]} AS a\n{step.format('a')}{FROM[:-1]} AS b\n{step.format('b')}"
    text += f"{FROM}COPY --from=a /a /\nCOPY --from=b /b /\n"
    assert bench.new(text) == {"a": b"a\n", "b": b"b\n"}


def test_tmpfs_mounts(bench: Bench) -> None:
    text = FROM + "RUN --mount=type=tmpfs,target=/t,size=1m touch /t/x && df /t | grep -q tmpfs\n"
    assert bench.new(text) == {}
    assert "t" not in files_of(bench.build(text))


def test_secrets_leave_no_trace(bench: Bench, tmp_path: Path) -> None:
    text = FROM + (
        "RUN --mount=type=secret,id=token,uid=1000,mode=0440 --mount=type=secret,id=key,env=KEY"
        " --mount=type=secret,id=absent stat -c '%a %u' /run/secrets/token > /how;"
        ' (cat /run/secrets/token; echo "$KEY") | md5sum > /seen\n'
    )
    (tmp_path / "key").write_text("geheim2")
    secrets = {"token": "geheim1", "key": tmp_path / "key"}
    image = bench.build(text, tag="with:1", secrets=secrets)
    files = contents_of(image)
    assert files["how"] == b"440 1000\n"
    digest = hashlib.md5(b"geheim1geheim2\n").hexdigest()
    assert files["seen"] == f"{digest}  -\n".encode()
    assert "run" not in files_of(image)
    changed = bench.build(text, secrets={"token": "other", "key": "else"})
    assert changed.digest == image.digest
    for path in bench.store.path.rglob("*"):
        if path.is_file():
            assert b"geheim" not in path.read_bytes()


def test_a_secret_that_is_required(bench: Bench) -> None:
    text = FROM + "RUN --mount=type=secret,id=token,required=true true\n"
    with pytest.raises(BuildError, match="token is required") as caught:
        bench.build(text)
    assert caught.value.remedy is not None


def test_agents_are_shown_by_their_socket(bench: Bench, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as agent:
        agent.bind(str(tmp_path / "agent"))
        agent.listen()
        text = FROM + (
            'RUN --mount=type=ssh,required=true test -S "$SSH_AUTH_SOCK" && echo there > /seen\n'
        )
        assert bench.new(text, ssh={"default": tmp_path / "agent"}) == {"seen": b"there\n"}
        assert "SSH" not in str(bench.build(text).config.config.env)
    with pytest.raises(BuildError, match="agent default is required"):
        bench.build(text, use_cache=False)


ASK = """\
import os, socket, struct
with socket.socket(socket.AF_UNIX) as agent:
    agent.connect(os.environ["SSH_AUTH_SOCK"])
    agent.sendall(struct.pack(">IB", 1, 11))  # SSH_AGENTC_REQUEST_IDENTITIES
    answer = agent.recv(1 << 16)
(count,) = struct.unpack(">I", answer[5:9])
status = os.stat(os.environ["SSH_AUTH_SOCK"])
print(count, oct(status.st_mode & 0o777), status.st_uid, status.st_gid, os.getuid())
"""


@pytest.fixture
def keys(tmp_path: Path) -> list[Path]:
    """Two private keys; the second has a passphrase."""
    if shutil.which("ssh-keygen") is None:
        pytest.skip("needs ssh-keygen (apt-get install openssh-client)")
    made = []
    for name, passphrase in (("plain", ""), ("locked", "secret")):
        path = tmp_path / name
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-f", str(path)]
        subprocess.run(command, check=True)
        made.append(path)
    return made


def test_keys_are_held_by_an_agent(bench: Bench, keys: list[Path], tmp_path: Path) -> None:
    Image.from_interpreter(tag="python:here", store=bench.store)
    (bench.context / "ask.py").write_text(ASK)
    text = (
        "FROM python:here\nUSER 1000:1000\nRUN --mount=type=ssh,id=deploy,mode=0640,uid=1000,gid=7 "
        "--mount=source=ask.py,target=/ask.py python /ask.py\n"
    )

    def said(ssh: dict[str, Any]) -> list[str]:
        events: list[object] = []
        builder = Builder.from_dockerfile(context=bench.context, store=bench.store, ssh=ssh)
        builder.build(use_cache=False, progress=events.append)
        return [each.text.rstrip() for each in events if isinstance(each, VertexLog)]

    (bench.context / "Dockerfile").write_text(text)
    assert said({"deploy": keys[0]}) == ["1 0o640 1000 7 1000"]
    assert said({"deploy": [keys[0], keys[0]]}) == ["1 0o640 1000 7 1000"]
    command = ["ssh-agent", "-D", "-a", str(tmp_path / "agent")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as agent:
        try:
            while not (tmp_path / "agent").exists():
                time.sleep(0.01)
            assert said({"deploy": tmp_path / "agent"}) == ["0 0o640 1000 7 1000"]
        finally:
            agent.terminate()
    image = bench.build(text, ssh={"deploy": keys[0]})
    assert not any(b"OPENSSH PRIVATE" in each for each in contents_of(image).values())


def test_keys_that_cannot_be_used(bench: Bench, keys: list[Path], tmp_path: Path) -> None:
    text = FROM + "RUN --mount=type=ssh true\n"
    with pytest.raises(BuildError, match="locked cannot be used") as caught:
        bench.build(text, ssh={"default": keys[1]})
    assert "passphrase" in str(caught.value.remedy)
    (tmp_path / "junk").write_text("no key")
    with pytest.raises(BuildError, match="cannot be used"):
        bench.build(text, ssh={"default": tmp_path / "junk"})
    with pytest.raises(BuildError, match="no socket or key"):
        bench.build(text, ssh={"default": tmp_path / "missing"})


def test_network_and_security(bench: Bench) -> None:
    text = FROM + (
        "RUN --network=none ls /sys/class/net > /net\n"
        "RUN --security=insecure grep CapEff /proc/self/status > /caps\n"
    )
    with pytest.raises(BuildError, match="has to be allowed"):
        bench.build(text)
    files = bench.new(text, insecure=True)
    assert files["net"] == b"lo\n"
    effective = int(files["caps"].split()[1], 16)
    own = Path("/proc/self/status").read_text().partition("CapEff:")[2].split()[0]
    assert effective == int(own, 16)


def test_proxies_reach_commands_and_nothing_else(bench: Bench) -> None:
    text = FROM + 'RUN test -n "$HTTP_PROXY" && echo set > /seen\n'
    one = bench.build(text, args={"HTTP_PROXY": "http://one"})
    two = bench.build(text, args={"HTTP_PROXY": "http://two"})
    assert one.digest == two.digest
    assert "http://one" not in str(one.config)


def test_independent_stages_run_at_the_same_time(bench: Bench) -> None:
    meeting: list[str] = []
    both = threading.Event()
    text = """\
FROM busybox:test AS a
RUN echo a; sleep 0.2; echo a > /a
FROM busybox:test AS b
RUN echo b; sleep 0.2; echo b > /b
FROM scratch
COPY --from=a /a /
COPY --from=b /b /
"""
    (bench.context / "Dockerfile").write_text(text)

    def look(event: object) -> None:
        meeting.append(type(event).__name__ + getattr(event, "title", ""))
        if isinstance(event, VertexLog):
            logs = {each for each in meeting if each.startswith("VertexLog")}
            finished = [each for each in meeting if "FinishedRUN" in each]
            if len(logs) == 2 and not finished:
                both.set()

    Builder.from_dockerfile(context=bench.context, store=bench.store).build(progress=look)
    assert both.is_set()


def test_a_builder_mounts_too(bench: Bench) -> None:
    (bench.context / "a").write_text("from the context")
    seed = Builder("busybox:test").run("mkdir /seed && echo seed > /seed/x")
    image = (
        Builder("busybox:test", context=bench.context)
        .run(
            "cat /a /s/x /run/secrets/t > /seen; touch /c/x",
            mounts=[
                Bound("/a", "a"),
                Bound("/s", "/seed", seed),
                CacheMount("/c"),
                TmpfsMount("/t"),
                SecretMount("/run/secrets/t", "t"),
            ],
        )
        .build(store=bench.store, secrets={"t": "secret"})
    )
    assert contents_of(image)["seen"] == b"from the contextseed\nsecret"
    assert "c" not in files_of(image)
