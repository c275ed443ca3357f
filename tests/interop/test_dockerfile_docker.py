"""The same Dockerfile and context, built by Docker's builders and by ours: same files, same config."""

from __future__ import annotations

import json
import stat
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from attrs import evolve, frozen

from busybox import busybox_image
from interop.peers import Docker, dockerd, run
from pycontainer.build import Builder
from pycontainer.content import Store
from pycontainer.images import Image
from pycontainer.snapshots import mounted
from trees import FileFacts, differences, picture_of

__all__ = ["dockerd"]  # fixtures

pytestmark = [
    pytest.mark.interop("docker", "dockerd"),
    pytest.mark.root,
    pytest.mark.xdist_group("dockerd"),
]

_BASE = "busybox:parity"
_CONFIG = (
    "Env",
    "Cmd",
    "Entrypoint",
    "WorkingDir",
    "User",
    "ExposedPorts",
    "Volumes",
    "Labels",
    "StopSignal",
    "Healthcheck",
    "OnBuild",
    "Shell",
)
_BY_DOCKER = {"etc/hostname", "etc/hosts", "etc/resolv.conf", ".dockerenv"}
"""Where Docker puts mounts; each of its builders leaves other empty files there."""


@frozen
class Case:
    """A Dockerfile, and how its context comes about."""

    text: str
    fill: Callable[[Path], None] = lambda _: None
    args: Mapping[str, str] = {}


# --- contexts --------------------------------------------------------------------------------


def _write(context: Path, *names: str) -> None:
    for name in names:
        path = context / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{name}\n")


def _tree(context: Path) -> None:
    """Files of several modes, hidden ones, links, directories in directories."""
    _write(context, "a.txt", "b.txt", "c.md", "[odd].txt", "with space.txt", ".hidden")
    _write(context, "dir/one", "dir/two", "dir/.three", "dir/sub/deep/four", "other/five")
    (context / "dir/empty").mkdir()
    (context / "a.txt").chmod(0o640)
    (context / "b.txt").chmod(0o755)
    (context / "dir/sub").chmod(0o700)
    (context / "link").symlink_to("a.txt")
    (context / "linkdir").symlink_to("dir")
    (context / "dir/inner").symlink_to("sub/deep")
    (context / "dir/broken").symlink_to("/nowhere")


def _ignored(context: Path) -> None:
    _tree(context)
    _write(context, "node_modules/x/index.js", "node_modules/keep/index.js", "src/a.pyc")
    _write(context, "src/pkg/b.pyc", "src/pkg/b.py", "docs/a.md", "docs/README.md", "secret.key")
    _write(context, "log/1/x.log", "log/2/y.log", "log/2/z.txt", "#odd", "foo/bar/baz", "foo/qux")
    (context / ".dockerignore").write_text(
        """\
# a comment
node_modules
!node_modules/keep
**/*.pyc
docs/*
!docs/README.md
*.key
/log/*/*.log

  foo/bar\t
!foo/bar/baz
dir/sub/../two
"""
    )


def _all_ignored(context: Path) -> None:
    _tree(context)
    (context / ".dockerignore").write_text("*\n!dir\ndir/sub\n!dir/sub/deep/f*\n!a.txt\n")


def _archives(context: Path) -> None:
    _tree(context)
    tree = context / "packed"
    _write(tree, "root/file", "root/bin/tool", "top")
    (tree / "root/bin/tool").chmod(0o755)
    (tree / "root/link").symlink_to("bin/tool")
    owned = ("--owner=1234", "--group=4321", "--numeric-owner", "--mtime=@1000")
    for name, flag in (("plain.tar", "-c"), ("a.tar.gz", "-cz"), ("b.tar.bz2", "-cj")):
        run("tar", "-C", tree, *owned, flag, "-f", context / name, ".")
    run("tar", "-C", tree, *owned, "-cJf", context / "c.txz", "root", "top")
    (context / "renamed").write_bytes((context / "a.tar.gz").read_bytes())
    (context / "fake.tar.gz").write_text("no archive at all\n")
    with (context / "file.gz").open("wb") as output:
        subprocess.run(["gzip", "-nc", context / "a.txt"], stdout=output, check=True)


