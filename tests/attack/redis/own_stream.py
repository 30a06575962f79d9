"""Attacks with what a bot may do, on its own stream: forged and malformed events, trimming, impossible ids."""

from __future__ import annotations

import json
import secrets
import time
from typing import Any

from attack.redis.ground import MARK, A, B, Ground, body, declare, probe
from botctl.bot.exchange.reactions import row_of
from botctl.bus.events import Event, Log, decode_event, event_id
from botctl.bus.reading.dead_letters import DeadLetters
from botctl.bus.reading.reader import read_log

_BRICK = "18446744073709551615-18446744073709551615"
_DEAD = "refused, a dead letter each"


async def _logged(ground: Ground) -> list[tuple[str, str]]:
    return [(one.source, one.id) async for _, one in read_log(ground.redis, ground.topology, Log.BOT)]


async def _buried(ground: Ground, entries: list[tuple[Any, ...]]) -> str:
    """How all of them end, each added as it is; a good event comes after them."""
    await ground.redis.delete(ground.names["dead"])
    for fields in entries:
        reply = ground.me.call("XADD", ground.names["a_out"], "*", *fields)
        assert isinstance(reply, bytes), reply
    ground.me.call("XADD", ground.names["a_out"], "*", "e", body("good"))
    await ground.until(lambda: ground.router.stats.routed)
    letters = await DeadLetters(ground.redis, ground.topology).list(1000)
    logged = await _logged(ground)
    if len(letters) == len(entries) and logged == [("bot:1", "good")] and ground.router.stats.healthy:
        return _DEAD
    return f"{len(letters)} dead letters of {len(entries)}; logged {logged}"


def _event(**changes: Any) -> bytes:
    event = {"id": "x", "type": "custom.tick", "version": 1, "occurred_at": time.time(), "data": {}} | changes
    return json.dumps({key: value for key, value in event.items() if value is not ...}).encode()


@declare("publish in B's name (forged source)", "stamped with its own name")
async def forged_source(ground: Ground) -> str:
    for source in ("bot:10", "fleet", "", "bot:1"):
        ground.me.call("XADD", ground.names["a_out"], "*", "e", body(source.replace(":", "") or "none", source=source))
    await ground.until(lambda: ground.router.stats.routed == 4)
    return "stamped with its own name" if {source for source, _ in await _logged(ground)} == {"bot:1"} else "forged"


@declare(
    "keep B's event out by publishing its id first, and replay it afterwards",
    "logs keep both, each with its source",
)
async def forged_id(ground: Ground) -> str:
    ground.me.call("XADD", ground.names["a_out"], "*", "e", body("same", "custom.probe"))
    await ground.until(lambda: ground.router.stats.routed == 1)
    _, outbox = ground.relay(B)
    outbox.put(probe("same"))
    await ground.until(lambda: ground.router.stats.routed == 2)
    ground.me.call("XADD", ground.names["a_out"], "*", "e", body("same", "custom.probe", source="bot:10"))
    await ground.until(lambda: ground.router.stats.duplicates == 1)
    found = sorted(await _logged(ground))
    return "logs keep both, each with its source" if found == [("bot:1", "same"), ("bot:10", "same")] else str(found)


@declare(
    "publish under the ids of B's next events, so that subscribers take B's own for repeats",
    "refused, a dead letter each; logs, mailboxes and inboxes have B's own only",
)
async def coming_ids(ground: Ground) -> str:
    coming = [event_id(B, f"update:{number}", 0) for number in range(6)]
    for one in coming[:3]:
        ground.me.call("XADD", ground.names["a_out"], "*", "e", body(one, "custom.probe"))
    for one in coming[3:]:
        ground.me.call("XADD", ground.names["a_out"], "*", "e", _direct(id=one, to="b", deadline=time.time() + 60))
    await ground.until(lambda: ground.router.stats.rejected + ground.router.stats.delivered == 6)
    _, outbox = ground.relay(B)
    for one in coming:
        outbox.put(probe(one))
    await ground.until(lambda: not outbox.rows)
    await ground.until(lambda: ground.router.stats.routed >= 6)
    entries = await ground.redis.xrange(ground.names["b_in"])
    events = [decode_event(fields[b"e"]) for _, fields in entries if fields[b"e"] != MARK]
    first = {row_of(event).cause: event.source for event in reversed(events)}
    logged = sorted(await _logged(ground))
    if first == {f"event:{one}": "bot:10" for one in coming} and logged == sorted(("bot:10", one) for one in coming):
        return _DEAD
    return f"inboxes have {first}, logs {logged}"


@declare("publish what only the fleet may, or types that are none", _DEAD)
async def fleets_types(ground: Ground) -> str:
    types = ["threat.detected", "bot.failed", "bot.started", "fleet.stopped", "backup.completed", "config.updated"]
    types += ["", "x", "X.y", "custom", "custom.", "bot.\u0000", "custom.a\n", "a" * 200 + ".b", "*", "custom.*"]
    return await _buried(ground, [("e", _event(type=one)) for one in types])


