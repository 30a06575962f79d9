"""Attacks of a program outside the fleet that may read one log, on everybody else: the logs, bots, other programs."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable

from attack.redis.floods import MB, flood
from attack.redis.ground import NOTHING, REFUSED, Ground, Me, declare, told
from attack.redis.wire import Raw, Word, packed

_ACL = "ACL SETUSER {mal_user} "
_AS = "as a program outside: "


def _raw(ground: Ground) -> Raw:
    """A connection of the program's."""
    return ground.open_as(ground.names["mal_user"], ground.names["mal_password"])


def _each(ground: Ground, lines: Iterable[str | Iterable[Word]]) -> str:
    """The one outcome of all commands, each on a connection that is still there."""
    ends: dict[str, str] = {}
    raw = _raw(ground)
    for line in lines:
        words = ground.words(line) if isinstance(line, str) else list(line)
        try:
            ends[str(line)] = told(raw.call(*words))
        except (OSError, EOFError):
            ends[str(line)] = "thrown out"
            raw = _raw(ground)
    kinds = sorted(set(ends.values()))
    return kinds[0] if len(kinds) == 1 else str(ends)[:500]


def _several(name: str, lines: str, must: str = REFUSED, *, weak: str | tuple[str, ...] = ()) -> None:
    wanted = [line.strip() for line in lines.replace("\n", "|").split("|") if line.strip()]

    async def function(ground: Ground) -> str:
        return _each(ground, wanted)

    declare(_AS + name, must, weak=weak)(function)


_several(
    "read what it was not granted: other logs, mailboxes, out streams, dead letters, its log without a group",
    """XREADGROUP GROUP {mal_group} x STREAMS {log} >|XREADGROUP GROUP bot bot STREAMS {b_in} >
    XREAD STREAMS {bot_log} 0|XREADGROUP GROUP router router STREAMS {b_out} >
    XRANGE {bot_log} - +|XREVRANGE {bot_log} + -|XRANGE {dead} - +
    XREADGROUP GROUP {mal_group} x STREAMS {bot_log} {log} > >|XLEN {bot_log}|GET {marker}|DUMP {bot_log}""",
    weak=_ACL + "(+xrange ~{bot_log})",
)
_several(
    "find out the groups of others",
    """XINFO GROUPS {bot_log}|XINFO STREAM {bot_log} FULL|XINFO CONSUMERS {bot_log} {mal_group}|ACL LIST
    ACL GETUSER {mal_user}|CLIENT LIST|MONITOR|SLOWLOG GET|INFO|KEYS *|SCAN 0|CONFIG GET *
    OBJECT ENCODING {bot_log}|MEMORY USAGE {bot_log}
    SUBSCRIBE __keyspace@0__:{bot_log}|PSUBSCRIBE *|LATENCY LATEST|COMMAND LOG|EVAL return(1) 0""",
    weak=_ACL + "(+xinfo ~{bot_log})",
)
_several(
    "read as another program's group, by its readable name, guesses, patterns",
    """XREADGROUP GROUP crm x STREAMS {bot_log} >|XREADGROUP GROUP crm-* x STREAMS {bot_log} >
    XREADGROUP GROUP crm-00000000000000000000000000000000 x STREAMS {bot_log} 0|XREADGROUP GROUP * x STREAMS {bot_log} >
    XAUTOCLAIM {bot_log} crm x 0 0|XPENDING {bot_log} crm|XPENDING {bot_log} crm-""",
    "refused (NOGROUP)",
    weak="XGROUP CREATE {bot_log} crm 0",
)
_several(
    "change a log, its groups or their place",
    """XADD {bot_log} * e x|XDEL {bot_log} 1-1|XTRIM {bot_log} MAXLEN 0|XSETID {bot_log} 9999999999999-0|DEL {bot_log}
    XGROUP CREATE {bot_log} x 0|XGROUP SETID {bot_log} {mal_group} 0|XGROUP DESTROY {bot_log} {mal_group}
    XGROUP CREATECONSUMER {bot_log} {mal_group} x|XGROUP DELCONSUMER {bot_log} {mal_group} x|UNLINK {bot_log}
    XCLAIM {bot_log} {mal_group} x 0 1-1 LASTID 9-9|EXPIRE {bot_log} 1|RENAME {bot_log} x
    XACKDEL {bot_log} {mal_group} IDS 1 1-1|XADD {a_out} * e x|XADD {a_in} * e x|XACK {a_in} bot 1-1
    RESTORE {bot_log} 0 x|COPY {bot_log} x|FLUSHALL|MULTI""",
    weak=_ACL + "(+xdel ~{bot_log})",
)


@declare(
    _AS + "acknowledge another program's work under ten thousand names", NOTHING, weak="XGROUP CREATE {bot_log} crm 0"
)
async def guesses(ground: Ground) -> str:
    entry = await ground.redis.xadd(ground.names["bot_log"], {"e": "x"})
    raw, acknowledged = _raw(ground), 0
    if "crm" in {group["name"].decode() for group in await ground.redis.xinfo_groups(ground.names["bot_log"])}:
        await ground.redis.xreadgroup("crm", "x", {ground.names["bot_log"]: ">"})
    names = ["crm", "crm-", *(f"crm-{secrets.token_hex(16)}" for _ in range(10_000))]
    raw.send(b"".join(packed("XACK", ground.names["bot_log"], name, entry) for name in names))
    for _ in names:
        reply = raw.read()
        acknowledged += reply if isinstance(reply, int) else 0
    return NOTHING if not acknowledged else f"{acknowledged} acknowledged"


@flood(
    _AS + "make consumers without end in its group, with names of 1 MB",
    memory=1500,
    waits=8.0,
)
def consumers(me: Me, until: float) -> None:
    number = 0
    while time.monotonic() < until:
        number += 1
        try:
            raw = Raw(me.port, me.names["mal_user"], me.names["mal_password"], timeout=2)
            for step in range(50):
                name = b"%d-%d" % (number, step) + MB[:-100]
                raw.call("XREADGROUP", "GROUP", me.names["mal_group"], name, "COUNT", "1", "STREAMS",
                         me.names["bot_log"], ">")  # fmt: skip
        except (OSError, EOFError, AssertionError):
            time.sleep(0.02)


@flood(_AS + "search through all it holds, and read it again, without end", waits=8.0, memory=800)
def searches(me: Me, until: float) -> None:
    log, group = me.names["bot_log"], me.names["mal_group"]
    data = packed("XREADGROUP", "GROUP", group, "x", "COUNT", "999999", "STREAMS", log, ">")
    data += packed("XREADGROUP", "GROUP", group, "x", "COUNT", "999999", "STREAMS", log, "0")
    data += packed("XAUTOCLAIM", log, group, "y", "99999999", "0", "COUNT", "999999")
    data += packed("XPENDING", log, group, "IDLE", "99999999", "-", "+", "999999")
    while time.monotonic() < until:
        try:
            raw = Raw(me.port, me.names["mal_user"], me.names["mal_password"], timeout=2)
            while time.monotonic() < until:
                raw.send(data)
                for _ in range(4):
                    raw.read()
        except (OSError, EOFError, AssertionError):
            time.sleep(0.02)