# --- Dockerfiles -----------------------------------------------------------------------------

CASES = {
    "copies of files": Case(
        """\
FROM busybox:parity
COPY a.txt /named
COPY a.txt /into/
COPY a.txt b.txt /several/
COPY *.txt /stars/
COPY [ab].txt /range/
COPY ?.md /question/
COPY [[]odd].txt /odd/
COPY ["with space.txt", "/with space/"]
COPY .hid* /hidden/
COPY a.txt /bin
COPY a.txt /new/deep/er/name
COPY a.txt .
COPY a.txt relative
COPY /a.txt /slashed
COPY ./dir/../b.txt /dotted
COPY link /link
COPY dir/sub/*/four /deep/
COPY nothing* a.txt /lenient/
COPY d**/on? **/four **/five /starred/
COPY ** /all-starred/
""",
        _tree,
    ),
    "copies of directories": Case(
        """\
FROM busybox:parity
COPY dir /dir
COPY dir /slash/
COPY dir/ /trailing
COPY dir/. /dot
COPY dir other /both/
COPY d* o* /globbed/
COPY linkdir /linked
COPY linkdir/one /through
COPY dir/inner /inner
COPY . /all/
COPY dir /tmp
RUN mkdir -p /there/sub && echo old > /there/one && chmod 711 /there /there/sub
COPY dir /there
WORKDIR /work
COPY dir .
COPY dir ./here
COPY dir ../up/
""",
        _tree,
    ),
    "copies onto what is there": Case(
        """\
FROM busybox:parity
RUN mkdir -p /real /data && ln -s /real /alias \\
 && ln -s data /relative && echo t > /target && ln -s /target /file \
 && ln -s /gone /dangling && echo x > /data/one && chmod 600 /data/one && ln -s loop2 /real/up
COPY a.txt /alias/
COPY a.txt /alias/named
COPY dir /relative/
COPY dir /relative
COPY b.txt /data/one
COPY a.txt /dangling/
COPY a.txt /file
RUN ln -s ../real /data/back
COPY a.txt /data/back/there
""",
        _tree,
    ),
    "owners": Case(
        """\
FROM busybox:parity
RUN mkdir /before && chown 7:8 /before
COPY --chown=app a.txt /name/
COPY --chown=app:extra dir /group
COPY --chown=12:34 dir /numbers/
COPY --chown=12 a.txt /one-number
COPY --chown=app:34 a.txt /mixed
COPY --chown=9 a.txt /before/
WORKDIR /home/app/made
COPY --chown=app:app . .
USER app
COPY a.txt /by-root
ADD --chown=app a.txt /added/
RUN touch /tmp/mine
""",
        _tree,
    ),
    "ignored files": Case("FROM busybox:parity\nCOPY . /all\nCOPY foo /foo\n", _ignored),
    "archives": Case(
        """\
FROM busybox:parity
ADD plain.tar /plain
ADD plain.tar /plain-slash/
ADD a.tar.gz /gz/deep
ADD b.tar.bz2 /bz2/
ADD c.txz /xz/
ADD renamed /renamed/
ADD fake.tar.gz /fake/
ADD file.gz /gzipped/
ADD a.tar.gz a.txt /mixed/
ADD dir /dir
COPY a.tar.gz /copied/
ADD packed/root/file /file
WORKDIR /w
ADD plain.tar .
RUN mkdir /x && ln -s /x /y
ADD plain.tar /y
""",
        _archives,
    ),
    "working directories": Case(
        """\
FROM busybox:parity
ENV TOP=/env
WORKDIR /a
WORKDIR b
WORKDIR ../c/./d
RUN pwd > where
WORKDIR $TOP/${NONE:-x}
RUN ln -s /real /alias
WORKDIR /alias/made
RUN mkdir /given && chmod 700 /given && chown 5:6 /given
WORKDIR /given/below
"""
    ),
    "arguments": Case(
        """\
ARG TAG=parity
ARG GLOBAL=global
FROM busybox:$TAG AS first
ARG GLOBAL
ARG LOCAL=local
ARG GIVEN=default
ARG EMPTY
ARG LATER=$LOCAL-$GLOBAL
ARG SHADOWED=arg
ENV SHADOWED=env
ENV FROM_ARG=$LATER EMPTY_ENV=$EMPTY
RUN env | grep -v -e ^HOSTNAME -e ^SHLVL -e ^SHADOWED | sort > /env-first
LABEL made=$GIVEN-$SHADOWED
FROM busybox:parity AS second
ARG GIVEN
ENV AGAIN=$LOCAL:$GIVEN:$GLOBAL
RUN env | grep -v -e ^HOSTNAME -e ^SHLVL | sort > /env-second
FROM first
ARG GLOBAL=own
ARG HTTP_PROXY
COPY --from=second /env-* /
RUN echo "$GLOBAL" > /global
""",
        args={"GIVEN": "given"},
    ),
    "expansion": Case(
        """\
FROM busybox:parity
ENV A=1 B="two words" C='single $A' D=with\\ space E="say \\"hi\\"" F=$A$A
ENV A=2 G=$A
ENV H=${A} I=${NO:-default} J=${A:+alternate} K=${NO:+none} L=\\$A M=\\\\ O=${A:-${B}}
ENV LEGACY some  words with   "quotes" $A
ENV P=a${A}b Q="a$A"'b$A' R=$NO S="" T=${B}
ENV PATH=/extra:$PATH
LABEL plain=x "quoted key"="a b" multi="line\\
 two" $A=key x.y=$B single='$A'
LABEL legacy some text $A
WORKDIR /d$A/$B
EXPOSE $A 80 443/tcp 53/udp 8000-8002 ${NO:-99}/sctp
USER ${U:-app}
VOLUME $B /v$A ["ignored"]
VOLUME ["/json path", "/$A"]
STOPSIGNAL ${SIG:-SIGINT}
COPY $A.txt ${B:-x}/$A/
ONBUILD RUN echo $A
CMD echo $A
""",
        lambda context: _write(context, "2.txt"),
    ),
    "commands": Case(
        """\
FROM busybox:parity
RUN echo shell $0 > /one; echo second && \\
    # a comment within
    echo third >> /one \\

    && echo fourth >> /one
RUN ["/bin/sh", "-c", "echo exec \\"$0\\" > /two"]
RUN ["touch", "/three"]
RUN  [ -d /bin ] && echo test > /four
RUN echo 'single $HOME' "double $HOME" \\$HOME `echo tick` > /five
SHELL ["/bin/sh", "-e", "-c"]
RUN false || echo "$-" > /six
CMD one "two three"
ENTRYPOINT ["/bin/sh", "-c"]
HEALTHCHECK --interval=30s --timeout=1m --start-period=1500ms --retries=4 CMD test -f /one
STOPSIGNAL 9
RUN cd /tmp && umask 077 && echo x > private && mkdir -m 1777 sticky && ln private hard && mkfifo fifo
RUN rm /bin/yes && rm -r /home && mkdir /home && touch /home/new
"""
    ),
    "commands that follow": Case(
        """\
FROM busybox:parity AS base
CMD ["base"]
HEALTHCHECK CMD ["test"]
FROM base AS kept
EXPOSE 1
FROM base AS reset
ENTRYPOINT ["own"]
FROM kept
COPY --from=reset /bin/sh /sh
ENTRYPOINT own "entry point"
HEALTHCHECK NONE
USER 1000:2000
VOLUME /a /b
LABEL a=1 b=2
LABEL b=3
"""
    ),
    "triggers": Case(
        """\
FROM busybox:parity AS base
ONBUILD ARG WHAT=what
ONBUILD COPY a.txt /triggered/
ONBUILD RUN echo $WHAT > /ran
ONBUILD ENV SET=$WHAT
ONBUILD WORKDIR /made
ONBUILD CMD ["triggered"]
FROM base
RUN echo after > here
ONBUILD USER app
""",
        _tree,
    ),
    "stages": Case(
        """\
FROM busybox:parity AS Build
WORKDIR /out
RUN mkdir -p d/e && echo x > d/e/f && ln -s d l && ln -s /out/d/e abs && chown -R 3:4 d \\
 && chmod 2750 d && echo s > suid && chmod 4711 suid
FROM scratch AS unused
COPY a.txt /
FROM busybox:parity
COPY --from=build /out /all
COPY --from=0 /out/d /d/
COPY --from=build /out/l /followed
COPY --from=build /out/l/e/f /through
COPY --from=build /out/abs/f /absolute
COPY --from=build /out/s* /out/d/* /star/
COPY --from=build --chown=app out/d /owned
COPY --from=busybox:parity /etc/passwd /image/
""",
        _tree,
    ),
}

