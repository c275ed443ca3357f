"""Image configs."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pycontainer.errors import SpecError
from pycontainer.oci import (
    ContainerConfig,
    Digest,
    Healthcheck,
    History,
    ImageConfig,
    Platform,
    media_types,
)

ONE, TWO, THREE = (Digest.of(bytes([n])) for n in range(3))

DOCKER = {
    "architecture": "arm",
    "config": {
        "Hostname": "",
        "User": "app:staff",
        "ExposedPorts": {"80/tcp": {}, "53/udp": {}},
        "Env": ["PATH=/bin", "EMPTY="],
        "Cmd": ["-c", "true"],
        "Healthcheck": {"Test": ["CMD", "true"], "Interval": 1_000_000_000, "Odd": 1},
        "Image": "",
        "Volumes": {"/data": {}},
        "WorkingDir": "/srv",
        "Entrypoint": ["/bin/sh"],
        "OnBuild": None,
        "Labels": {"b": "2", "a": "1"},
        "StopSignal": "SIGQUIT",
        "Shell": ["/bin/bash", "-c"],
    },
    "container": "abc",
    "created": "2024-02-30T25:00:00.123456789Z",
    "docker_version": "20.10",
    "history": [
        {"created": "2024-01-01T00:00:00Z", "created_by": "ADD", "odd": True},
        {"created_by": "CMD", "empty_layer": True},
    ],
    "os": "linux",
    "os.version": "1",
    "os.features": ["f"],
    "rootfs": {"type": "layers", "diff_ids": [str(ONE)]},
    "variant": "v7",
}


def config(**changes: Any) -> bytes:
    return json.dumps({k: v for k, v in {**DOCKER, **changes}.items() if v is not ...}).encode()


def test_a_config_is_read() -> None:
    parsed = ImageConfig.parse(config(), media_type=media_types.DOCKER_CONFIG)
    assert parsed.platform == Platform("linux", "arm", "v7", "1", ("f",))
    assert parsed.created == "2024-02-30T25:00:00.123456789Z"
    assert parsed.diff_ids == (ONE,)
    assert parsed.extra == {"container": "abc", "docker_version": "20.10"}
    assert parsed.history == (
        History(created="2024-01-01T00:00:00Z", created_by="ADD", extra={"odd": True}),
        History(created_by="CMD", empty_layer=True),
    )
    assert parsed.config == ContainerConfig(
        user="app:staff",
        env=("PATH=/bin", "EMPTY="),
        entrypoint=("/bin/sh",),
        cmd=("-c", "true"),
        working_dir="/srv",
        labels={"a": "1", "b": "2"},
        exposed_ports=("53/udp", "80/tcp"),
        volumes=("/data",),
        stop_signal="SIGQUIT",
        shell=("/bin/bash", "-c"),
        healthcheck=Healthcheck(("CMD", "true"), interval=1_000_000_000, extra={"Odd": 1}),
        extra={"Hostname": "", "Image": ""},
    )


def test_a_config_keeps_its_bytes_and_its_type() -> None:
    parsed = ImageConfig.parse(config(), media_type=media_types.DOCKER_CONFIG)
    assert parsed.encode() == config()
    assert parsed.descriptor().media_type == media_types.DOCKER_CONFIG
    assert parsed.descriptor().digest == parsed.digest == Digest.of(config())


def test_a_changed_config_says_the_rest_as_before() -> None:
    changed = ImageConfig.parse(config()).evolve(author="me")
    document = json.loads(changed.encode())
    assert document.pop("author") == "me"
    expected = json.loads(config())
    del expected["config"]["OnBuild"]
    assert document == expected


def test_an_empty_command_differs_from_none() -> None:
    for command in (None, (), ("a",)):
        value = ContainerConfig(entrypoint=command, cmd=command, shell=command)
        assert ContainerConfig.from_json(value.to_json()) == value


def test_nothing_is_said_that_need_not_be() -> None:
    assert ContainerConfig().to_json() == {}
    assert History().to_json() == {}
    assert Healthcheck().to_json() == {}
    assert json.loads(ImageConfig(architecture="amd64").encode()) == {
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": []},
    }


def test_what_go_writes_as_null_is_empty() -> None:
    parsed = ImageConfig.parse(
        b'{"config": null, "rootfs": {"type": "layers", "diff_ids": null}, "history": null}'
    )
    assert parsed == ImageConfig()


def test_configs_of_the_first_years_have_no_type_of_their_own() -> None:
    parsed = ImageConfig.parse(config(), media_type="application/octet-stream")
    assert parsed.media_type == media_types.OCI_CONFIG


@pytest.mark.parametrize(
    ("data", "path"),
    [
        (b"{}", "rootfs"),
        (config(rootfs=...), "rootfs"),
        (config(rootfs=[]), "rootfs"),
        (config(rootfs={"type": "tree"}), "rootfs.type"),
        (config(rootfs={"diff_ids": [str(ONE), "x"]}), "rootfs.diff_ids[1]"),
        (config(rootfs={"diff_ids": [None]}), "rootfs.diff_ids[0]"),
        (config(os=1), "os"),
        (config(config=[]), "config"),
        (config(config={"Env": "A=b"}), "config.Env"),
        (config(config={"Env": ["A=b", 1]}), "config.Env[1]"),
        (config(config={"Entrypoint": "sh"}), "config.Entrypoint"),
        (config(config={"Labels": {"a": None}}), "config.Labels.a"),
        (config(config={"ExposedPorts": ["80"]}), "config.ExposedPorts"),
        (config(config={"Healthcheck": {"Retries": True}}), "config.Healthcheck.Retries"),
        (config(history={}), "history"),
        (config(history=[{"empty_layer": 1}]), "history[0].empty_layer"),
    ],
)
def test_a_bad_config_is_refused_with_the_path(data: bytes, path: str) -> None:
    with pytest.raises(SpecError) as caught:
        ImageConfig.parse(data)
    assert caught.value.path == path


def test_the_config_of_another_artifact_is_refused() -> None:
    with pytest.raises(SpecError, match=r"an artifact of type application/vnd.cncf.helm"):
        ImageConfig.parse(b"{}", media_type="application/vnd.cncf.helm.config.v1+json")


def test_chain_ids_follow_the_specification() -> None:
    """image-spec, config.md: ChainID(A|B|C) = Digest(ChainID(A|B) + " " + DiffID(C))."""
    chain = ImageConfig(diff_ids=(ONE, TWO, THREE)).chain_ids
    assert chain[0] == ONE
    assert chain[1] == Digest.of(f"{ONE} {TWO}".encode())
    assert chain[2] == Digest.of(f"{chain[1]} {THREE}".encode())
    assert ImageConfig().chain_ids == ()
