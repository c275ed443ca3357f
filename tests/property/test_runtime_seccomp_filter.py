"""A compiled filter answers every call as the profile read rule by rule does."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from hypothesis import given
from hypothesis import strategies as st

from bpf_interpreters import Classic
from pycontainer.runtime import seccomp
from pycontainer.runtime._syscalls import X32_BIT, numbers

AUDIT = {"x86_64": 0xC000003E, "i386": 0x40000003, "aarch64": 0xC00000B7, "arm": 0x40000028}
FAMILIES = {
    "x86_64": ("x86_64", "i386", "x32"),
    "i686": ("i386",),
    "aarch64": ("aarch64", "arm"),
    "armv7l": ("arm",),
}
NATIVE = {"x86_64": "amd64", "i386": "x86", "aarch64": "arm64", "arm": "arm"}
ACTIONS = (0x80000000, 0x00000000, 0x00030000, 0x00050001, 0x00050026, 0x7FFC0000, 0x7FFF0000)
CAPABILITIES = ("CAP_KILL", "CAP_SYS_ADMIN")
TABLES = {abi: numbers(abi) for abi in ("x86_64", "i386", "x32", "aarch64", "arm")}
# Neighbours, the ends of ranges, x32's own numbers, arm's private ones, one that is nowhere.
NAMES = """
    read write open close io_setup setxattr ioctl pwritev2 execveat rseq uprobe socket clone
    pidfd_send_signal clone3 futex_waitv mseal removexattrat file_setattr rseq_slice_yield
    breakpoint set_tls get_tls restart_syscall exit time64_of_day
"""
EDGES = (0, 1, 2, 7, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 32, (1 << 32) + 1, 1 << 63, 2**64 - 1)


def decide(
    profile: seccomp.Profile,
    capabilities: Collection[str],
    machine: str,
    kernel: tuple[int, int],
    abi: str | None,
    number: int,
    arguments: Sequence[int],
) -> int:
    """What happens to a call, straight from the profile's meaning."""
    native = FAMILIES[machine][0]
    if abi is None or abi not in FAMILIES[machine] or (abi != native and abi not in profile.abis):
        return 0x80000000
    table = TABLES[abi]
    name = next((name for name, value in table.items() if value == number), None)
    conditional = None
    for rule in profile.rules:
        holds = rule.condition.holds(NATIVE[native], capabilities, kernel)
        if name not in rule.names or not holds or rule.action == profile.default:
            continue
        if not rule.comparisons:
            return rule.action
        results = [test.holds(arguments[test.argument]) for test in rule.comparisons]
        twice = len({test.argument for test in rule.comparisons}) < len(rule.comparisons)
        if conditional is None and (any(results) if twice else all(results)):
            conditional = rule.action
    if conditional is not None:
        return conditional
    if profile.default in (0x7FFF0000, 0x7FFC0000):
        return profile.default
    mentioned = [table[n] for rule in profile.rules for n in rule.names if n in table]
    youngest = max((n for n in mentioned if n < 512), default=-1)
    old = number <= youngest or (name is not None and number >= 512)
    return profile.default if old else 0x00050026


values = st.sampled_from(EDGES) | st.integers(0, 20) | st.integers(0, 2**64 - 1)
comparisons = st.builds(
    seccomp.Comparison,
    st.integers(0, 2),
    st.sampled_from(["==", "!=", "<", "<=", ">", ">="]),
    values,
) | st.builds(
    lambda argument, value, mask, fits: seccomp.Comparison(
        argument, "&", value & mask if fits else value, mask
    ),
    st.integers(0, 2),
    values,
    values,
    st.booleans(),
)
some = st.lists(st.sampled_from(CAPABILITIES), max_size=1).map(tuple)
machines = st.lists(st.sampled_from(sorted(NATIVE.values())), max_size=2).map(tuple)
kernels = st.none() | st.sampled_from([(4, 8), (6, 1)])
conditions = st.just(seccomp.Condition()) | st.builds(
    seccomp.Condition, machines, some, kernels, machines, some, kernels
)
rules = st.builds(
    seccomp.Rule,
    st.lists(st.sampled_from(NAMES.split()), min_size=1, max_size=6, unique=True).map(tuple),
    st.sampled_from(ACTIONS),
    st.lists(comparisons, max_size=3).map(tuple),
    conditions,
)
profiles = st.builds(
    seccomp.Profile,
    st.sampled_from(ACTIONS),
    st.lists(rules, max_size=12).map(tuple),
    st.lists(st.sampled_from(sorted(TABLES)), max_size=4).map(tuple),
)


@given(
    profile=profiles,
    machine=st.sampled_from(sorted(FAMILIES)),
    capabilities=st.sets(st.sampled_from(CAPABILITIES)),
    kernel=st.sampled_from([(4, 4), (4, 8), (6, 18)]),
    data=st.data(),
)
def test_filter_decides_as_the_profile(
    profile: seccomp.Profile,
    machine: str,
    capabilities: set[str],
    kernel: tuple[int, int],
    data: st.DataObject,
) -> None:
    program = Classic.load(
        seccomp.compile_profile(profile, capabilities, machine=machine, kernel=kernel)
    )
    near = {
        value + step
        for rule in profile.rules
        for test in rule.comparisons
        for value in (test.value, test.value | 1 << 32, test.value ^ test.mask)
        for step in (-1, 0, 1)
        if 0 <= value + step < 2**64
    }
    arguments = st.lists(st.sampled_from(sorted(near | set(EDGES))), min_size=6, max_size=6)
    for abi in sorted(TABLES):
        for name in data.draw(st.permutations(NAMES.split()))[:8]:
            for step in (-1, 0, 1):
                number = TABLES[abi].get(name, 600) + step
                if number < 0:
                    continue
                values = data.draw(arguments)
                seen = number | X32_BIT if abi == "x32" else number
                answer = program.run(AUDIT["x86_64" if abi == "x32" else abi], seen, values)
                known = abi if abi != "x32" or machine == "x86_64" else None
                assert answer == decide(
                    profile, capabilities, machine, kernel, known, number, values
                ), (abi, number, values)


def test_default_profile_over_all_numbers() -> None:
    profile = seccomp.default_profile()
    samples = [(0,) * 6, (17, 0, 0, 0, 0, 0), (0x10000000, 0, 0, 0, 0, 0), (40, 1, 0, 0, 0, 0)]
    for machine, abis in FAMILIES.items():
        for capabilities in ((), ("CAP_SYS_ADMIN", "CAP_SYS_CHROOT")):
            program = Classic.load(
                seccomp.compile_profile(profile, capabilities, machine=machine, kernel=(6, 18))
            )
            for abi in abis:
                for number in (*range(560), *range(0xF0000, 0xF0010)):
                    for arguments in samples if number in range(30, 300) else samples[:1]:
                        seen = number | X32_BIT if abi == "x32" else number
                        answer = program.run(AUDIT.get(abi, AUDIT["x86_64"]), seen, arguments)
                        expected = decide(
                            profile, capabilities, machine, (6, 18), abi, number, arguments
                        )
                        assert answer == expected, (machine, abi, number, arguments)