_BUILDKIT = {
    "stages without files": Case(
        """\
FROM scratch AS nothing
LABEL a=b
FROM busybox:parity
COPY --from=nothing / /
COPY --from=nothing / /made/
COPY --from=nothing . /tmp
"""
    ),
    "ignored by everything": Case(
        "FROM busybox:parity\nCOPY . /all\n",
        _all_ignored,
    ),
    "inherited arguments": Case(
        """\
ARG OUTER=outer
FROM busybox:parity AS first
ARG OUTER
ARG ONE=1
ARG TWO=2
ARG ONE
RUN echo $OUTER $ONE $TWO > /first
FROM first AS second
ARG TWO=two
ENV KEPT=$OUTER-$ONE-$TWO
FROM second
RUN echo $OUTER $ONE $TWO > /third
FROM busybox:parity AS apart
RUN echo "$ONE$TWO" > /apart
FROM second
COPY --from=apart /apart /
RUN env | grep -v -e ^HOSTNAME -e ^SHLVL | sort > /env
"""
    ),
    "directories of users": Case(
        """\
FROM busybox:parity
COPY --chown=12:34 dir /numbers/deep/
USER app
WORKDIR /home/app/made
COPY a.txt .
USER 12
WORKDIR /twelve
USER app:extra
WORKDIR below/it/
""",
        _tree,
    ),
    "modes": Case(
        """\
FROM busybox:parity
COPY --chmod=600 a.txt /file
COPY --chmod=755 dir /made/dir
COPY --chmod=0640 --chown=app:app a.txt dir /several/
ADD --chmod=444 b.txt /b
""",
        _tree,
    ),
    "mounts": Case(
        """\
FROM busybox:parity AS other
RUN mkdir /given && echo stage > /given/file
FROM busybox:parity
RUN mkdir -p /ctx /mnt/deep /g /c /t /w && touch /w/rel.txt
RUN --mount=target=/ctx cp /ctx/a.txt /copied && ls -a /ctx/dir > /listed
RUN --mount=type=bind,source=dir,target=/mnt/deep,rw touch /mnt/deep/x && ls /mnt/deep > /written
RUN --mount=type=bind,from=other,source=/given,target=/g cat /g/file > /from-stage
RUN --mount=type=cache,target=/c,uid=5,gid=6,mode=0711 stat -c '%a %u %g' /c > /cache && touch /c/x
RUN --mount=type=cache,target=/c,uid=5,gid=6,mode=0711 ls /c > /cache-again
RUN --mount=type=tmpfs,target=/t touch /t/x && ls /t > /tmpfs
RUN --mount=type=secret,id=none --mount=type=ssh ls -A /run > /run-list || true
WORKDIR /w
RUN --mount=source=a.txt,target=rel.txt cat rel.txt > /relative && ls -l /w | wc -l > /count
""",
        _tree,
    ),
}


