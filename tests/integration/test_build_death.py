"""Several programs that build the same at once, and programs that are killed while they build."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from built_images import contents_of
from busybox import busybox_image
from pycontainer.build import BuildCache, Builder, MountCaches
from pycontainer.content import Store
from pycontainer.images import Image

pytestmark = pytest.mark.root

PROGRAM = """\
import sys
from pycontainer.build import Builder, LocalCache, VertexCached
from pycontainer.content import Store

def tell(event):
    if isinstance(event, VertexCached):
        print("cached", event.title, flush=True)
    print("event", getattr(event, "text", ""), flush=True)

with Store.open(sys.argv[1]) as store:
    builder = Builder.from_dockerfile(context=sys.argv[2], store=store, secrets={"key": "hidden word"})
    print(builder.build("built:1", progress=tell, cache_to=LocalCache(sys.argv[3])).digest)
"""


class Bench:
    """A store with busybox, a context, and a program that builds it."""

    def __init__(self, store: Store, place: Path) -> None:
        self.store = store
        self.context = place / "context"
        self.context.mkdir()
        self.cache = place / "cache"
        self._script = place / "build.py"
        self._script.write_text(PROGRAM)

    def dockerfile(self, text: str) -> None:
        (self.context / "Dockerfile").write_text(text)

    def start(self) -> subprocess.Popen[str]:
        command = [self._script, self.store.path, self.context, self.cache]
        return subprocess.Popen(
            [sys.executable, *map(str, command)], stdout=subprocess.PIPE, text=True
        )

    def killed(self, when: str, count: int, seconds: float) -> None:
        """A build that is killed some time after a line of its output was there so many times."""
        with self.start() as process:
            assert process.stdout is not None
            for line in process.stdout:
                count -= when in line
                if count <= 0:
                    time.sleep(seconds)
                    break
            process.send_signal(signal.SIGKILL)

    def builder(self) -> Builder:
        secrets = {"key": "hidden word"}
        return Builder.from_dockerfile(context=self.context, store=self.store, secrets=secrets)

    def settled(self) -> None:
        """Wait until what a killed build has left is collected."""
        deadline = time.monotonic() + 20
        while list((self.store.path / "tmp").iterdir()):  # monitors of its containers end first
            assert time.monotonic() < deadline
            time.sleep(0.02)
            self.store.collect()

    def mounts(self) -> list[str]:
        """All mounts of the store, of any process: those of containers that go on would be seen, too."""
        found = []
        for table in Path("/proc").glob("[0-9]*/mountinfo"):
            with suppress(OSError):
                found += [line for line in table.read_text().split("\n") if self._is_ours(line)]
        return found

    def _is_ours(self, line: str) -> bool:
        return str(self.store.path) in line


@pytest.fixture
def bench(store: Store, tmp_path: Path) -> Bench:
    busybox_image(store, tmp_path / "rootfs")
    return Bench(store, tmp_path)


def test_two_programs_that_build_the_same_do_the_work_once(bench: Bench) -> None:
    bench.dockerfile(
        """\
FROM busybox:test AS tools
RUN --mount=type=cache,target=/runs echo tools >> /runs/log; sleep 1; echo 1 > /tool
FROM busybox:test
COPY . /context/
COPY --from=tools /tool /tool
RUN --mount=type=cache,target=/runs echo last >> /runs/log; sleep 0.5; echo 2 > /last
"""
    )
    programs = [bench.start() for _ in range(3)]
    outputs = [program.communicate(timeout=60)[0] for program in programs]
    assert [program.returncode for program in programs] == [0, 0, 0]
    assert len({output.split()[-1] for output in outputs}) == 1
    (runs,) = MountCaches(bench.store).entries()
    assert sorted((runs.home / "content/log").read_text().split()) == ["last", "tools"]
    spared = [output.count("cached RUN") for output in outputs]
    assert sum(spared) == 4  # two commands, each executed by one of the three


MOUNTING = """\
FROM busybox:test
RUN echo before > /before
RUN --mount=type=cache,target=/cache,sharing=locked \
    --mount=type=secret,id=key,target=/key \
    --mount=type=bind,source=file,target=/file,rw \
    --mount=type=tmpfs,target=/memory \
    cat /key /file > /memory/both; test -e /cache/slept || { touch /cache/slept; echo started; sleep 60; }
RUN echo after > /after
"""


def test_a_command_with_mounts_is_killed(bench: Bench) -> None:
    bench.dockerfile(MOUNTING)
    (bench.context / "file").write_text("content")
    bench.killed("event started", 1, 0)
    bench.settled()
    assert bench.mounts() == []
    kept = [path for path in bench.store.path.rglob("*") if path.is_file()]
    assert not [path for path in kept if b"hidden word" in path.read_bytes()]
    started = time.monotonic()
    image = bench.builder().build()  # nobody holds the cache, nor the step's lock
    assert time.monotonic() - started < 30
    assert contents_of(image)["after"] == b"after\n"
    assert "memory/both" not in contents_of(image)


STEPS = """\
FROM busybox:test AS one
COPY files /files
RUN echo 1 > /one
FROM busybox:test AS two
RUN --mount=type=cache,target=/cache echo 2 > /cache/two; cp /cache/two /two
FROM busybox:test
WORKDIR /work
COPY --from=one /files /one ./
COPY --from=two /two ./
ADD files.tar.gz ./unpacked/
COPY <<END script
echo script
END
RUN --mount=type=bind,source=files,target=/bound,rw date > /bound/when; ls /bound | wc -l > count
RUN rm -r f1*; ln one link
"""


def test_builds_that_are_killed_at_any_step(bench: Bench) -> None:
    (bench.context / "files").mkdir()
    for number in range(200):
        (bench.context / f"files/f{number}").write_text(f"{number}\n" * 500)
    archive = ["tar", "-czf", "files.tar.gz", "--sort=name", "--mtime=@0", "files"]
    subprocess.run(archive, cwd=bench.context, check=True)
    bench.dockerfile(STEPS)
    for number in range(14):
        bench.killed("event", 1 + 2 * number, number % 4 * 0.007)
        assert str(bench.store.path) not in Path("/proc/self/mountinfo").read_text()
    bench.settled()
    assert bench.mounts() == []
    assert list((bench.store.path / "build").glob(".*.lock")) == []
    program = bench.start()
    output = program.communicate(timeout=60)[0]
    assert program.returncode == 0
    assert "cached" in output
    image = Image.get("built:1", store=bench.store)
    assert contents_of(image)["work/count"] == b"201\n"
    assert bench.builder().build(use_cache=False).digest == image.digest
    for entry in BuildCache(bench.store).entries():
        if entry.layer is not None:
            with bench.store.blobs.reader(entry.layer.descriptor) as blob:
                while blob.read(1 << 20):  # of the right digest, or an error
                    pass
