"""Attacks on keys: those of others, of the fleet, and one's own in ways that are not a bot's."""

from __future__ import annotations

from attack.redis.ground import NOTHING, Ground, declare, several, told

_ACL = "ACL SETUSER {a_user} "

several(
    "read B's mailbox: as its group and consumer, as another, its history, without acknowledging, waiting",
    """XREADGROUP GROUP bot bot STREAMS {b_in} >|XREADGROUP GROUP bot bot STREAMS {b_in} 0
    XREADGROUP GROUP bot x NOACK STREAMS {b_in} >|XREADGROUP GROUP x x STREAMS {b_in} >
    XREADGROUP GROUP bot bot BLOCK 10 STREAMS {b_in} >|XREAD STREAMS {b_in} 0|XREAD BLOCK 10 STREAMS {b_in} $""",
    weak=_ACL + "(+xreadgroup ~{b_in})",
)
several(
    "read B's mailbox together with one's own, in one command",
    """XREADGROUP GROUP bot bot STREAMS {a_in} {b_in} > >|XREADGROUP GROUP bot bot STREAMS {b_in} {a_in} 0 0
    XREADGROUP GROUP bot bot STREAMS {a_in} {a_in} {b_in} > > 0""",
    weak=_ACL + "(+xreadgroup ~{a_in} ~{b_in})",
)
several(
    "read what bots have published: out streams, B's and one's own, as the router or otherwise",
    """XREADGROUP GROUP router router STREAMS {b_out} >|XREADGROUP GROUP router router STREAMS {a_out} >
    XREADGROUP GROUP router x STREAMS {a_out} 0|XREADGROUP GROUP router router STREAMS {out0} >|XREAD STREAMS {a_out} 0
    XRANGE {a_out} - +|XREVRANGE {a_out} + -|XRANGE {b_out} - +|XLEN {b_out}|XINFO STREAM {a_out} FULL""",
    weak=_ACL + "(+xrange ~{a_out})",
)
several(
    "read the logs and the dead letters",
    """XREAD STREAMS {log} 0|XRANGE {log} - +|XREVRANGE {log} + - COUNT 1|XRANGE {dead} - +|XLEN {log}
    XREADGROUP GROUP bot bot STREAMS {log} >|XINFO STREAM {log}|XINFO GROUPS {dead}|XINFO CONSUMERS {b_in} bot""",
    weak=_ACL + "(+xrange %R~{log})",
)
several(
    "read one's own mailbox as a group that is none",
    "XREADGROUP GROUP router bot STREAMS {a_in} >",
    "refused (NOGROUP)",
)
several(
    "append to B's out stream, to B's mailbox, to one's own mailbox",
    "XADD {b_out} * e x|XADD {b_in} * e x|XADD {a_in} * e x|XADD {b_out} NOMKSTREAM * e x|XADD {a_in} 1-1 e x",
    weak=_ACL + "(+xadd %W~{a_in})",
)
several(
    "append to the logs, the dead letters, the fleet's out stream",
    "XADD {log} * e x|XADD t:events:bot * e x|XADD t:events:system * e x|XADD {dead} * e x|XADD {out0} * e x",
    weak=_ACL + "(+xadd %W~t:events:*)",
)
several(
    "acknowledge, claim or count what B has read",
    """XACK {b_in} bot 1-1|XCLAIM {b_in} bot bot 0 1-1|XAUTOCLAIM {b_in} bot bot 0 0|XPENDING {b_in} bot
    XACK {b_out} router 1-1|XPENDING {b_out} router|XINFO GROUPS {b_in}""",
    weak=_ACL + "(+xack ~{b_in})",
)
several(
    "acknowledge for the router, or search one's own mailbox through again and again (XPENDING, XAUTOCLAIM)",
    """XACK {a_out} router 1-1|XCLAIM {a_in} bot bot 0 1-1|XPENDING {a_out} router|XPENDING {a_in} bot IDLE 9 - + 9
    XAUTOCLAIM {a_in} bot bot 0 0 COUNT 99999999|XAUTOCLAIM {a_out} router bot 0 0""",
    weak=_ACL + "(+xpending ~{a_in})",
)
several(
    "delete, trim, rename, expire, copy or reset streams and groups, one's own too",
    """XDEL {a_out} 1-1|XTRIM {a_out} MAXLEN 0|XTRIM {a_in} MAXLEN 0|XSETID {a_out} 1-1|XSETID {b_in} 1-1|DEL {a_out}
    DEL {b_in}|UNLINK {b_out}|RENAME {a_out} {b_out}|RENAMENX {a_in} x|EXPIRE {a_out} 1|PERSIST {a_out}|COPY {a_out} x
    XGROUP CREATE {a_in} x 0|XGROUP DESTROY {a_in} bot|XGROUP SETID {a_in} bot 0|XGROUP CREATECONSUMER {a_in} bot x
    XGROUP DELCONSUMER {b_in} bot bot|XTRIM {b_in} MAXLEN 0|XDEL {b_in} 1-1|TOUCH {b_in}""",
    weak=_ACL + "(+xtrim ~{a_out})",
)
several(
    "read or forge the mark by which the fleet knows that its data is there",
    "GET {marker}|SET {marker} x|DEL {marker}|GETSET {marker} x|APPEND {marker} x|STRLEN {marker}",
    weak=_ACL + "(+get ~{marker})",
)
several(
    "read, acknowledge or write what a group shares that it does not belong to",
    """XREADGROUP GROUP bot bot-1 STREAMS {other} >|XREADGROUP GROUP bot bot-1 STREAMS {desk} {other} > >
    XACK {other} bot 1-1|XADD {other} * e x|XRANGE {other} - +|XPENDING {other} bot|XAUTOCLAIM {other} bot x 0 0""",
    weak=_ACL + "(+xreadgroup +xack ~{other})",
)
several(
    "claim, search through, write, trim or delete what its own group shares",
    """XAUTOCLAIM {desk} bot bot-1 0 0|XCLAIM {desk} bot bot-1 0 1-1|XPENDING {desk} bot|XADD {desk} * e x
    XDEL {desk} 1-1|XTRIM {desk} MAXLEN 0|DEL {desk}|XGROUP DESTROY {desk} bot|XGROUP SETID {desk} bot $
    XGROUP DELCONSUMER {desk} bot bot-11|XINFO CONSUMERS {desk} bot|XRANGE {desk} - +""",
    weak=_ACL + "(+xautoclaim ~{desk})",
)
several("make keys of its own", "SET x y|LPUSH x y|HSET x y z|SADD x y|PFADD x y|XADD x * e x|SETRANGE x 99999999 x")


