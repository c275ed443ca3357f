"""The whole job in one program: build an image, ship it through a registry, run it, scale it out."""

from __future__ import annotations

import contextlib
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pycontainer as pc
from pycontainer.content import remove_tree

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["demo"]

_APPLICATION: Final = """\
import os, sys
name = sys.argv[1] if len(sys.argv) > 1 else "world"
print(f"{os.environ['GREETING']}, {name}, from pid {os.getpid()} on {os.uname().nodename}")
"""
_CONTAINERS: Final = 8


def demo() -> int:
    """Do the whole job, say what each step took, and return 1 if a result is wrong."""
    begun = time.perf_counter()
    steps = _Steps()
    place = Path(tempfile.mkdtemp(prefix="pycontainer-demo-"))
    try:
        _job(place, steps)
    finally:
        with steps.step("remove it all"):
            remove_tree(place)
    total = time.perf_counter() - begun
    print(f"{'all of it':<52}{total * 1000:8.0f} ms")
    for problem in steps.problems:
        print(f"WRONG: {problem}")
    return 1 if steps.problems else 0


class _Steps:
    def __init__(self) -> None:
        self.problems: list[str] = []

    @contextlib.contextmanager
    def step(self, what: str) -> Iterator[None]:
        begun = time.perf_counter()
        yield
        print(f"{what:<52}{(time.perf_counter() - begun) * 1000:8.0f} ms", flush=True)

    def expect(self, what: str, found: object, wanted: object) -> None:
        if found != wanted:
            self.problems.append(f"{what}: expected {wanted!r}, found {found!r}")


def _job(place: Path, steps: _Steps) -> None:
    source = place / "app"
    source.mkdir()
    (source / "app.py").write_text(_APPLICATION)
    with pc.Store.open(place / "here") as here, pc.Store.open(place / "there") as there:
        with steps.step("make a base image of this Python, without any network"):
            base = pc.Image.from_interpreter(tag="python:here", store=here)
        builder = (
            pc.Builder(base, context=place)
            .copy("app", "/app")
            .run(["python", "-m", "compileall", "-q", "/app"])
            .env({"GREETING": "Hello"})
            .workdir("/app")
            .entrypoint(["python", "app.py"])
        )
        with steps.step("build the application's image"):
            app = builder.build(tag="app:1", store=here)
        with steps.step("build it again: cached, and the same digest"):
            again = builder.build(tag="app:again", store=here)
        steps.expect("the digest of the second build", again.digest, app.digest)
        with pc.Registry.serve(place / "registry") as server:
            with steps.step("push it to a registry"), pc.Registry(server.host) as registry:
                registry.push(app, "team/app:1")
            with steps.step("pull it into another store"), pc.Registry(server.host) as registry:
                pulled = registry.pull("team/app:1", store=there)
        steps.expect("the digest after push and pull", pulled.digest, app.digest)
        _run(pulled, there, steps)


def _run(image: pc.Image, store: pc.Store, steps: _Steps) -> None:
    with steps.step("run the first container"):
        first = pc.run(image, ["first"], store=store)
    greeted = first.text.startswith("Hello, first, from pid 1 on ")
    steps.expect("the first container's greeting", greeted, True)
    steps.expect("its exit code", first.exit_code, 0)
    names = [f"number {i}" for i in range(_CONTAINERS)]
    at_once = steps.step(f"run {_CONTAINERS} containers of it at once")
    with at_once, ThreadPoolExecutor(_CONTAINERS) as pool:
        results = list(pool.map(lambda name: pc.run(image, [name], store=store), names))
    for name, result in zip(names, results, strict=True):
        steps.expect(f"the greeting of {name}", result.text.startswith(f"Hello, {name}, "), True)
    with steps.step("start a service, run a command in it, stop it"):
        sleeper = ["import signal, time; print('up', flush=True); signal.pause()"]
        with pc.Container.start(
            image, sleeper, entrypoint=["python", "-c"], store=store
        ) as service:
            steps.expect("its log", next(service.logs(follow=True)).data, b"up")
            inside = service.exec(["python", "-c", "print(6 * 7)"], check=True)
            steps.expect("the command's output", inside.stdout, b"42\n")
            service.kill()
            steps.expect("the exit code after SIGKILL", service.wait(10), 137)
    steps.expect("what is left", pc.Container.list(all=True, store=store), ())
