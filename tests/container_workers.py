"""Programs whose containers' processes are killed, run by the tests of `containers`.

container_workers.py ROLE OPERATION STORE STEP     kill one process at every STEP-th line of an operation

ROLE is ``host`` or one of `fault`; OPERATION ``attached``, ``detached``, ``bridge``: detached, in a
network and with a published port; that is to be run in a network namespace of its own; or ``run``: one
command alone, whose files are made beside its processes. Each death is followed by what a user would do:
open the store again, look, and remove what is found. Prints how many deaths there were.
"""

from __future__ import annotations

import contextlib
import faulthandler
import functools
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import fault
import pycontainer as pc
from pycontainer import errors
from pycontainer.containers import _home
from pycontainer.content import Store
from pycontainer.images import Image
from pycontainer.runtime import _zygote

SCRIPT = "trap 'exit 3' TERM; echo up; read line"
PATIENCE = 20.0
MOST = 20_000
PORT = 8080
Life = Callable[[Store, Image], None]
ports: list[str] = []
"""What the containers publish."""


def life(store: Store, image: Image, *, detach: bool) -> None:
    """All that one container goes through, checked."""
    with pc.Container.start(
        image,
        ["sh", "-c", SCRIPT],
        name="victim",
        store=store,
        stdin=True,
        detach=detach,
        ports=ports,
        ready=pc.ready.log("up"),
        timeout=PATIENCE,
    ) as container:
        done = container.exec(["sh", "-c", "echo hi; exit 4"], timeout=PATIENCE)
        assert (done.stdout, done.exit_code) == (b"hi\n", 4), (done.stdout, done.exit_code)
        code = container.stop(PATIENCE)
        assert code == 3, code
        assert [str(line) for line in container.logs()] == ["up"]
        container.delete()


def run_once(store: Store, image: Image) -> None:
    """All that there is to a container that runs one command."""
    done = pc.run(image, ["sh", "-c", "cat; exit 5"], input=b"hi", store=store, timeout=PATIENCE)
    assert done.exit_code == 5, done.exit_code
    assert done.stdout == b"hi", (done.stdout, done.exit_code)


def survive(store: Store, image: Image, live: Life) -> None:
    """The same where a process behind it dies; an error of ours is an answer, another one is none."""
    try:
        live(store, image)
    except errors.Error:
        pass
    except AssertionError as error:
        # Killed as it was about to become the command, by what the first process of a namespace does
        # not survive; or its end was seen by nobody.
        if error.args[0] not in ((b"", 137), 137, 139, None):
            raise


def recover(path: Path, image_id: str, names: list[str]) -> None:
    """What another program finds afterwards, and that nothing is left when it has cleaned up."""
    with Store.open(path) as store:
        for found in pc.Container.list(all=True, store=store):
            with contextlib.suppress(errors.ContainerStateError):  # its monitor may be removing it
                found.inspect() if found.state == "running" else None
            found.delete(force=True)
        await_monitors(store)
        store.collect()
        assert [p.name for p in store.directory("containers").iterdir()] == []
        assert list(store.roots("container")) == []
        assert Image.get(image_id, store=store).size > 0
        if ports:
            assert not any(network.endpoints for network in pc.Network.list(store=store))
            left = [f"{p}: {p.read_text()!r}" for p in (store.path / "networks").glob("*/*")]
            assert left == [], left
    if ports:
        assert_no_network_is_left()
    for name in names:
        groups = [at for at, below, _ in os.walk("/sys/fs/cgroup") if name in below]
        assert groups == [], groups
        assert name not in Path("/proc/self/mountinfo").read_text()
    assert not (left := running(names)), left
    names.clear()


def await_monitors(store: Store) -> None:
    """Wait for monitors, also those still to begin, whose program was killed before it wrote a record."""
    deadline = time.monotonic() + PATIENCE
    while left := os.listdir(store.directory("containers")):
        assert time.monotonic() < deadline, left
        time.sleep(0.005)


