"""Where the processor's time goes while something runs, by ``perf``: what is left to gain."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

__all__ = ["parse_shares", "shares"]

_HERTZ = "499"
_ATTACH_SECONDS = 0.5
_LINE = re.compile(r"^\s*(\d+\.\d+)%\s+(\S+)")
_NAMES = {
    "kernel": "the kernel",
    "libcrypto": "sha256 (OpenSSL)",
    "igzip": "gzip (isal)",
    "isal": "gzip (isal)",
    "libz": "checksums (zlib)",
    "zlib": "checksums (zlib)",
    "zstd": "zstd",
    "backend_c": "zstd",
    "python": "the interpreter",
    "libc.": "the C library",
    "libc-": "the C library",
}


def shares(call: Callable[[], object]) -> dict[str, float]:
    """Run something, and say what share of this process's time was spent where; empty without perf."""
    if shutil.which("perf") is None:
        return {}
    with tempfile.TemporaryDirectory(prefix="benchmark-") as directory:
        data = Path(directory) / "perf.data"
        record: list[str | Path] = ["perf", "record", "--quiet", "-F", _HERTZ, "-o", data]
        record += ["-p", str(os.getpid())]
        recorder = subprocess.Popen(record, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            time.sleep(_ATTACH_SECONDS)
            call()
        finally:
            recorder.send_signal(signal.SIGINT)
            recorder.wait()
        report: list[str | Path] = ["perf", "report", "--stdio", "--sort", "dso", "-i", data]
        done = subprocess.run(report, capture_output=True, text=True, check=False)
    return parse_shares(done.stdout)


def parse_shares(report: str) -> dict[str, float]:
    """Read perf's report by shared object: the share of each, the largest first."""
    found: defaultdict[str, float] = defaultdict(float)
    for line in report.splitlines():
        if match := _LINE.match(line):
            found[_name(match[2])] += float(match[1]) / 100
    ordered = sorted(found.items(), key=lambda each: -each[1])
    return {name: round(share, 4) for name, share in ordered}


def _name(dso: str) -> str:
    return next((name for part, name in _NAMES.items() if part in dso), "other")
