"""A Docker daemon of our own, beside any other on the machine."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

from attrs import frozen

from benchmarks.peers.cgroup import Meter, meter
from benchmarks.peers.program import await_ready, background, call
from benchmarks.peers.trees import count

__all__ = ["Docker", "dockerd"]

_READY_SECONDS = 60


@frozen
class Docker:
    """The daemon and its client.

    Attributes:
        directory: Where its files are.
        meter: Counts the daemon, containerd and all that these start.
    """

    directory: Path
    meter: Meter

    @property
    def socket(self) -> str:
        return f"unix://{self.directory}/socket"

    def __call__(self, *arguments: str | Path) -> None:
        """Run the client; its build is the classic one, which works in the daemon."""
        env = {"DOCKER_BUILDKIT": "0", "DOCKER_CONFIG": str(self.directory)}
        call("docker", "--host", self.socket, *arguments, env=env)

    def processor_seconds(self) -> float:
        return self.meter.processor_seconds()

    def entries(self) -> int:
        """How many files and directories its layers hold."""
        return sum(map(count, self.directory.glob("root/overlay2/*/diff")))


@contextlib.contextmanager
def dockerd(directory: Path, *, bridge: bool = False) -> Iterator[Docker]:
    """Run a daemon whose files are all in `directory`.

    Args:
        directory: Made here.
        bridge: Whether it has its usual bridge network. It then lives in a network namespace of its own,
            so that neither bridge nor firewall rules get onto the machine.
    """
    directory.mkdir()
    log = directory / "log"
    with meter("docker") as counting:
        docker = Docker(directory, counting)
        command: list[str | Path] = ["unshare", "--net"] if bridge else []
        command += ["dockerd", "--host", docker.socket]
        command += ["--data-root", directory / "root", "--exec-root", directory / "exec"]
        command += ["--pidfile", directory / "pid", "--config-file", directory / "none.json"]
        command += ["--storage-driver", "overlay2"]
        if not bridge:
            command += ["--bridge", "none", "--iptables=false", "--ip6tables=false"]
            command += ["--ip-forward=false", "--userland-proxy=false"]
        (directory / "none.json").write_text("{}")
        with background(counting.around(command), log) as process:
            await_ready(process, lambda: _answers(docker), log, _READY_SECONDS)
            yield docker


def _answers(docker: Docker) -> bool:
    command = ["docker", "--host", docker.socket, "version"]
    null = subprocess.DEVNULL
    return subprocess.run(command, stdout=null, stderr=null, check=False).returncode == 0
