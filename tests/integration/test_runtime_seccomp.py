"""The default filter in force in a real process, and the kernel's opinion of our programs."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pycontainer.runtime import seccomp
from pycontainer.runtime._syscalls import numbers

pytestmark = pytest.mark.skipif(
    os.uname().machine not in ("x86_64", "aarch64"), reason="no numbers for this machine"
)

# Runs a list of calls under the filter and reports each one's errno.
SCRIPT = """
import ctypes, json, os, sys, threading
program, calls = sys.stdin.buffer.read().split(b"\\n", 1)
program, calls = bytes.fromhex(program.decode()), json.loads(calls)
libc = ctypes.CDLL(None, use_errno=True)
class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]
buffer = ctypes.create_string_buffer(program, len(program))
argument = Program(len(program) // 8, ctypes.addressof(buffer))
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.byref(argument), 0, 0) == 0, os.strerror(ctypes.get_errno())
libc.syscall.argtypes = [ctypes.c_long] + [ctypes.c_ulong] * 6
libc.syscall.restype = ctypes.c_long
answers = []
for number, *arguments in calls:
    ctypes.set_errno(0)
    libc.syscall(number, *(arguments + [0] * 6)[:6])
    answers.append(ctypes.get_errno())
thread = threading.Thread(target=lambda: None)
thread.start(); thread.join()
child = os.fork()
if child == 0:
    os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
print(json.dumps(answers))
"""


def errnos(program: bytes, *calls: tuple[str, int]) -> list[int]:
    table = numbers(os.uname().machine)
    asked = json.dumps([[table[name], argument] for name, argument in calls]).encode()
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", SCRIPT],
        input=program.hex().encode() + b"\n" + asked,
        capture_output=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr.decode()
    answers: list[int] = json.loads(done.stdout)
    return answers


def test_default_profile_in_force() -> None:
    program = seccomp.compile_profile(seccomp.default_profile(), ("CAP_CHOWN", "CAP_SYS_CHROOT"))
    refused = [
        ("keyctl", 0),
        ("mount", 0),
        ("bpf", 0),
        ("unshare", 0x10000000),
        ("setns", -1 % 2**64),
    ]
    refused += [("socket", 40), ("personality", 4), ("add_key", 0), ("clone", 0x10000000)]
    allowed = [("getpid", 0), ("personality", 0xFFFFFFFF), ("umask", 0o22), ("sched_yield", 0)]
    answers = errnos(program, *refused, *allowed, ("clone3", 0), ("file_setattr", 0))
    assert answers[: len(refused)] == [errno.EPERM] * len(refused)
    assert answers[len(refused) : -2] == [0] * len(allowed)
    assert answers[-2:] == [errno.ENOSYS] * 2


def test_profile_from_a_file_in_force(tmp_path: Path) -> None:
    rule = {"names": ["getppid", "sched_yield"], "action": "SCMP_ACT_ERRNO", "errnoRet": 99}
    rule["args"] = [{"index": 0, "value": 5, "op": "SCMP_CMP_GE"}]
    file = tmp_path / "profile.json"
    file.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}))
    program = seccomp.compile_profile(seccomp.load_profile(file), ())
    calls = [("getppid", 4), ("getppid", 5), ("sched_yield", 2**63), ("getpid", 5)]
    assert errnos(program, *calls) == [0, 99, 99, 0]