@declare("publish malformed events: no JSON, wrong envelope, too deep, too large, impossible numbers and times", _DEAD)
async def malformed(ground: Ground) -> str:
    deep = b'{"id":"x","type":"custom.tick","occurred_at":1,"data":{"a":' + b"[" * 30_000 + b"]" * 30_000 + b"}}"
    bad: list[bytes] = [
        b"", b"\0", b"\xff\xfe", b"[]", b"null", b"{", b'"x"', b"{}", b"9" * 60_000, deep, b"[" * 60_000,
        b'{"id":"x","type":"custom.tick","occurred_at":1e999}', b'{"id":"x","type":"custom.tick","occurred_at":NaN}',
        _event(id=""), _event(id="x" * 101), _event(id=5), _event(id=None), _event(id=...), _event(type=...),
        _event(occurred_at=-1), _event(occurred_at=1e12), _event(occurred_at="now"), _event(occurred_at=...),
        _event(version=0), _event(version=10**9), _event(version="1"), _event(version=10**30), _event(data=[]),
        _event(data=None), _event(data="x"), _event(data={"x": "y" * 70_000}), _event(source="x" * 300),
        _event(correlation_id="x" * 300), _event(data={"a": "\ud800"})[:-3], b" " * 70_000 + _event(),
    ]  # fmt: skip
    return await _buried(ground, [("e", one) for one in bad])


@declare("publish entries that are no event: other fields, many fields, several events in one", _DEAD)
async def other_fields(ground: Ground) -> str:
    good = body("x")
    many = [word for n in range(5_000) for word in (f"f{n}", "x")]
    return await _buried(
        ground,
        [("x", good), ("E", good), ("e\0", good), ("", good), ("e", good, "e", good), ("e", good, "x", "y"),
         tuple(many),
         ("e", "x" * 1_000_000, "f", "y" * 1_000_000), ("s", "bot:10", "e", good)],
    )  # fmt: skip


@declare("publish events of impossible dates within what can be: 1970, the year 5000", "logged in its own name")
async def dates(ground: Ground) -> str:
    for when in (0.0, 1.0, 1e11, time.time() + 1e6):
        ground.me.call("XADD", ground.names["a_out"], "*", "e", body(f"at {when}", occurred_at=when))
    await ground.until(lambda: ground.router.stats.routed == 4)
    return "logged in its own name" if {source for source, _ in await _logged(ground)} == {"bot:1"} else "otherwise"


def tick(event_id: str) -> Event:
    """An event of A's own outbox."""
    return Event(id=event_id, type="custom.tick", occurred_at=time.time())


_LOST = "its own are lost, found out within 5 s, and relayed again"


async def _told_of_loss(ground: Ground) -> str:
    await ground.until(lambda: ground.lost, 5)
    ((bot, seconds), *_) = ground.lost
    what = [one for one in ground.rejected if one.bot_id == A]
    return _LOST if bot == A and seconds >= 5 and what else "not told"


@declare("cut its own stream as it appends (XADD with MAXLEN 0, MAXLEN 1, MINID)", _LOST)
async def cut(ground: Ground) -> str:
    out = ground.names["a_out"]
    ground.me.call("XADD", out, "*", "e", body("first"))
    await ground.until(lambda: ground.router.stats.routed == 1)
    await ground.until(lambda: ground.router.janitor.outs.losses.knows(A), 3)
    last: bytes = b""
    for n in range(300):
        options = (("MAXLEN", "0"), ("MAXLEN", "1"), ("MINID", "99999999999999-0"), ("MAXLEN", "~", "0"))[n % 4]
        reply = ground.me.call("XADD", out, *options, "*", "e", body(str(n)))
        last = last or reply
    assert isinstance(last, bytes), last
    return await _told_of_loss(ground)


@declare("make its own stream unusable by the greatest id", "replaced within 5 s; its events flow again")
async def brick(ground: Ground) -> str:
    ground.me.call("XADD", ground.names["a_out"], _BRICK, "e", body("last"))
    return await _replaced(ground)


@declare("make its own stream unusable and leave it empty (MAXLEN 0 with the greatest id)",
         "replaced within 5 s; its events flow again, and what was cut is relayed again")  # fmt: skip
async def brick_empty(ground: Ground) -> str:
    ground.me.call("XADD", ground.names["a_out"], "MAXLEN", "0", _BRICK, "e", body("last"))
    ended = await _replaced(ground)
    await ground.until(lambda: ground.lost, 5)
    return ended


