"""Builders as values, and what they do to an image's config."""

from __future__ import annotations

from pathlib import Path

import pytest

from pycontainer.build import Builder
from pycontainer.content import Store
from pycontainer.errors import BuildError, InvalidReference
from pycontainer.images import Image
from pycontainer.oci import ContainerConfig


def config_of(builder: Builder, store: Store) -> ContainerConfig:
    return builder.build(store=store).config.config


def test_a_builder_is_a_value(store: Store) -> None:
    base = Builder.scratch().env({"A": "1"})
    one, two = base.env({"B": "2"}), base.env({"C": "3"})
    assert config_of(one, store).env == ("A=1", "B=2")
    assert config_of(two, store).env == ("A=1", "C=3")
    assert config_of(base, store).env == ("A=1",)
    assert base == Builder.scratch().env({"A": "1"})
    assert one != two
    assert repr(one) == "<Builder 'ENV B=2'>"
    with pytest.raises(AttributeError):
        base.target = one.target  # type: ignore[misc]


def test_the_config_that_all_methods_make(store: Store) -> None:
    builder = (
        Builder.scratch(platform="linux/arm64/v8")
        .env({"A": "1", "B": "2"})
        .env({"A": "3"})
        .label({"z": "1"})
        .label({"a": "2", "z": "3"})
        .user("app:staff")
        .expose(8080, "53/UDP", "9000-9001")
        .volume("/data", "/log")
        .stop_signal("SIGINT")
        .shell(["/bin/bash", "-c"])
        .entrypoint(["python", "-m", "app"])
        .cmd("--help me")
    )
    image = builder.build("app:1", store=store)
    config = image.config.config
    assert config.env == ("A=3", "B=2")
    assert dict(config.labels) == {"a": "2", "z": "3"}
    assert config.user == "app:staff"
    assert set(config.exposed_ports) == {"8080/tcp", "53/udp", "9000/tcp", "9001/tcp"}
    assert set(config.volumes) == {"/data", "/log"}
    assert config.stop_signal == "SIGINT"
    assert config.shell == ("/bin/bash", "-c")
    assert config.entrypoint == ("python", "-m", "app")
    assert config.cmd == ("/bin/bash", "-c", "--help me")
    assert str(image.platform) == "linux/arm64/v8"
    assert image.layers == ()
    assert Image.get("app:1", store=store).digest == image.digest


def test_the_history_reads_like_a_dockerfile(store: Store) -> None:
    builder = (
        Builder.scratch()
        .env({"A": "1", "B": "two words", "C": ""})
        .label({"x": 'say "hi"'})
        .user(1000)
        .expose(80)
        .volume("/data")
        .stop_signal(15)
        .shell(["/bin/ash", "-c"])
        .workdir("/srv")
        .entrypoint(["a", "b c"])
        .cmd("run it")
    )
    history = builder.build(store=store).history
    assert [entry.created_by for entry in history] == [
        'ENV A=1 B="two words" C=""',
        'LABEL x="say \\"hi\\""',
        "USER 1000",
        "EXPOSE 80/tcp",
        'VOLUME ["/data"]',
        "STOPSIGNAL 15",
        'SHELL ["/bin/ash", "-c"]',
        "WORKDIR /srv",
        'ENTRYPOINT ["a", "b c"]',
        "CMD run it",
    ]
    assert {entry.created for entry in history} == {"1970-01-01T00:00:00Z"}
    assert [entry.empty_layer for entry in history].count(False) == 1


def test_working_directories_add_up(store: Store) -> None:
    builder = Builder.scratch().workdir("srv").workdir("./app/x").workdir("..")
    image = builder.build(store=store)
    assert image.config.config.working_dir == "/srv/app"
    assert config_of(builder.workdir("/"), store).working_dir == "/"


def test_a_working_directory_that_is_a_file(store: Store, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    builder = Builder.scratch(context=tmp_path).copy("file", "/file").workdir("/file")
    with pytest.raises(BuildError, match=r"WORKDIR /file: .* not a directory"):
        builder.build(store=store)


def test_an_entrypoint_drops_only_the_bases_arguments(store: Store) -> None:
    base = Builder.scratch().cmd(["base"])
    assert config_of(base.entrypoint(["e"]), store).cmd == ("base",)
    assert config_of(Builder(base).entrypoint(["e"]), store).cmd is None
    assert config_of(Builder(base).entrypoint(["e"]).cmd(["c"]), store).cmd == ("c",)
    image = base.build(store=store)
    assert config_of(Builder(image).entrypoint(["e"]), store).cmd is None


def test_building_on_an_image_keeps_what_it_has(store: Store, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("A")
    base = (
        Builder.scratch(context=tmp_path)
        .copy("a", "/a")
        .env({"A": "1"})
        .build("base:1", store=store)
    )
    for begin in ("base:1", base):
        image = Builder(begin).env({"B": "2"}).build(store=store)
        assert image.layers == base.layers
        assert image.config.config.env == ("A=1", "B=2")
        assert image.history[:-1] == base.history


def test_the_store_is_that_of_the_image(store: Store) -> None:
    base = Builder.scratch().build(store=store)
    assert Builder(base).env({"A": "1"}).build().store.path == store.path


def test_an_image_of_another_store(store: Store, tmp_path: Path) -> None:
    base = Builder.scratch().build(store=store)
    with (
        Store.open(tmp_path / "other") as other,
        pytest.raises(BuildError, match=r"the image is in the store .* save the image"),
    ):
        Builder(base).build(store=other)


def test_a_context_of_the_builders_own(store: Store, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    stage = Builder.scratch(context=tmp_path / "one").copy("one", "/")
    builder = Builder.scratch().copy("/one", "/", from_=stage).copy("two", "/")
    assert len(builder.build(store=store, context=tmp_path / "two").layers) == 2


def test_what_a_build_adds_is_kept_by_its_name(store: Store, tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    image = Builder.scratch(context=tmp_path).copy("a", "/").build("a:1", store=store)
    store.collect()
    assert all(store.blobs.exists(layer.digest) for layer in image.layers)


def test_mistakes_are_found_at_once() -> None:
    builder = Builder.scratch()
    with pytest.raises(InvalidReference):
        Builder("Not An Image")
    with pytest.raises(ValueError, match="not a port"):
        builder.expose(0)
    with pytest.raises(ValueError, match="'80/icmp'"):
        builder.expose("80/icmp")
    with pytest.raises(ValueError, match="'90-80'"):
        builder.expose("90-80")
    with pytest.raises(ValueError, match="environment variable"):
        builder.env({"A=B": "c"})
    with pytest.raises(ValueError, match="needs a source"):
        builder.copy([], "/")
    with pytest.raises(ValueError, match="no destination"):
        builder.copy("a", "")
    with pytest.raises(ValueError, match="file mode"):
        builder.copy("a", "/", mode=0o100644)
    with pytest.raises(ValueError, match="needs a command"):
        builder.run([])
    with pytest.raises(ValueError, match="list of words"):
        builder.shell("/bin/sh -c")
    with pytest.raises(ValueError, match="no directory"):
        builder.workdir("")