def assert_no_network_is_left() -> None:
    """No interface, no element of the table, no port of the host."""
    deadline = time.monotonic() + 5  # the kernel removes interfaces a little after their namespace
    while left := [n for _, n in socket.if_nameindex() if n.startswith(("pv-", "pc-"))]:
        assert time.monotonic() < deadline, left
        time.sleep(0.005)
    rules = subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True)
    assert str(PORT) not in rules.stdout, rules.stdout
    assert "pc-" not in rules.stdout, rules.stdout
    with socket.socket() as program:
        program.bind(("0.0.0.0", PORT))


def running(names: list[str]) -> list[str]:
    """Processes of these containers that are not about to be reaped.

    They are told by their control group; those of an ordinary user, who has none, by their pid namespace.
    """
    found = []
    own = os.readlink("/proc/self/ns/pid")
    for process in filter(str.isdigit, os.listdir("/proc")):
        try:
            group = Path(f"/proc/{process}/cgroup").read_text()
            state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
            apart = os.geteuid() != 0 and os.readlink(f"/proc/{process}/ns/pid") != own
        except OSError:  # gone, or another user's
            continue
        if state not in "ZX" and (apart or any(name in group for name in names)):
            found.append(process)
    return found


def kill_behind(role: str, path: Path, step: int, live: Life, names: list[str]) -> int:
    """Deaths of processes behind the container, while this program lives."""
    point = fault.Point()
    _zygote._BOOT = point.boot(_zygote._BOOT)
    deaths = 0
    with Store.open(path) as store:
        image = Image.get("busybox:test", store=store)
        run_once(store, image)
        for line in range(0, MOST, step):
            if role in ("zygote", "waiting"):
                process = _zygote.current()._process
                process.kill()
                process.wait()
            point.set(role, line)
            survive(store, image, live)
            died = point.clear()
            recover(path, str(image.id), names)
            deaths += died
            if not died and line > 10 * step:
                break
    point.close()
    return deaths


def kill_host(path: Path, step: int, live: Life, names: list[str]) -> int:
    """Deaths of the program itself."""
    with Store.open(path) as store:
        image_id = str(Image.get("busybox:test", store=store).id)
    deaths = 0
    for line in range(0, MOST, step):
        told, tell = os.pipe()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                tell_names(functools.partial(_write_line, tell))
                with Store.open(path) as store:
                    image = Image.get(image_id, store=store)
                    run_once(store, image)
                    fault.die_at(line)
                    live(store, image)
                    sys.settrace(None)
                status = 0
            finally:
                os._exit(status)
        os.close(tell)
        _, status = os.waitpid(pid, 0)
        with os.fdopen(told) as lines:
            names += lines.read().split()
        assert os.waitstatus_to_exitcode(status) in (0, -9), status
        recover(path, image_id, names)
        if status == 0:
            break
        deaths += 1
    return deaths


def _write_line(fd: int, text: str) -> None:
    os.write(fd, text.encode() + b"\n")


def tell_names(say: Callable[[str], object]) -> None:
    """Call a function with the id of each container that is about to be made."""
    make = secrets.token_hex

    def token_hex(nbytes: int | None = None) -> str:
        name = make(nbytes)
        say(name)
        return name

    secrets.token_hex = token_hex


def main() -> None:
    role, operation, path, step = sys.argv[1:]
    faulthandler.dump_traceback_later(250, exit=True)
    vars(_home)["_YOUNG_SECONDS"] = 0  # what is in the making here is known to be dead
    names: list[str] = []
    lives: dict[str, Life] = {"run": run_once, "attached": functools.partial(life, detach=False)}
    live = lives.get(operation, functools.partial(life, detach=True))
    ports.extend([f"{PORT}:80"] if operation == "bridge" else [])
    if role == "host":
        deaths = kill_host(Path(path), int(step), live, names)
    else:
        tell_names(names.append)
        deaths = kill_behind(role, Path(path), int(step), live, names)
    print(deaths)  # noqa: T201


if __name__ == "__main__":
    main()
