"""The kernel's two BPF machines in small, to run what we assemble without asking the kernel."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from attrs import frozen


@frozen
class Classic:
    """A seccomp filter: what seccomp(2) lets through its checker, and what it then answers."""

    instructions: tuple[tuple[int, int, int, int], ...]

    @classmethod
    def load(cls, program: bytes) -> Classic:
        """Take a program as the kernel does: checked, or refused with `ValueError`."""
        code = tuple(struct.iter_unpack("<HBBI", program))
        if not 0 < len(code) <= 4096:
            raise ValueError(f"{len(code)} instructions")
        for at, (operation, yes, no, value) in enumerate(code):
            following = len(code) - at - 1
            match operation:
                case 0x20 if value % 4 == 0 and value < 64:  # load a word of struct seccomp_data
                    reach = 1
                case 0x54:  # and
                    reach = 1
                case 0x06:  # return
                    reach = 0
                case 0x05:  # jump
                    reach = value + 1
                case 0x15 | 0x25 | 0x35:  # jump if equal, greater, at least
                    reach = max(yes, no) + 1
                case _:
                    raise ValueError(f"operation {operation:#x} at {at}")
            if reach > following:
                raise ValueError(f"instruction {at} leads out of the program")
        return cls(code)

    def run(self, abi: int, number: int, arguments: Sequence[int] = ()) -> int:
        """The answer to a call."""
        data = struct.pack("<IIQ6Q", number, abi, 0, *(*arguments, *[0] * 6)[:6])
        at, word = 0, 0
        while True:
            operation, yes, no, value = self.instructions[at]
            at += 1
            match operation:
                case 0x20:
                    (word,) = struct.unpack_from("<I", data, value)
                case 0x54:
                    word &= value
                case 0x06:
                    return value
                case 0x05:
                    at += value
                case 0x15:
                    at += yes if word == value else no
                case 0x25:
                    at += yes if word > value else no
                case 0x35:
                    at += yes if word >= value else no


@frozen
class DeviceFilter:
    """A device filter: what bpf(2) lets through its verifier, and what it then answers."""

    instructions: tuple[tuple[int, int, int, int], ...]

    @classmethod
    def load(cls, program: bytes) -> DeviceFilter:
        """Take a program as the kernel does; the verifier's rules that matter here."""
        code = tuple(struct.iter_unpack("<BBhi", program))
        reachable, ahead = set[int](), [0]
        while ahead:
            at = ahead.pop()
            if at in reachable:
                continue
            reachable.add(at)
            operation, _, offset, _ = code[at]
            if operation in (0x05, 0x16, 0x56):
                assert offset >= 0, "a loop"
                ahead.append(at + 1 + offset)
            if operation not in (0x05, 0x95):
                ahead.append(at + 1)
        unreachable = set(range(len(code))) - reachable
        assert not unreachable, f"unreachable: {sorted(unreachable)}"
        return cls(code)

    def permits(self, kind: str, major: int, minor: int, access: str) -> bool:
        """Whether an access passes; `kind` and `access` as device rules have them."""
        bits = sum({"m": 1, "r": 2, "w": 4}[letter] for letter in access)
        context = struct.pack("<III", bits << 16 | {"b": 1, "c": 2}[kind], major, minor)
        registers: dict[int, int] = {}
        at = 0
        while True:
            operation, places, offset, value = self.instructions[at]
            target, source = places & 15, places >> 4
            at += 1
            match operation:
                case 0x61:  # load a word of the context
                    assert source == 1
                    assert 1 not in registers, "the context is gone"
                    (registers[target],) = struct.unpack_from("<I", context, offset)
                case 0xBC:
                    registers[target] = registers[source]
                case 0xB4:
                    registers[target] = value & 0xFFFFFFFF
                case 0x54:
                    registers[target] &= value & 0xFFFFFFFF
                case 0x74:
                    registers[target] >>= value
                case 0x05:
                    at += offset
                case 0x16:
                    at += offset if registers[target] == value & 0xFFFFFFFF else 0
                case 0x56:
                    at += offset if registers[target] != value & 0xFFFFFFFF else 0
                case 0x95:
                    return bool(registers[0])
                case _:
                    raise AssertionError(f"operation {operation:#x}")
