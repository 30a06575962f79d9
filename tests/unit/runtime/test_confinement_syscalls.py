"""What the filter of system calls says to each call, on both machines: read as the kernel would read it."""

from __future__ import annotations

import errno
import struct

import pytest

from botctl.runtime.confinement import syscalls

ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
COLUMN = {"x86_64": 0, "aarch64": 1}
NEWUSER, NEWNET, VM, SIGCHLD = 0x10000000, 0x40000000, 0x100, 17


def verdict(machine: str, number: int, *arguments: int, **left_alone: bool) -> int | str:
    """`allowed`, or the error that the caller gets."""
    data = struct.pack("<iIQ6Q", number, ARCH[machine], 0, *arguments, *[0] * (6 - len(arguments)))
    code = list(struct.iter_unpack("<HBBI", syscalls.program(machine, **left_alone)))
    at = held = 0
    while True:
        kind, true, false, value = code[at]
        at += 1
        match kind:
            case 0x20:
                (held,) = struct.unpack_from("<I", data, value)
            case 0x15:
                at += true if held == value else false
            case 0x35:
                at += true if held >= value else false
            case 0x45:
                at += true if held & value else false
            case 0x06:
                return "allowed" if value == 0x7FFF0000 else value - 0x00050000
            case _:
                pytest.fail(f"{kind:#x} is none of ours")


@pytest.mark.parametrize("machine", COLUMN)
def test_what_no_bot_has_a_use_for_is_refused(machine: str) -> None:
    for name, numbers in syscalls.REFUSED.items():
        if numbers[COLUMN[machine]] >= 0:
            assert verdict(machine, numbers[COLUMN[machine]]) == errno.EPERM, name


@pytest.mark.parametrize("machine", COLUMN)
def test_no_number_stands_twice(machine: str) -> None:
    column = COLUMN[machine]
    tables = (syscalls.REFUSED, syscalls.ABSENT, syscalls.WITHOUT, syscalls.SOCKETS, syscalls.OWN_ONLY)
    found = [numbers[column] for table in tables for numbers in table.values() if numbers[column] >= 0]
    found += [syscalls.LISTEN[column], syscalls.WATCH[column]]
    assert len(found) == len(set(found))


@pytest.mark.parametrize("machine", COLUMN)
def test_threads_and_forks_pass_and_namespaces_do_not(machine: str) -> None:
    column = COLUMN[machine]
    clone, unshare = (syscalls.WITHOUT[name][column] for name in ("clone", "unshare"))
    for number in (clone, unshare):
        assert verdict(machine, number, VM | SIGCHLD) == "allowed"
        for flag in (NEWUSER, NEWNET | SIGCHLD, VM | NEWUSER):
            assert verdict(machine, number, flag) == errno.EPERM
            assert verdict(machine, number, 1 << 40 | flag) == errno.EPERM, "the upper half doesn't hide it"
    assert verdict(machine, unshare, 0x80) == errno.EPERM
    assert verdict(machine, 435) == errno.ENOSYS


@pytest.mark.parametrize("call", syscalls.SOCKETS)
@pytest.mark.parametrize("machine", COLUMN)
def test_only_sockets_of_known_kinds_are_made(machine: str, call: str) -> None:
    number = syscalls.SOCKETS[call][COLUMN[machine]]
    for family in range(64):
        expected = "allowed" if family in (1, 2, 10, 16) else errno.EAFNOSUPPORT
        assert verdict(machine, number, family, 1, 0) == expected
    for protocol in (2, 4, 11, 15, 16, 262):
        assert verdict(machine, number, 16, 2, protocol) == errno.EPROTONOSUPPORT, "all of netlink but routes"
    for protocol in (0, 1, 6, 17, 58):
        assert verdict(machine, number, 2, 1, protocol) == "allowed"
    for protocol in syscalls.PROTOCOLS:
        assert verdict(machine, number, 2, 1, protocol) == errno.EPROTONOSUPPORT


@pytest.mark.parametrize("machine", COLUMN)
def test_listening_and_watching_are_left_alone_where_told(machine: str) -> None:
    listen, watch = syscalls.LISTEN[COLUMN[machine]], syscalls.WATCH[COLUMN[machine]]
    assert [verdict(machine, one) for one in (listen, watch)] == [errno.EPERM, errno.EPERM]
    assert [verdict(machine, one, listen=True) for one in (listen, watch)] == ["allowed", errno.EPERM]
    assert [verdict(machine, one, watch=True) for one in (listen, watch)] == [errno.EPERM, "allowed"]


@pytest.mark.parametrize("machine", COLUMN)
def test_limits_and_priority_are_ones_own_to_change(machine: str) -> None:
    column = COLUMN[machine]
    assert verdict(machine, syscalls.OWN_ONLY["prlimit64"][column], 0) == "allowed"
    assert verdict(machine, syscalls.OWN_ONLY["prlimit64"][column], 7) == errno.EPERM
    priority = syscalls.OWN_ONLY["setpriority"][column]
    assert verdict(machine, priority, 0, 0) == "allowed"
    assert verdict(machine, priority, 1, 0) == errno.EPERM, "a group is more than oneself"


def test_another_machine_and_the_other_abi_of_this_one_are_refused() -> None:
    assert verdict("x86_64", 0x40000000) == errno.EPERM
    ARCH["x86_64"], kept = ARCH["aarch64"], ARCH["x86_64"]
    try:
        assert verdict("x86_64", 0) == errno.EPERM
    finally:
        ARCH["x86_64"] = kept
