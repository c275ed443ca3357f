"""Being at the streams of containers that run, or are to be started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

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


# --- without a log ---------------------------------------------------------------------------


@pytest.mark.parametrize("tty", [False, True])
def test_without_a_log_output_goes_to_who_is_attached(image: Image, tty: bool) -> None:
    script = "echo unheard; read go; echo after; echo wrong >&2; printf rest"
    with (
        started(image, script, stdin=True, tty=tty, log="none") as container,
        container.attach() as first,
        pc.Container.get(container.id, store=image.store).attach() as second,
    ):
        first.write(b"go\n")
        for each in (first, second):
            out, wrong = collected(each)
            if tty:
                assert out.replace(b"\r", b"").endswith(b"after\nwrong\nrest")
            else:
                assert (out.removeprefix(b"unheard\n"), wrong) == (b"after\nrest", b"wrong\n")
        with pytest.raises(errors.ContainerStateError, match="no log"):
            list(container.logs())
        with pytest.raises(errors.ContainerStateError, match="no log"):
            container.attach(logs=True)


def test_without_a_log_one_may_attach_before_each_start(image: Image) -> None:
    with pc.Container.create(
        image, ["sh", "-c", "echo all; exit 3"], log="none", store=image.store
    ) as container:
        for _ in range(2):
            with container.attach() as attachment:
                container.start()
                assert collected(attachment) == (b"all\n", b"")
    script = "echo again; sleep 0.2; exit 1"
    with (
        started(image, script, log="none", restart="on-failure:2") as container,
        container.attach() as attachment,
    ):
        container.wait(20)
        assert collected(attachment)[0].endswith(b"again\nagain\n")


def test_without_a_log_no_byte_is_lost_on_a_slow_reader(image: Image) -> None:
    script = "read go; yes 0123456789abcde | head -c 8000000; echo; echo done >&2"
    with (
        started(image, script, stdin=True, log="none") as container,
        container.attach() as slow,
        container.attach() as other,
    ):
        container.write(b"go\n")
        reading = threading.Thread(target=lambda: pieces.append(collected(other)))
        pieces: list[tuple[bytes, bytes]] = []
        reading.start()
        assert container.state == "running"
        time.sleep(0.3)
        assert container.state == "running"  # it waits for the one who has not read yet
        expected = (b"0123456789abcde\n" * 500_000 + b"\n", b"done\n")
        assert collected(slow) == expected
        reading.join()
        assert pieces == [expected]
        assert container.wait(10) == 0


def test_without_a_log_who_is_gone_or_reads_nothing_is_no_hindrance(image: Image) -> None:
    script = "read go; yes | head -c 8000000 > /dev/stdout; echo end"
    with (
        started(image, script, stdin=True, log="none") as container,
        container.attach() as attachment,
    ):
        program = f"""
import pycontainer as pc, sys, time
store = pc.Store.open({str(image.store.path)!r})
attachment = pc.Container.get({container.id!r}, store=store).attach()
print("attached", flush=True)
time.sleep(600)
"""
        other = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
        assert other.stdout is not None
        assert other.stdout.readline() == b"attached\n"
        other.kill()
        other.wait()
        other.stdout.close()
        container.write(b"go\n")
        assert collected(attachment)[0].endswith(b"y\nend\n")
        assert container.wait(10) == 0
    with started(image, "yes", log="none") as container, container.attach():
        time.sleep(0.2)
        begun = time.monotonic()
        assert container.stop(0) == 137
        assert time.monotonic() - begun < 10
    with started(image, "yes | head -c 8000000; sleep 600", log="none") as container:
        attachment = container.attach()
        time.sleep(0.2)
        attachment.close()  # who lets go lets it go on
        container.wait_ready(lambda c: all("yes" not in p.args for p in c.top()), timeout=20)


@pytest.mark.embedded("adoption is the same")
def test_without_a_log_a_next_monitor_goes_on(image: Image) -> None:
    with started(image, "read go; echo after", stdin=True, log="none", detach=True) as container:
        attachment = container.attach()
        stdin = container.attach()
        stdin.write(b"")  # opens it, so that it does not end
        monitor = container._state().monitor
        os.kill(monitor, signal.SIGKILL)
        while Path(f"/proc/{monitor}").exists():
            time.sleep(0.01)
        with Store.open(image.store.path) as again:
            found = pc.Container.get(container.id, store=again)
            stdin.write(b"go\n")
            assert collected(attachment) == (b"after\n", b"")
            attachment.close()
            stdin.close()
            assert found.wait(10) == 0
            found.delete()
