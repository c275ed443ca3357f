"""Being at the streams of containers that run, or are to be started."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

import pycontainer as pc
from busybox import busybox_image
from pycontainer import errors
from pycontainer.containers import Attachment
from pycontainer.content import Store
from pycontainer.images import Image

pytestmark = [pytest.mark.root, pytest.mark.runtimes]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store.open(tmp_path_factory.mktemp("attach") / "store") as store:
        yield store


@pytest.fixture(scope="module")
def image(shared: Store, tmp_path_factory: pytest.TempPathFactory) -> Image:
    return busybox_image(shared, tmp_path_factory.mktemp("busybox"))


def started(image: Image, script: str, **options: object) -> pc.Container:
    return pc.Container.start(image, ["sh", "-c", script], store=image.store, **options)  # type: ignore[arg-type]


def collected(attachment: Attachment) -> tuple[bytes, bytes]:
    pieces = list(attachment.stream(20))
    return (
        b"".join(data for stream, data in pieces if stream == "stdout"),
        b"".join(data for stream, data in pieces if stream == "stderr"),
    )


def test_several_get_all_from_where_they_came_in(image: Image) -> None:
    script = "echo before; read go; echo after; echo wrong >&2; printf rest"
    with (
        started(image, script, stdin=True, ready=pc.ready.log("before")) as container,
        container.attach() as first,
        container.attach(logs=True) as second,
    ):
        container.write(b"go\n")
        assert collected(first) == (b"after\nrest", b"wrong\n")
        assert collected(second) == (b"before\nafter\nrest", b"wrong\n")


def test_input_comes_from_whoever_is_attached(image: Image) -> None:
    with started(image, "cat", stdin=True) as container:
        found = pc.Container.get(container.id, store=image.store)
        with found.attach() as other:
            other.write(b"from the other\n")
            container.wait_ready(pc.ready.log("from the other"))
            container.write(b"from the first\n")
            container.close_stdin()
            other.close_stdin()
            assert collected(other) == (b"from the other\nfrom the first\n", b"")
        found.close()
        with pytest.raises(errors.ContainerStateError, match="standard input"):
            other.write(b"more")


def test_a_terminal_takes_input_and_size_from_whoever_is_attached(image: Image) -> None:
    script = "read line; stty size; echo got $line"
    with started(image, script, tty=True) as container:
        found = pc.Container.get(container.id, store=image.store)
        with found.attach() as other:
            other.resize(33, 77)
            other.write(b"hello\r")
            text = collected(other)[0]
        found.close()
        assert b"33 77\r\n" in text
        assert b"got hello\r\n" in text


def test_one_may_attach_before_the_start(image: Image) -> None:
    with (
        pc.Container.create(
            image, ["sh", "-c", "read line; echo $line"], stdin=True, store=image.store
        ) as container,
        container.attach() as attachment,
    ):
        got: list[tuple[bytes, bytes]] = []
        reading = threading.Thread(target=lambda: got.append(collected(attachment)))
        reading.start()
        container.start()
        attachment.write(b"early\n")
        reading.join()
        assert got == [(b"early\n", b"")]


def test_attaching_leaves_the_container_alone(image: Image) -> None:
    with started(image, "echo up; sleep 600", ready=pc.ready.log("up")) as container:
        with container.attach() as attachment:
            with pytest.raises(errors.TimeoutExpired):
                list(attachment.stream(0.05))
            with pytest.raises(errors.ContainerStateError, match="no standard input"):
                attachment.write(b"x")
        attachment.close()
        assert container.state == "running"
    with (
        started(image, "sleep 600", log="none") as container,
        pytest.raises(errors.ContainerStateError, match="no log"),
    ):
        container.attach()
