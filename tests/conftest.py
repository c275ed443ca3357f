"""What all tests share: a store and home of their own, markers' conditions, the check for leaks."""

from __future__ import annotations

import gc
import os
import shutil
import sys
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

from leakcheck import MARK, Machine, open_files, settled

if TYPE_CHECKING:
    from objectstore import ObjectStore
    from pycontainer.content import Store

CI = bool(os.environ.get("CI"))
PEERS = ("docker-registry", "skopeo", "umoci", "runc", "docker")

hypothesis.settings.register_profile("default", max_examples=50, deadline=None, derandomize=CI)
hypothesis.settings.register_profile("thorough", max_examples=2000, deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

_MACHINE = pytest.StashKey[Machine]()
_FILES = pytest.StashKey[Counter[str]]()
_LEAKS = pytest.StashKey[list[str]]()


# --- conditions of the markers ---------------------------------------------------------------


def _missing_right() -> str | None:
    """Return why this process may not make containers as root, or None if it may."""
    if sys.platform != "linux":
        return "containers run on Linux only"
    status = Path("/proc/self/status").read_text()
    effective = int(status.partition("CapEff:")[2].split()[0], 16)
    return None if os.geteuid() == 0 and effective >> 21 & 1 else "needs root with CAP_SYS_ADMIN"


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("root") and (reason := _missing_right()):
        pytest.skip(reason)
    for marker in item.iter_markers("interop"):
        missing = [peer for peer in marker.args or PEERS if not shutil.which(peer)]
        if missing and CI:
            pytest.fail(f"CI has no {', '.join(missing)}", pytrace=False)
        if missing:
            pytest.skip(f"not installed: {', '.join(missing)}")


# --- runtimes --------------------------------------------------------------------------------


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.definition.get_closest_marker("runtimes"):
        metafunc.fixturenames.insert(0, "runtime")
        metafunc.parametrize("runtime", ["embedded", "runc"], indirect=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    def is_out(item: pytest.Item) -> bool:
        runtime = getattr(item, "callspec", None) and item.callspec.params.get("runtime")  # type: ignore[attr-defined]
        return runtime not in (None, "embedded") and bool(item.get_closest_marker("embedded"))

    if out := [item for item in items if is_out(item)]:
        config.hook.pytest_deselected(items=out)
        items[:] = [item for item in items if not is_out(item)]


@pytest.fixture
def runtime(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What starts containers, those of other programs that the test starts as well."""
    name: str = request.param
    if name != "embedded" and not shutil.which(name):
        if CI:
            pytest.fail(f"CI has no {name}", pytrace=False)
        pytest.skip(f"not installed: {name}")
    monkeypatch.setenv("PYCONTAINER_RUNTIME", name)
    return name


# --- homes and stores ------------------------------------------------------------------------


@pytest.fixture(scope="session", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The default store of this session: never the machine's."""
    path = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYCONTAINER_HOME", str(path))
        yield path
        if content := sys.modules.get("pycontainer.content"):
            content.Store.default().close()
    if zygote := sys.modules.get("pycontainer.runtime._zygote"):
        zygote._at_exit()


@pytest.fixture(scope="session")
def object_store() -> Iterator[ObjectStore]:
    """An object store, and credentials for it in the environment."""
    from objectstore import ObjectStore

    with pytest.MonkeyPatch.context() as patch, ObjectStore() as store:
        patch.setenv("AWS_ACCESS_KEY_ID", "somebody")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "something")
        yield store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty store; what nothing holds at the test's end is collected."""
    from pycontainer.content import Store

    with Store.open(tmp_path / "store") as store:
        yield store
        store.collect()


# --- leaks -----------------------------------------------------------------------------------


def _picture_of(config: pytest.Config) -> dict[str, Any]:
    """Return the arguments that tell this session's things from others'."""
    base: Path = config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]
    return {"mark": os.environ[MARK], "base": base, "strict": CI}


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def pytest_sessionstart(session: pytest.Session) -> None:
    config = session.config
    config.stash[_LEAKS] = []
    config.stash[_FILES] = open_files()
    if not _is_worker(config):
        os.environ[MARK] = uuid.uuid4().hex
        config.stash[_MACHINE] = Machine.look(**_picture_of(config))


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    node.config.stash[_LEAKS] += getattr(node, "workeroutput", {}).get("leaks", [])


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    config = session.config
    gc.collect()
    leaks = config.stash[_LEAKS]
    if _is_worker(config) or not config.getoption("numprocesses", None):
        new = open_files() - config.stash[_FILES]
        leaks += [f"descriptor: {target} ({count} more)" for target, count in sorted(new.items())]
    if _is_worker(config):
        config.workeroutput["leaks"] = leaks  # type: ignore[attr-defined]
        return
    leaks += settled(config.stash[_MACHINE], **_picture_of(config), patience=5)
    if leaks:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        text = "Left behind on the machine:\n  " + "\n  ".join(leaks)
        report = pytest.TestReport(
            "session", ("session", None, "session"), {}, "failed", text, "teardown"
        )
        config.hook.pytest_runtest_logreport(report=report)
