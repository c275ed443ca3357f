"""Builders print themselves as Dockerfiles."""

from __future__ import annotations

from pathlib import Path

import pytest

from built_images import contents_of
from pycontainer.build import Bound, Builder, CacheMount, SecretMount, SshMount, TmpfsMount
from pycontainer.build.dockerfile import Dockerfile, PrintedDockerfile
from pycontainer.content import Store
from pycontainer.errors import BuildError


@pytest.fixture
def context(tmp_path: Path) -> Path:
    (tmp_path / "context/src").mkdir(parents=True)
    (tmp_path / "context/src/app.py").write_text("print('hello')")
    (tmp_path / "context/notes.md").write_text("notes")
    return tmp_path / "context"


def again(printed: PrintedDockerfile, store: Store, context: Path | None = None) -> Builder:
    return Builder.from_dockerfile(
        printed.dockerfile,
        context=printed.context or context or Path(),
        contexts=printed.contexts,
        store=store,
    )


RUN = (
    "RUN",
    "--mount=type=cache,target=/root/.cache,sharing=locked",
    "--mount=type=tmpfs,target=/scratch,size=1048576",
    "--mount=type=secret,id=key,target=/run/secrets/key,required",
    "--mount=type=ssh,id=work,target=/agent",
    "--mount=type=bind,source=/src,from=tools:1,target=/src,readwrite",
    '["make"]',
)


def test_the_text_of_a_builder() -> None:
    base = Builder("python:3.12").env({"GREETING": 'say "$HOME"', "A": "b"}).workdir("/app")
    built = base.run(
        ["make"],
        env={"DEBUG": "1"},
        mounts=[
            CacheMount("/root/.cache", sharing="locked"),
            TmpfsMount("/scratch", 1 << 20),
            SecretMount("/run/secrets/key", "key", required=True),
            SshMount("/agent", "work"),
            Bound("/src", "src", from_="tools:1", writable=True),
        ],
    )
    app = (
        base.copy("my files", "/data/", owner="app:app", mode=0o640, exclude=["*.md"])
        .copy("/out", "/app", from_=built)
        .add("https://host/file.txt", "/", checksum=f"sha256:{'0' * 64}")
        .run("echo one\necho two", network="none")
        .user("app")
        .expose(80, "53/udp")
        .volume("/data")
        .label({"two words": ""})
        .healthcheck("curl -f localhost", interval=90, retries=3)
        .stop_signal("SIGINT")
        .on_build("RUN true")
        .cmd("--help")
        .entrypoint(["python", "-m", "app"])
    )
    assert str(app.to_dockerfile()).split("\n") == [
        "FROM python:3.12 AS base",
        r'ENV GREETING="say \"\$HOME\"" A=b',
        "WORKDIR /app",
        "",
        "FROM base AS stage",
        "ARG DEBUG=1",
        " ".join(RUN),
        "",
        "FROM base",
        r'COPY --chown=app:app --chmod=640 --exclude=*.md ["\"my files\"", "/data/"]',
        "COPY --from=stage /out /app",
        f"ADD --chmod=600 --checksum=sha256:{'0' * 64} https://host/file.txt /",
        r'RUN --network=none ["/bin/sh", "-c", "echo one\necho two"]',
        "USER app",
        "EXPOSE 80/tcp 53/udp",
        "VOLUME /data",
        'LABEL "two words"=""',
        "HEALTHCHECK --interval=90s --retries=3 CMD curl -f localhost",
        "STOPSIGNAL SIGINT",
        "ONBUILD RUN true",
        "CMD -- --help",
        'ENTRYPOINT ["python", "-m", "app"]',
        "",
    ]