@declare("append under a name that resembles one's own: prefixes, suffixes, patterns, NUL, other namespaces",
         weak=_ACL + "(+xadd %W~t:bus:bot:1*)")  # fmt: skip
async def look_alikes(ground: Ground) -> str:
    own = ground.names["a_out"]
    names = [
        ground.names["b_out"], ground.topology.out(11), ground.topology.out(100), "t:bus:bot:01:out", "t:bus:bot::out",
        own + ":x", own + "\0", "\0" + own, own + "\n", own + " ", own.upper(), own[:-1], own + "*", "*",
        "t:bus:bot:*:out",
        "t:bus:bot:?:out", "t:bus:bot:[1]:out", "t:bus:bot:[0-9]:out", "t:bus:bot:\\1:out", "{" + own + "}",
        "{t}:bus:bot:1:out",
        "u:bus:bot:1:out", "t2:bus:bot:1:out", "bus:bot:1:out", "", "t:bus:bot:1:out/../10", "t:bus:bot:\u0661:out",
        "t:bus:bot:1:in", "t:bus:bot:1", "t-bot-1",
    ]  # fmt: skip
    return ground.each([("XADD", name, "*", "e", "x") for name in names])


@declare("read under a name that resembles one's own", weak=_ACL + "(+xreadgroup ~t:bus:bot:1*)")
async def look_alikes_read(ground: Ground) -> str:
    own = ground.names["a_in"]
    names = [
        ground.names["b_in"],
        own + "\0",
        own[:-1] + "*",
        "t:bus:bot:?:in",
        "u:bus:bot:1:in",
        own + "\r\n",
        "*",
        "",
    ]
    return ground.each([("XREADGROUP", "GROUP", "bot", "bot", "STREAMS", name, ">") for name in names])


@declare("slip a second command into the name of a key (line ends within an argument)", NOTHING)
async def smuggle(ground: Ground) -> str:
    entries = await ground.redis.xlen(ground.names["b_out"])
    ground.outcome(["XADD", ground.names["a_out"], "*", "e", b"x\r\n*5\r\n$4\r\nXADD\r\n"])
    ground.me.send(b"XADD " + ground.names["b_out"].encode() + b" * e x\r\n")
    ended = told(ground.me.read())
    grown = await ground.redis.xlen(ground.names["b_out"]) - entries
    return NOTHING if not grown and ended == "refused (NOPERM)" else f"{grown} entries; {ended}"