# --- the two builds --------------------------------------------------------------------------


@frozen
class Built:
    """What a build gives."""

    files: dict[str, FileFacts]
    config: dict[str, object]


@pytest.fixture(scope="module")
def parity_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store.open(tmp_path_factory.mktemp("parity") / "store") as store:
        yield store


@pytest.fixture(scope="module")
def docker(
    parity_store: Store, dockerd: Docker, tmp_path_factory: pytest.TempPathFactory
) -> Docker:
    """A daemon that has the same base image."""
    place = tmp_path_factory.mktemp("base")
    base = busybox_image(parity_store, place / "rootfs", _BASE)
    base = Builder(base).env({"PATH": "/bin"}).build(_BASE, store=parity_store)
    base.save(place / "base.tar", format="docker-archive")
    dockerd.run("load", "--input", place / "base.tar")
    return dockerd


@pytest.fixture
def context(tmp_path: Path) -> Path:
    path = tmp_path / "context"
    path.mkdir()
    return path


def _ours(case: Case, context: Path, store: Store, place: Path) -> Built:
    image = Builder.from_dockerfile(context=context, args=case.args, store=store).build()
    return _built(image, place)


def _theirs(case: Case, context: Path, docker: Docker, place: Path, *, buildkit: bool) -> Built:
    tag = f"parity-{place.name.lower()}"
    args = [f"--build-arg={name}={value}" for name, value in case.args.items()]
    run(
        _client(),
        "build",
        f"--tag={tag}",
        "--network=none",
        *args,
        context,
        env={**docker.environment, "DOCKER_BUILDKIT": str(int(buildkit))},
    )
    docker.run("save", "--output", place / "theirs.tar", tag)
    docker.run("rmi", "--force", tag)
    with Store.open(place / "theirs") as store:
        (image,) = Image.load(place / "theirs.tar", store=store)
        return _built(image, place)