def test_a_directory_of_its_own_is_a_context(store: Store, context: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other/file").write_text("other")
    assets = Builder.scratch(context=tmp_path / "other").copy("file", "/file")
    builder = Builder.scratch(context=context).copy("src", "/app").copy("/", "/x", from_=assets)
    printed = builder.to_dockerfile()
    assert printed.context == context
    assert printed.contexts == {"context": tmp_path / "other"}
    assert "COPY --from=context file /file" in str(printed)
    assert again(printed, store).build().digest == builder.build(store=store).digest


def test_the_context_of_the_build_stays_that(store: Store, context: Path) -> None:
    stage = Builder.scratch(context=context).copy("notes.md", "/notes")
    builder = Builder.scratch().copy("src", "/app").copy("/", "/", from_=stage)
    printed = builder.to_dockerfile()
    assert printed.context is None
    assert printed.contexts == {"context": context}
    built = builder.build(store=store, context=context)
    assert again(printed, store, context).build().digest == built.digest


def test_images_go_by_their_names_or_as_contexts(store: Store, context: Path) -> None:
    old = Builder.scratch(context=context).copy("src", "/old").build("base:1", store=store)
    printed = Builder(old).env({"A": "1"}).to_dockerfile()
    assert str(printed) == "FROM base:1\nENV A=1\n"
    assert printed.contexts == {}
    new = Builder.scratch(context=context).copy("src", "/new").build("base:1", store=store)
    assert new != old
    printed = Builder(old).copy("/new", "/", from_=new).to_dockerfile()
    assert str(printed) == "FROM base\nCOPY --from=base:1 /new /\n"
    assert printed.contexts == {"base": old}
    nameless = Builder.scratch().env({"B": "2"}).build(store=store)
    printed = Builder(nameless).env({"A": "1"}).to_dockerfile()
    assert str(printed) == "FROM image\nENV A=1\n"
    built = again(printed, store).build()
    assert built.digest == Builder(nameless).env({"A": "1"}).build(store=store).digest


def test_names_of_stages_stay_and_never_hide_images(store: Store, context: Path) -> None:
    text = "FROM scratch AS alpine\nCOPY src /a\nFROM scratch\nCOPY --from=alpine /a /b\n"
    builder = Builder.from_dockerfile(Dockerfile.parse(text), context=context, store=store)
    assert str(builder.to_dockerfile()).replace("\n\n", "\n") == text
    printed = builder.copy("/etc", "/etc", from_="alpine").to_dockerfile()
    assert "FROM scratch AS alpine\n" in str(printed)
    assert "COPY --from=alpine:latest /etc /etc\n" in str(printed)


def test_what_a_dockerfile_came_to(store: Store, context: Path) -> None:
    (context / ".dockerignore").write_text("**/*.md\n")
    text = """\
ARG BASE=scratch
FROM $BASE AS files
ARG TARGETARCH
COPY <<END /config
name: $TARGETARCH
END
COPY . /src/
FROM --platform=linux/s390x scratch
ARG VERSION=1
ENV V="v$VERSION"
COPY --from=files --parents /./src /app/
"""
    builder = Builder.from_dockerfile(
        Dockerfile.parse(text),
        context=context,
        store=store,
        args={"VERSION": "2"},
        platform="linux/arm64",
    )
    printed = builder.to_dockerfile()
    assert str(printed) == (
        """\
FROM scratch AS files
COPY <<"END" /config
name: arm64
END
COPY . /src/

FROM --platform=linux/s390x scratch
ENV V=v2
COPY --from=files --parents /./src /app/
"""
    )
    assert printed.ignore == ("**/*.md",)
    read = Builder.from_dockerfile(
        printed.dockerfile, context=context, store=store, platform="linux/arm64"
    )
    assert read.target == builder.target


def test_the_files_that_are_left_out_are_written_too(
    store: Store, context: Path, tmp_path: Path
) -> None:
    builder = Builder.scratch(context=context).copy(".", "/all/")
    (context / ".dockerignore").write_text("*.md\n")  # Builders do not obey it, Dockerfiles do
    builder.to_dockerfile().write(tmp_path / "App.Dockerfile")
    read = Builder.from_dockerfile(tmp_path / "App.Dockerfile", context=context, store=store)
    assert "all/notes.md" in contents_of(read.build())
    assert read.build().digest == builder.build(store=store).digest
    with pytest.raises(BuildError, match="cannot write"):
        builder.to_dockerfile().write(tmp_path / "missing/Dockerfile")


def test_further_steps_see_the_context_that_the_dockerfile_sees(
    store: Store, context: Path
) -> None:
    (context / ".dockerignore").write_text("*.md\n")
    builder = Builder.from_dockerfile(
        Dockerfile.parse("FROM scratch\nCOPY . /one/\n"), context=context, store=store
    ).copy(".", "/two/")
    files = contents_of(builder.build())
    assert "two/src/app.py" in files
    assert "two/notes.md" not in files
    assert again(builder.to_dockerfile(), store).build().digest == builder.build().digest


@pytest.mark.parametrize("kept", [True, False])
def test_commands_of_former_stages(store: Store, kept: bool) -> None:
    former = Builder.scratch().cmd(["a"])
    builder = (former if kept else Builder(former)).entrypoint(["b"])
    printed = builder.to_dockerfile()
    assert str(printed).count("FROM") == (1 if kept else 2)
    image = again(printed, store).build()
    assert image.digest == builder.build(store=store).digest
    assert image.config.config.cmd == (("a",) if kept else None)


def test_variables_of_commands() -> None:
    base = Builder("debian").run("a", env={"A": "1"})
    builder = Builder(base.cmd("x")).entrypoint("y").run("b", env={"B": "2", "A": "1"})
    assert str(builder.run("c", env={"A": "3", "B": "2"}).to_dockerfile()).splitlines() == [
        "FROM debian:latest AS stage",
        "ARG A=1",
        "RUN a",
        "CMD x",
        "",
        "FROM stage",
        "ENTRYPOINT y",
        "ARG B=2",
        "RUN b",
        "ARG A=3",
        "RUN c",
    ]
    with pytest.raises(BuildError, match=r"RUN b.*it would see A of a command before") as caught:
        base.run("b").to_dockerfile()
    assert "env=" in (caught.value.remedy or "")
    copied = Builder("debian").copy("/made", "/", from_=base).run("b")
    assert "RUN b" in str(copied.to_dockerfile())


# --- ONBUILD -------------------------------------------------------------------------------------


def test_triggers_that_were_carried_out(store: Store, context: Path) -> None:
    onbuild = Builder.scratch().on_build("COPY src /src").on_build("CMD run")
    image = onbuild.build("trigger:1", store=store)
    text = "FROM trigger:1 AS stage\nONBUILD LABEL a=b\nONBUILD WORKDIR /w\nFROM stage\nENV A=1\n"
    builder = Builder.from_dockerfile(Dockerfile.parse(text), context=context, store=store)
    printed = builder.to_dockerfile()
    assert str(printed).replace("\n\n", "\n") == text
    assert again(printed, store, context).target == builder.target
    with pytest.raises(BuildError, match="FROM trigger:1 would carry out its ONBUILD"):
        Builder(image).env({"A": "1"}).to_dockerfile()


def test_triggers_are_read_when_they_are_written(store: Store) -> None:
    builder = Builder.scratch().on_build("env  A = b").on_build("copy . /app")
    assert builder.build(store=store).config.config.on_build == ("ENV A = b", "COPY . /app")
    with pytest.raises(BuildError, match="there is no instruction 'RUNN'"):
        builder.on_build("RUNN true")
    with pytest.raises(BuildError, match="cannot hold FROM"):
        builder.on_build("FROM x")


# --- what no Dockerfile can say ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("builder", "message"),
    [
        (Builder.scratch().env({"A": "1\n2"}), "ENV A=.*cannot be written in a Dockerfile"),
        (Builder.scratch().cmd("one\ntwo"), "'CMD one.*read otherwise"),
        (Builder.scratch().cmd(""), "'CMD '"),
        (Builder.scratch().label({"a\0": ""}), "LABEL"),
        (Builder.scratch().env({"A": "1"}).run("x", env={"A": "2"}), "RUN x.*this command alone A"),
        (Builder.scratch().run("x", mounts=[SecretMount("", "key")]), "RUN x.*the secret key"),
    ],
)
def test_the_step_is_named(builder: Builder, message: str) -> None:
    with pytest.raises(BuildError, match=f"(?s){message}"):
        builder.to_dockerfile()


def test_a_context_whose_ignore_file_hides_files(context: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other/.dockerignore").write_text("*\n")
    stage = Builder.scratch(context=tmp_path / "other").copy("file", "/file")
    builder = Builder.scratch(context=context).copy("src", "/").copy("/", "/", from_=stage)
    with pytest.raises(BuildError, match=r"context .*other.* its \.dockerignore"):
        builder.to_dockerfile()
