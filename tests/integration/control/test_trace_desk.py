"""Following messages and working off dead letters over a real database: what is told, opened and audited."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from botctl.bus.client import connect as connect_redis
from botctl.bus.events import Event, encode_event, event_id
from botctl.bus.reading.dead_letters import DeadLetters
from botctl.bus.topology import Topology
from botctl.cli.trace_view import trace_lines
from botctl.control.ports import BotSight, FleetSight
from botctl.control.prices import Price, Prices
from botctl.control.secrets.vault import Vault
from botctl.control.tracing import dead_letter_desk
from botctl.control.tracing.dead_letter_desk import DeadLetterDesk
from botctl.control.tracing.desk import TraceDesk
from botctl.control.tracing.room import DeskRoom
from botctl.errors import BotctlError, ExitCode, NoSuchBotError
from botctl.fleet import BotSpec
from botctl.security import master_keys
from botctl.security.vault import Cipher
from botctl.storage.completions import Completions, StoredCompletion
from botctl.storage.engine import bot_engine, connect
from botctl.storage.inbox import Inbox, NewRow
from botctl.storage.outbox import Outbox, StoredEvent
from botctl.storage.sealing import Sealing
from botctl.storage.sends import SendRow, Sends

NORA, GUS = 4501, 4502
TRACE = "863a0daaba5d89c2"
ORDERED = event_id(NORA, "update:5", 0)
UPDATE = json.dumps({"update_id": 5, "message": {"date": 1_800_000_000, "chat": {"id": 42}, "text": "a secret cake"}})


class Told:
    """Takes the audit log's place, and the waker's."""

    def __init__(self) -> None:
        self.entries: list[tuple[Any, ...]] = []
        self.woken: list[int] = []

    def note(self, *entry: Any) -> None:
        self.entries.append(entry)


class Ground:
    """Two bots that seal what they write, and the desks."""

    def __init__(self, engine: AsyncEngine, sealings: dict[int, Sealing], vault: Vault, letters: DeadLetters) -> None:
        self.told = Told()
        self.sealings = sealings
        self.sight = FleetSight(
            pid=1, state="running", started_at=0.0, generation=0,
            bots=(BotSight(name="nora", bot_id=NORA, state="running"),
                  BotSight(name="gus", bot_id=GUS, state="stopped")),
        )  # fmt: skip

        self.is_silent = False

        async def sight() -> FleetSight:
            if self.is_silent:
                raise TimeoutError
            return self.sight

        room = DeskRoom(engine, vault, lambda: {NORA: "nora", GUS: "gus"}, sight, self.told.note)
        self.traces = TraceDesk(room, Prices({"m": Price(1.0, 10.0, 0.0)}))
        self.letters = DeadLetterDesk(room, letters, self.told.woken.append)


@pytest.fixture
async def ground(database: Any, engine: AsyncEngine, valkey_admin_url: str) -> AsyncIterator[Ground]:
    vault = Vault(master_keys.new_keys())
    admin = await connect(database.admin)
    for bot_id, name in ((NORA, "nora"), (GUS, "gus")):
        await admin.execute("INSERT INTO bots (bot_id, name) VALUES ($1, $2) ON CONFLICT DO NOTHING", bot_id, name)
    await vault.provide(
        engine, [BotSpec.model_validate({"name": f"b{bot}", "token": f"{bot}:abc"}) for bot in (NORA, GUS)]
    )
    sealings = {bot: Sealing(Cipher(bot, vault.keys(bot)), seals=bot == NORA) for bot in (NORA, GUS)}
    redis = connect_redis(valkey_admin_url, blocking=False)
    yield Ground(engine, sealings, vault, DeadLetters(redis, Topology(f"t{NORA}")))
    await redis.flushdb()
    await redis.aclose()
    for table in ("attempts", "inbox", "sends", "completions", "outbox", "bot_keys"):
        await admin.execute(f"DELETE FROM {table} WHERE bot_id IN ({NORA}, {GUS})")
    await admin.close()


async def _written(database: Any, ground: Ground) -> dict[str, int]:
    """One message that needed two attempts, an answer, an event, and what the other bot made of it."""
    login = await database.add_bot(NORA)
    nora = bot_engine(login.target, NORA, lambda: (login.password,), pool_size=1)
    sealing = ground.sealings[NORA]
    inbox, sends = Inbox(NORA, sealing), Sends(NORA, sealing)
    async with nora.begin() as connection:
        ids = await inbox.add(connection, [NewRow("update:5", 5, "message", "chat:42", UPDATE, TRACE)])
    async with nora.begin() as connection:
        await inbox.begin_attempt(connection, ids["update:5"], 1)
        answer = StoredCompletion("sure", "m", 100, 20, 50, 40, 1, "stop")
        await Completions(NORA, sealing).record(connection, "update:5", 0, answer)
        await inbox.postpone(connection, ids["update:5"], "ValueError: a secret cake", 0.0, 1, attempt=1)
    async with nora.begin() as connection:
        await inbox.begin_attempt(connection, ids["update:5"], 2)
        row = SendRow("update:5", 0, "deferred", "sendMessage", 42, {"text": "sure"}, "sending", trace_id=TRACE)
        await sends.plan(connection, [row])
        event = StoredEvent(ORDERED, "cake.ordered", 1, 1.8e9, TRACE, "update:5", {"n": 1})
        await Outbox(NORA, sealing).add(connection, [event])
        await inbox.done(connection, ids["update:5"])
    async with nora.begin() as connection:
        await sends.sent(connection, "update:5", 0, {"message_id": 9}, begin_next=False)
    await nora.dispose()
    login = await database.add_bot(GUS)
    gus = bot_engine(login.target, GUS, lambda: (login.password,), pool_size=1)
    payload = encode_event(Event(id=ORDERED, type="cake.ordered", occurred_at=1.8e9, correlation_id=TRACE)).decode()
    async with gus.begin() as connection:
        rows = [NewRow(f"event:{ORDERED}", None, "event", "event:cake.ordered", payload, TRACE)]
        ids |= await Inbox(GUS, ground.sealings[GUS]).add(connection, rows)
    await gus.dispose()
    return ids


@pytest.mark.parametrize("asked", ["5", "update:5", TRACE])
async def test_a_message_is_followed_through_both_bots(ground: Ground, database: Any, asked: str) -> None:
    await _written(database, ground)
    body = await ground.traces.trace(asked, "nora" if asked == "5" else None, text=False, operator="ann")
    (root,) = body.roots
    assert (root.bot, root.state, root.attempts, root.chat_id, root.trace_id) == ("nora", "done", 2, 42, TRACE)
    assert [(one.attempt, one.outcome) for one in root.history] == [(1, "failed")]
    (completion,) = root.completions
    assert (completion.retries, completion.cached_tokens, completion.finish_reason) == (1, 40, "stop")
    assert completion.reused
    assert body.cost == pytest.approx((60 * 1.0 + 20 * 10.0) / 1e6)
    (send,) = root.sends
    assert (send.state, send.method, send.chat_id) == ("sent", "sendMessage", 42)
    (event,) = root.events
    (reaction,) = event.deliveries
    assert (reaction.bot, reaction.cause, reaction.state) == ("gus", f"event:{ORDERED}", "new")
    assert reaction.waits == "the bot is stopped"
    ground.is_silent = True
    (root,) = (await ground.traces.trace(asked, "nora" if asked == "5" else None, text=False, operator="ann")).roots
    assert "supervisor doesn't answer" in root.events[0].deliveries[0].waits
    points = [root.received_at, completion.ended_at, root.begun_at, root.ended_at, send.sent_at]
    assert points == sorted(point for point in points if point is not None)
    assert ground.told.entries == []


@pytest.mark.parametrize("asked", ["5", TRACE])
async def test_what_others_made_of_an_event_is_told_when_the_event_is_kept_no_more(
    ground: Ground, database: Any, asked: str
) -> None:
    await _written(database, ground)
    admin = await connect(database.admin)
    await admin.execute(f"DELETE FROM outbox WHERE bot_id = {NORA}")
    await admin.close()
    body = await ground.traces.trace(asked, None, text=False, operator="ann")
    assert [(root.bot, root.cause) for root in body.roots] == [("nora", "update:5"), ("gus", f"event:{ORDERED}")]
    assert any("outbox_keep" in note for note in body.notes)


async def test_replays_and_requests_are_told_with_what_they_led_to(ground: Ground, database: Any) -> None:
    await _written(database, ground)
    admin = await connect(database.admin)
    for cause in (f"event:{ORDERED}@again", f"event:{NORA}:question", f"event:{ORDERED}0"):
        await admin.execute(
            "INSERT INTO inbox (bot_id, cause, kind, lane, payload, state) VALUES ($1, $2, 'event', 'x', '{}', 'done')",
            GUS, cause,
        )  # fmt: skip
    await admin.execute(
        "INSERT INTO requests (bot_id, request_id, cause, target, type, state, error, deadline, answered_at)"
        " VALUES ($1, $2, 'update:5', 'gus', 'cake.price', 'refused', 'ValueError: secret', now(), now())",
        NORA, f"{NORA}:question",
    )  # fmt: skip
    body = await ground.traces.trace("5", "nora", text=False, operator="ann")
    await admin.execute(f"DELETE FROM requests WHERE bot_id = {NORA}")
    await admin.close()
    (root,) = body.roots
    assert [one.cause for one in root.events[0].deliveries] == [f"event:{ORDERED}", f"event:{ORDERED}@again"]
    (request,) = root.requests
    assert (request.target, request.type, request.state, request.error) == (
        "gus", "cake.price", "refused", "ValueError: <6 characters>",
    )  # fmt: skip
    assert [(one.bot, one.cause) for one in request.deliveries] == [("gus", f"event:{NORA}:question")]
    shown = "\n".join("".join(text for text, _ in line) for line in trace_lines(body, 120))
    assert "asks gus for cake.price: refused" in shown
    assert f"→ gus · event:{NORA}:question" in shown


async def test_an_event_is_followed_from_who_published_it(ground: Ground, database: Any) -> None:
    await _written(database, ground)
    body = await ground.traces.trace(f"event:{ORDERED}", None, text=False, operator="ann")
    assert body.event is not None
    assert (body.event.bot, body.event.causation_id, body.trace_id) == ("nora", "update:5", TRACE)
    assert [one.bot for one in body.event.deliveries] == ["gus"]


async def test_sealed_texts_are_shown_to_who_asks_for_them_which_is_audited(ground: Ground, database: Any) -> None:
    await _written(database, ground)
    closed = await ground.traces.trace("5", "nora", text=False, operator="ann")
    assert "secret" not in closed.model_dump_json()
    assert closed.roots[0].content.sealed
    body = await ground.traces.trace("5", "nora", text=True, operator="ann")
    assert body.roots[0].content.text == "a secret cake"
    assert body.roots[0].written_at == 1_800_000_000
    assert body.roots[0].history[0].error == "ValueError: a secret cake"
    assert [one.content.text for one in (*body.roots[0].completions, *body.roots[0].sends)] == ["sure", "sure"]
    assert ground.told.entries == [("ann", "read.text", "trace 5", "nora", {"texts": 5})]


async def test_a_chat_is_listed(ground: Ground, database: Any) -> None:
    await _written(database, ground)
    body = await ground.traces.chat("nora", 42, 10, text=True, operator="ann")
    (line,) = body.messages
    assert (line.cause, line.state, line.sends, line.tokens, line.content.text) == (
        "update:5", "done", 1, 120, "a secret cake",
    )  # fmt: skip
    assert (await ground.traces.chat("nora", 43, 10, text=False, operator="ann")).messages == []
    assert [entry[1] for entry in ground.told.entries] == ["read.text"]


async def test_what_is_unknown_is_said_with_what_to_do(ground: Ground) -> None:
    for asked, bot in (("99", "nora"), ("0" * 16, None), ("event:nothing", None), ("job:x:1", "nora"), ("op:x", None)):
        with pytest.raises(BotctlError) as told:
            await ground.traces.trace(asked, bot, text=False, operator="ann")
        assert (told.value.exit_code, bool(told.value.hint)) == (ExitCode.FAILED, True)
    with pytest.raises(NoSuchBotError):
        await ground.traces.trace("99", "nobody", text=False, operator="ann")


async def _die(database: Any, ground: Ground, bot: int, cause: str) -> int:
    login = await database.add_bot(bot)
    made = bot_engine(login.target, bot, lambda: (login.password,), pool_size=1)
    inbox = Inbox(bot, ground.sealings[bot])
    async with made.begin() as connection:
        ids = await inbox.add(connection, [NewRow(cause, 5, "message", "chat:42", UPDATE, TRACE)])
        await inbox.begin_attempt(connection, ids[cause], 1)
        await inbox.dead(connection, ids[cause], "ValueError: boom", attempt=1, traceback="File a secret cake")
    await made.dispose()
    return ids[cause]


async def test_dead_letters_are_listed_shown_retried_and_dropped(ground: Ground, database: Any) -> None:
    number, other = await _die(database, ground, NORA, "update:5"), await _die(database, ground, GUS, "update:6")
    body = await ground.letters.list(None, None, None, False, 10)
    assert {one.id for one in body.letters} == {f"nora/{number}", f"gus/{other}"}
    assert body.waiting == {"nora": 1, "gus": 1}
    assert [one.id for one in (await ground.letters.list("gus", 0.0, "update", False, 10)).letters] == [f"gus/{other}"]
    assert (await ground.letters.list(None, None, "event", False, 10)).letters == []

    closed = await ground.letters.show(f"nora/{number}", text=False, operator="ann")
    assert "secret" not in closed.model_dump_json()
    shown = await ground.letters.show(f"gus/{other}", text=False, operator="ann")
    assert "<13 characters>" in shown.payload
    assert "secret" not in shown.model_dump_json()
    assert (shown.letter.error, shown.history[0].error) == ("ValueError: <4 characters>",) * 2
    full = await ground.letters.show(str(number), text=True, operator="ann")
    assert "a secret cake" in full.payload
    assert full.history[0].traceback == "File a secret cake"
    assert ground.told.entries == [("ann", "read.text", f"dead letter {number}", "nora", {"texts": 4})]

    ground.told.entries.clear()
    done = await ground.letters.retry([f"nora/{number}", "gus/999999", "nonsense"], None, operator="ann")
    assert done.done == [f"nora/{number}"]
    assert set(done.left) == {"gus/999999", "nonsense"}
    assert ground.told.woken == [NORA]
    again = await ground.letters.retry([f"nora/{number}"], None, operator="ann")
    assert (again.done, again.left) == ([], {f"nora/{number}": f"dead letter nora/{number} is being handled again"})
    dropped = await ground.letters.drop([], "gus", operator="ann")
    assert dropped.done == [f"gus/{other}"]
    assert ground.told.entries == [
        ("ann", "dead-letter.retry", "inbox of bot nora", "nora", {"inbox_ids": [number]}),
        ("ann", "dead-letter.drop", "inbox of bot gus", "gus", {"inbox_ids": [other]}),
    ]
    assert (await ground.letters.list(None, None, None, False, 10)).letters == []
    (kept,) = (await ground.letters.list(None, None, None, True, 10)).letters
    assert (kept.id, kept.state) == (f"gus/{other}", "dropped")
    assert (await ground.letters.retry([f"gus/{other}"], None, operator="ann")).done == [f"gus/{other}"]
    with pytest.raises(BotctlError):
        await ground.letters.show(f"nora/{number}", text=False, operator="ann")


async def test_a_call_that_a_letter_died_of_is_made_again_by_a_retry(ground: Ground, database: Any) -> None:
    """What was refused before it stays so: its handler has gone on from there."""
    number = await _die(database, ground, NORA, "update:5")
    rows = {0: "sent", 1: "failed", 2: "sent", 3: "failed"}
    admin = await connect(database.admin)
    try:
        for cause in ("update:5", "update:6"):
            for n, state in rows.items():
                await admin.execute(
                    "INSERT INTO sends (bot_id, cause, n, mode, method, payload, state)"
                    " VALUES ($1, $2, $3, 'inline', 'sendMessage', '{}', $4)",
                    NORA, cause, n, state,
                )  # fmt: skip
        assert (await ground.letters.retry([str(number)], None, operator="ann")).done
        found = await admin.fetch("SELECT cause, n, state FROM sends WHERE bot_id = $1", NORA)
    finally:
        await admin.close()
    states = {(cause, n): state for cause, n, state in found}
    assert {n: states["update:5", n] for n in rows} == {**rows, 3: "planned"}
    assert {n: states["update:6", n] for n in rows} == rows


async def test_those_of_the_bus_are_among_them(
    ground: Ground, valkey_admin_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    redis = connect_redis(valkey_admin_url, blocking=False)
    topology = Topology(f"t{NORA}")
    await redis.xadd(topology.out(NORA), {"event": "x"})
    body = encode_event(Event(id="e1", type="cake.ordered", occurred_at=1.0, data={"who": "a secret cake"}))
    fields = {
        "stream": topology.out(NORA),
        "id": "1-0",
        "reason": "unknown type",
        "event": "e1",
        "type": "cake.ordered",
    }
    await redis.xadd(topology.dead_letters, {**fields, "attempts": 1, "e": body, "size": len(body)})
    (letter,) = (await ground.letters.list(None, None, "bus", False, 10)).letters
    assert (letter.bot, letter.cause, letter.error) == ("nora", "event:e1", "unknown type")
    monkeypatch.setattr(dead_letter_desk, "_PAGE", 2)
    for _ in range(5):
        await redis.xadd(topology.dead_letters, {**fields, "stream": topology.out(GUS), "attempts": 1, "size": 0})
    await redis.aclose()
    (found,) = (await ground.letters.list("nora", None, "bus", False, 1)).letters
    assert found.id == letter.id, "those of others are not counted"
    assert len((await ground.letters.list(None, None, "bus", False, 4)).letters) == 4
    assert (await ground.letters.list("nora", time.time() + 60, "bus", False, 9)).letters == []
    shown = await ground.letters.show(letter.id, text=False, operator="ann")
    assert "secret" not in shown.payload
    assert (await ground.letters.drop([letter.id], None, operator="ann")).done == [letter.id]
    assert list((await ground.letters.drop([letter.id], None, operator="ann")).left) == [letter.id]