def _client() -> str:
    """Debian's client, which needs no plug-in for BuildKit."""
    return "/usr/bin/docker" if Path("/usr/bin/docker").exists() else "docker"


def _built(image: Image, place: Path) -> Built:
    directory = place / f"view-{len(list(place.iterdir()))}"
    (directory / "mounted").mkdir(parents=True)
    with mounted(image.prepare(directory / "snapshot").plan, directory / "mounted"):
        files = picture_of(directory / "mounted")
    kept = {
        path: evolve(facts, mtime_ns=0, names=frozenset(), xattrs=())
        for path, facts in files.items()
        if path not in _BY_DOCKER
    }
    document = json.loads(image.store.blobs.read_bytes(image.manifest.config))["config"]
    return Built(kept, {name: document[name] for name in _CONFIG if document.get(name)})


def _assert_alike(ours: Built, theirs: Built) -> None:
    told = _told(ours, theirs)
    assert not told, "\n".join(told)


def _told(ours: Built, theirs: Built) -> list[str]:
    """What differs, a line each."""
    lines = [
        f"{path}: {_short(one)}, theirs {_short(other)}"
        for path, (one, other) in differences(ours.files, theirs.files).items()
    ]
    configs = ((name, ours.config.get(name), theirs.config.get(name)) for name in _CONFIG)
    lines += [f"{name}: {one}, theirs {other}" for name, one, other in configs if one != other]
    return lines


def _short(facts: FileFacts | None) -> str:
    if facts is None:
        return "nothing"
    what = facts.link or facts.content[:8]
    return f"{stat.filemode(facts.mode)} {facts.owner} {facts.size} {what}".rstrip()


@pytest.mark.parametrize("name", CASES)
def test_as_the_classic_builder(
    name: str, docker: Docker, parity_store: Store, context: Path, tmp_path: Path
) -> None:
    case = CASES[name]
    case.fill(context)
    (context / "Dockerfile").write_text(case.text)
    ours = _ours(case, context, parity_store, tmp_path)
    _assert_alike(ours, _theirs(case, context, docker, tmp_path, buildkit=False))


@pytest.mark.parametrize("name", [*CASES, *_BUILDKIT])
def test_as_buildkit(
    name: str, docker: Docker, parity_store: Store, context: Path, tmp_path: Path
) -> None:
    case = {**CASES, **_BUILDKIT}[name]
    case.fill(context)
    (context / "Dockerfile").write_text(case.text)
    ours = _ours(case, context, parity_store, tmp_path)
    _assert_alike(ours, _theirs(case, context, docker, tmp_path, buildkit=True))