async def _replaced(ground: Ground) -> str:
    """A's own relay, which knows nothing of it, brings the next event through; B's is there meanwhile."""
    relay, outbox = ground.relay(A)
    outbox.put(tick("after"))
    await ground.until(lambda: ground.router.stats.replaced_streams == 1, 5)
    await ground.until(lambda: not outbox.rows and relay.healthy, 10)
    await ground.until(lambda: ground.router.stats.routed >= 1, 10)
    told = [one for one in ground.rejected if one.bot_id == A]
    return "replaced within 5 s" if relay.healthy and told else f"{relay.reason}, {told}"


@declare("the greatest id that is not found out, with the greatest sequence, and one in the past", "its events flow on")
async def nearly(ground: Ground) -> str:
    out, ahead = ground.names["a_out"], int(time.time() * 1000) + 86_390_000
    ground.me.call("XADD", out, f"{ahead}-18446744073709551615", "e", body("ahead"))
    ground.me.call("XADD", out, "1-1", "e", body("past"))
    ground.me.call("XADD", out, "NOMKSTREAM", "*", "e", body("after"))
    await ground.until(lambda: ground.router.stats.routed == 2)
    return "its events flow on" if ("bot:1", "after") in await _logged(ground) else "stuck"


@declare(
    "announce more than comes: XADD of 2 GB, negative and huge counts, half a command",
    "thrown out, or waited for alone",
)
async def protocol(ground: Ground) -> str:
    for data in (
        b"*3\r\n$4\r\nXADD\r\n$2147483648\r\n", b"*2147483648\r\n", b"*-5\r\n$-1\r\n", b"*1\r\n$-5\r\n",
        b"*1\r\n:4\r\n", b"*9999999999999999999\r\n", b"*1\r\n$1048577\r\n", b"\xff" * 70_000 + b"\r\n", b"x" * 100_000,
    ):  # fmt: skip
        raw = ground.open()
        raw.send(data)
    half = ground.open()
    half.send(b"*3\r\n$4\r\nXADD\r\n$14\r\nt:bus")
    _, outbox = ground.relay(B)
    outbox.put(probe("through"))
    await ground.until(lambda: ground.router.stats.routed == 1, 5)
    return "thrown out, or waited for alone"


def _direct(**changes: Any) -> bytes:
    return _event(**({"id": secrets.token_hex(4), "type": "price.quote"} | changes))


@declare(
    "ask a bot that does not let it in, that there is not, in another's name, without an end, a type of botctl's own",
    "refused, B's mailbox stays as it was",
)
async def unwelcome_requests(ground: Ground) -> str:
    before = await ground.redis.xlen(ground.names["b_in"])
    soon = time.time() + 5
    entries = [
        _direct(to="b", type="secret.tell", deadline=soon), _direct(to="c", deadline=soon),
        _direct(to="nobody", deadline=soon), _direct(to="b"), _direct(to="b", deadline=time.time() + 1e6),
        _direct(to="b", deadline=soon, error="x"), _direct(to="b", deadline=1), _direct(to="bot:0", deadline=soon),
        _direct(to="b", type="message.sent", deadline=soon), _direct(to="b", deadline="soon"),
    ]  # fmt: skip
    for entry in entries:
        ground.me.call("XADD", ground.names["a_out"], "*", "e", entry)
    stats = ground.router.stats
    await ground.until(lambda: stats.refused_requests + stats.expired + stats.rejected == len(entries))
    grown = await ground.redis.xlen(ground.names["b_in"]) - before
    return "refused, B's mailbox stays as it was" if not grown and not stats.requests else f"{grown} entries"


@declare("forge a reply to a request of B's", "dropped on the way: it answers no such requests")
async def forged_reply(ground: Ground) -> str:
    """A new router can't know whom B has asked; but it knows who answers what. B's table decides on the rest."""
    before = await ground.redis.xlen(ground.names["b_in"])
    for name in ("c", "b", "a"):
        ground.me.call("XADD", ground.names["a_out"], "*", "e", _direct(
            to="b", reply_to="r", source="bot:11", source_name=name, data={"price": 0}))  # fmt: skip
    stats = ground.router.stats
    await ground.until(lambda: stats.expired + stats.replies == 3)
    grown = await ground.redis.xlen(ground.names["b_in"]) - before
    return f"{grown} entries" if grown or stats.replies else "dropped on the way: it answers no such requests"


@declare(
    "mark an event of its own as a replay or a retry, so that others work it off twice", "others know it by its id"
)
async def forged_replay(ground: Ground) -> str:
    before = await ground.redis.xlen(ground.names["b_in"])
    entry = _event(id="twice", type="custom.probe", replay="r1")
    for more in ((), ("again", "1"), ("again", "1")):
        ground.me.call("XADD", ground.names["a_out"], "*", "e", entry, *more)
    await ground.until(lambda: ground.router.stats.delivered == 3)
    found = await ground.redis.xrevrange(ground.names["b_in"], count=3)
    assert await ground.redis.xlen(ground.names["b_in"]) - before == 3
    causes = {decode_event(fields[b"e"]).cause for _, fields in found}
    return "others know it by its id" if causes == {"event:twice"} else f"{causes}"
