"""Attacks with what a bot may do, too much of it: each runs in a process of its own while B's events are under way.

What limits them is in `botctl.bus.caretaking.sentry`, in the router, and in the settings of the embedded server.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from attack.cases import attack
from attack.redis.ground import AREA, OTHERS_GO_ON, Me, body
from attack.redis.wire import Raw, packed

MB = b"x" * (1024 * 1024)


@dataclass(frozen=True)
class Flood:
    """How long it goes on, and what B may have to bear: seconds for an event, for a connection, megabytes in all."""

    function: Callable[[Me, float], None]
    seconds: float
    waits: float
    memory: int
    furnish: bool
    sent_off: bool
    """Whether A is kept off Redis for it."""
    settings: tuple[str, ...]
    """A smaller server, so that its limits are reached."""
    weak: tuple[str, ...]
    """What an administrator would have to set so that B suffers; without the sentry besides."""


FLOODS: dict[str, Flood] = {}


def flood(
    name: str,
    *,
    seconds: float = 4.0,
    waits: float = 5.0,
    memory: int = 500,
    furnish: bool = False,
    sent_off: bool = False,
    settings: tuple[str, ...] = (),
    weak: tuple[str, ...] = (),
    must: str = OTHERS_GO_ON,
) -> Callable[[Callable[[Me, float], None]], Callable[[Me, float], None]]:
    """Declare one. `furnish`: A's mailbox is full before."""

    def wrap(function: Callable[[Me, float], None]) -> Callable[[Me, float], None]:
        ends = f"{must}; {'it is kept off Redis for a while, ' if sent_off else ''}{waits:.0f} s at most for theirs"

        FLOODS[name] = Flood(function, seconds, waits, memory, furnish, sent_off, settings, weak)
        return attack(name, ends, area=AREA)(function)

    return wrap


def _each(me: Me, until: float, step: Callable[[Raw, int], None], connections: int = 1) -> None:
    """Step by step on some connections, made anew when they are closed or refused."""
    raws: list[Raw | None] = [None] * connections
    number = 0
    while time.monotonic() < until:
        place = number % connections
        number += 1
        try:
            raw = raws[place] or me.raw(timeout=2)
            raws[place] = raw
            step(raw, number)
        except (OSError, EOFError, AssertionError):
            if (old := raws[place]) is not None:
                with contextlib.suppress(OSError):
                    old.close()
            raws[place] = None
            time.sleep(0.01)


def _shovel(raw: Raw, data: bytes) -> None:
    """Send without ever reading an answer, and without waiting for long."""
    raw.socket.settimeout(0.3)
    raw.socket.sendall(data)


def _hold(
    me: Me, until: float, most: int, first: Callable[[Raw], None] = lambda raw: None, *, login: bool = True
) -> None:
    """As many connections as there are to be had, kept open."""
    held: list[Raw] = []
    while time.monotonic() < until:
        if len(held) >= most:
            time.sleep(0.05)
            continue
        try:
            raw = me.raw(timeout=2) if login else Raw(me.port, timeout=2)
            held.append(raw)
            first(raw)
        except (OSError, EOFError, AssertionError):
            time.sleep(0.005)


@flood("flood its own stream with 1 MB entries", sent_off=True)
def large_entries(me: Me, until: float) -> None:
    data = packed("XADD", me.names["a_out"], "*", "e", MB[:-100])
    _each(me, until, lambda raw, _: raw.send(data) or raw.read(), 4)  # type: ignore[func-returns-value]


@flood("append entries of many megabytes, of many fields each")
def giant_entries(me: Me, until: float) -> None:
    data = packed("XADD", me.names["a_out"], "*", *[MB[:-100]] * 30)
    _each(me, until, lambda raw, _: raw.send(data) or raw.read(), 2)  # type: ignore[func-returns-value]


@flood("send bulks larger than the server takes, 4 MB and more")
def too_large(me: Me, until: float) -> None:
    data = packed("XADD", me.names["a_out"], "*", "e", MB * 4)
    _each(me, until, lambda raw, _: raw.send(data) or raw.read(), 4)  # type: ignore[func-returns-value]


@flood("flood its own stream with small events, never reading the answers")
def small_events(me: Me, until: float) -> None:
    data = b"".join(packed("XADD", me.names["a_out"], "*", "e", body(f"{os.getpid()}-{n}")) for n in range(500))
    _each(me, until, lambda raw, _: _shovel(raw, data), 8)


@flood("flood its own stream with refused events")
def refused_events(me: Me, until: float) -> None:
    data = b"".join(packed("XADD", me.names["a_out"], "*", "e", "no event") for _ in range(500))
    _each(me, until, lambda raw, _: _shovel(raw, data), 8)


@flood("write without end into a stream that it keeps short (MAXLEN 1): the append-only file grows")
def endless_writes(me: Me, until: float) -> None:
    data = packed("XADD", me.names["a_out"], "MAXLEN", "1", "*", "e", MB[:-100])
    _each(me, until, lambda raw, _: raw.send(data) or raw.read(), 2)  # type: ignore[func-returns-value]


@flood("make its own stream unusable again and again")
def brick_again(me: Me, until: float) -> None:
    data = packed("XADD", me.names["a_out"], "MAXLEN", "0", "18446744073709551615-18446744073709551615", "e", "x")
    _each(me, until, lambda raw, _: raw.send(data) or raw.read())  # type: ignore[func-returns-value]


