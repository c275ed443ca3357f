"""The project's checks and tasks. ``./dev`` sets up nox and runs them."""

from __future__ import annotations

import nox

nox.needs_version = ">=2024.10.9"
nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_existing_virtualenvs = True
nox.options.error_on_external_run = True

PROJECT = nox.project.load_toml("pyproject.toml")
WHEEL = ".[server]"


def install(session: nox.Session, *groups: str, wheel: bool = False) -> None:
    """Install dependency groups of pyproject.toml and, if asked, the project's wheel."""
    if groups:
        session.install("--quiet", *nox.project.dependency_groups(PROJECT, *groups))
    if wheel:
        session.install("--quiet", WHEEL)


def pytest(session: nox.Session, *arguments: str) -> None:
    """Run pytest on the paths among the arguments, or on those that the caller of nox names."""
    if any(argument.startswith("tests/") for argument in session.posargs):
        arguments = tuple(argument for argument in arguments if argument.startswith("-"))
    session.run("pytest", *arguments, *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Style and formatting."""
    install(session, "lint")
    session.run("ruff", "check", *session.posargs)
    session.run("ruff", "format", "--check", "--diff")


@nox.session
def typing(session: nox.Session) -> None:
    """Types, strictly."""
    install(session, "typing", wheel=True)
    session.run("mypy", *session.posargs)


@nox.session
def imports(session: nox.Session) -> None:
    """The house: which room may import which."""
    install(session, "imports")
    session.run("lint-imports", *session.posargs, env={"PYTHONPATH": "src"})


@nox.session
def tests(session: nox.Session) -> None:
    """Unit, property and integration tests, on the built wheel."""
    install(session, "tests", wheel=True)
    pytest(session, "-n2", "--dist=worksteal", "tests/unit", "tests/property", "tests/integration")


@nox.session
def interop(session: nox.Session) -> None:
    """Other programs read what we write, and the other way round."""
    install(session, "tests", wheel=True)
    pytest(session, "-n2", "--dist=loadfile", "tests/interop")


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation, built with warnings as errors; the code on its pages is executed."""
    install(session, "docs", wheel=True)
    session.run("sphinx-build", "-W", "--keep-going", "-q", "-E", "docs", "docs/_build/html")
    pytest(session, "-n2", "tests/docs")


@nox.session
def demo(session: nox.Session) -> None:
    """Build, ship and run an image."""
    install(session, wheel=True)
    session.run("python", "-m", "pycontainer", "demo", *session.posargs)


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Us against other programs, side by side."""
    install(session, "bench", wheel=True)
    session.run("python", "-m", "benchmarks", *session.posargs)


@nox.session(default=False)
def soak(session: nox.Session) -> None:
    """Thousands of containers from several programs on one store: nothing wrong, nothing left."""
    install(session, "tests", wheel=True)
    session.run("python", "-m", "soak", *session.posargs, env={"PYTHONPATH": "tests"})


@nox.session(default=False)
def fuzz(session: nox.Session) -> None:
    """Parsers against inputs that coverage guides; what is worth keeping goes into the corpus."""
    install(session, "fuzz", wheel=True)
    session.run("python", "-m", "fuzz", *session.posargs, env={"PYTHONPATH": "tests"})


@nox.session(default=False)
def changelog(session: nox.Session) -> None:
    """Collect the fragments of changelog.d into CHANGELOG.md, for a release."""
    install(session, "release")
    session.run("towncrier", "build", *session.posargs)