@flood("take every connection", sent_off=True, waits=3.0, settings=("CONFIG SET maxclients 300",), weak=("PING",))
def connections(me: Me, until: float) -> None:
    _hold(me, until, 3_000)


@flood(
    "take every connection without logging in",
    seconds=10.0,
    waits=6.0,
    settings=("CONFIG SET maxclients 300",),
    weak=("PING",),
)
def strangers(me: Me, until: float) -> None:
    _hold(me, until, 3_000, login=False)


@flood("hold waiting reads open", waits=2.0)
def waiting_reads(me: Me, until: float) -> None:
    wait = packed("XREADGROUP", "GROUP", "bot", "bot", "BLOCK", "0", "STREAMS", me.names["a_in"], ">")
    _hold(me, until, 20, lambda raw: raw.send(wait))


@flood("send half of large commands and wait", sent_off=True, weak=("CONFIG SET maxmemory-clients 0",))
def half_commands(me: Me, until: float) -> None:
    head = packed("XADD", me.names["a_out"], "*", "e", MB[:-100])[:-200]
    _hold(me, until, 400, lambda raw: _shovel(raw, head))


@flood(
    "ask for much and never read it",
    furnish=True,
    seconds=2.0,
    memory=300,
    waits=8.0,
    weak=("CONFIG SET client-output-buffer-limit normal_0_0_0", "CONFIG SET maxmemory-clients 0"),
)
def never_read(me: Me, until: float) -> None:
    data = packed("XREADGROUP", "GROUP", "bot", "bot", "COUNT", "999999999", "STREAMS", me.names["a_in"], "0")
    _hold(me, until, 20, lambda raw: raw.send(data * 6))


@flood("ask for all it has been sent again and again, and read it", furnish=True, waits=8.0, memory=800)
def reread(me: Me, until: float) -> None:
    data = packed("XREADGROUP", "GROUP", "bot", "bot", "COUNT", "999999999", "STREAMS", me.names["a_in"], "0")
    _each(me, until, lambda raw, _: raw.send(data) or raw.read(), 4)  # type: ignore[func-returns-value]


@flood("send commands faster than they are answered (pipelined PING, on 20 connections)", waits=3.0)
def pings(me: Me, until: float) -> None:
    data = packed("PING") * 20_000
    _each(me, until, lambda raw, _: _shovel(raw, data), 20)


@flood("acknowledge and read with thousands of ids and keys in one command", furnish=True)
def huge_commands(me: Me, until: float) -> None:
    key, count = me.names["a_in"], 50_000
    acks = packed("XACK", key, "bot", *[f"{n}-1" for n in range(count)])
    reads = packed("XREADGROUP", "GROUP", "bot", "bot", "COUNT", "1", "STREAMS", *[key] * 2_000, *["0"] * 2_000)
    _each(me, until, lambda raw, n: raw.send((acks, reads)[n % 2]) or raw.read(), 4)  # type: ignore[func-returns-value]


@flood("make consumers without end in its mailbox, with names of 1 MB", furnish=True, sent_off=True, memory=1500)
def consumers(me: Me, until: float) -> None:
    def make(raw: Raw, number: int) -> None:
        name = b"%d-%d" % (os.getpid(), number) + MB[:-100]
        raw.call("XREADGROUP", "GROUP", "bot", name, "COUNT", "1", "STREAMS", me.names["a_in"], ">")

    _each(me, until, make, 4)


@flood("make many consumers with short names", furnish=True, sent_off=True)
def short_consumers(me: Me, until: float) -> None:
    def make(raw: Raw, number: int) -> None:
        read = [packed("XREADGROUP", "GROUP", "bot", f"{number}-{n}", "COUNT", "1", "STREAMS", me.names["a_in"], ">")
                for n in range(500)]  # fmt: skip
        _shovel(raw, b"".join(read))

    _each(me, until, make, 4)


@flood("make consumers without end in a mailbox that it shares with C, with names of 1 MB", sent_off=True, memory=1500)
def consumers_of_a_group(me: Me, until: float) -> None:
    def make(raw: Raw, number: int) -> None:
        name = b"%d-%d" % (os.getpid(), number) + MB[:-100]
        raw.call("XREADGROUP", "GROUP", "bot", name, "COUNT", "1", "STREAMS", me.names["desk"], ">")

    _each(me, until, make, 4)


@flood("give its connections names of 1 MB, and have them written into the server's logs", sent_off=True, memory=1500)
def names(me: Me, until: float) -> None:
    def rename(raw: Raw) -> None:
        raw.call("HELLO", 2, "SETNAME", MB[:-100])
        raw.call("CLIENT", "SETINFO", "LIB-NAME", MB[:-100])
        raw.call("CLIENT", "SETINFO", "LIB-VER", MB[:-100])

    _hold(me, until, 400, rename)


@flood("fill the server's log of refusals with keys of 1 MB", memory=600)
def refusals(me: Me, until: float) -> None:
    _each(me, until, lambda raw, n: raw.call("XADD", b"%d" % n + MB[:-100], "*", "e", "x"), 2)


@flood("log in with wrong passwords as fast as can be")
def guesses(me: Me, until: float) -> None:
    _each(me, until, lambda raw, n: raw.call("AUTH", me.names["b_user"], str(n)), 8)
