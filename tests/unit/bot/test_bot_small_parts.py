"""Markdown, health, faults, events' ids."""

from __future__ import annotations

import json

import asyncpg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from telegram.error import BadRequest, Forbidden, InvalidToken, RetryAfter, TimedOut

from botctl.bot.assistant.markdown import render
from botctl.bot.exchange.publishing import Publisher, event_of
from botctl.bot.exchange.reactions import Reactions, row_of, rows_of
from botctl.bot.faults import database_away, environmental
from botctl.bot.handling.scope import Scope
from botctl.bot.receiving.token_refusal import means_the_token
from botctl.bot.sending.journal import NotRepeatedError
from botctl.bot.vitals.health import Health, Trouble
from botctl.bus.event_types.catalogue import validate
from botctl.bus.events import Event
from botctl.bus.reading.mailbox import Entry
from botctl.errors import ProtocolError
from botctl.storage.conversations import StoredMessage
from botctl.storage.outbox import Outbox


def test_markdown_becomes_entities() -> None:
    (part,) = render("**bold** and `code`")
    assert part.text == "bold and code"
    assert [(one["type"], one["offset"], one["length"]) for one in part.entities] == [("bold", 0, 4), ("code", 9, 4)]


@settings(deadline=None)
@given(st.text(max_size=300), st.integers(50, 120))
def test_parts_are_within_the_limit_and_entities_within_their_part(markdown: str, limit: int) -> None:
    for part in render(markdown, limit):
        length = len(part.text.encode("utf-16-le")) // 2
        assert 0 < length <= limit
        assert all(one["offset"] >= 0 and one["offset"] + one["length"] <= length for one in part.entities)


def test_health_says_the_worst_first() -> None:
    health = Health()
    health.trouble(Trouble.REDIS, "redis")
    assert health.degraded
    assert not health.paused
    health.trouble(Trouble.DATABASE, "database")
    assert health.paused
    assert health.reason == "database; redis"
    health.well(Trouble.DATABASE)
    health.well(Trouble.REDIS)
    assert not health.degraded
    assert health.reason == ""


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ConnectionRefusedError(), True),
        (asyncpg.AdminShutdownError("stop"), True),
        (asyncpg.InternalClientError("cannot switch to state 11"), True),
        (asyncpg.TooManyConnectionsError("full"), True),
        (asyncpg.ReadOnlySQLTransactionError("a failover"), True),
        (asyncpg.DeadlockDetectedError("dead"), False),
        (PoolTimeoutError("all connections are in use"), False),
        (asyncpg.InvalidPasswordError("no"), True),
        (asyncpg.ForeignKeyViolationError("no such conversation"), False),
        (asyncpg.UntranslatableCharacterError("nul"), False),
        (ValueError("x"), False),
    ],
)
def test_what_means_that_the_database_is_away(error: Exception, expected: bool) -> None:
    assert database_away(error) is expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (TimedOut(), True),
        (RetryAfter(3), True),
        (BadRequest("x"), False),
        (Forbidden("x"), False),
        (FileNotFoundError(), False),
        (PoolTimeoutError("all connections are in use"), True),
    ],
)
def test_what_does_not_count_against_an_update(error: Exception, expected: bool) -> None:
    assert environmental(error) is expected


@pytest.mark.parametrize(
    ("text", "method", "expected"),
    [
        ("Unauthorized", "sendPhoto", True),
        ("Not Found", "sendMessage", True),
        ("Not Found", "sendSomethingNew", False),
        ("Not Found: method not found", "sendMessage", False),
    ],
)
def test_what_means_that_the_token_is_refused(text: str, method: str, expected: bool) -> None:
    assert means_the_token(InvalidToken(text), method) is expected


def publisher(*share: str) -> Publisher:
    return Publisher(5, Outbox(5), share, lambda: 1.0)


def message(text: str = "secret") -> StoredMessage:
    return StoredMessage(1, 2, 0, "in", "user", text, "update:1", user_id=3, telegram_message_id=4)


def test_a_replay_makes_the_same_event_ids_and_no_two_are_alike() -> None:
    def made() -> list[str]:
        scope = Scope(cause="update:1", trace_id="t", chat_id=2)
        events = [
            publisher().custom(scope, "order.placed", {}, 1),
            publisher().custom(scope, "order.placed", {}, 1),
            publisher().received(scope, message(), "message"),
            publisher().sent("update:1", "t", 0, message()),
            publisher().sent("update:1", "t", 1, message()),
            publisher().conversation(scope, "reset", 1),
            publisher().assistant_failed(scope, "timeout", None, ""),
            publisher().handler_failed(scope, ValueError(), "", dead=False),
        ]
        return [event.event_id for event in events]

    assert made() == made()
    assert len(set(made())) == 8


def test_our_own_events_are_as_the_catalogue_says() -> None:
    scope = Scope(cause="update:1", trace_id="t", chat_id=2)
    for event in (
        publisher("message.received").received(scope, message(), "message"),
        publisher("message.sent").sent("update:1", "t", 0, message()),
        publisher().conversation(scope, "started", 1),
        publisher().conversation(scope, "reset", 1),
        publisher().assistant_failed(scope, "timeout", 500, "x"),
        publisher().handler_failed(scope, ValueError(), "x", dead=True),
    ):
        validate(event_of(event), "bot:5")


def test_text_is_in_an_event_only_where_it_is_shared() -> None:
    scope = Scope(cause="update:1", trace_id="t", chat_id=2)
    assert "text" not in publisher().received(scope, message(), "message").data
    assert publisher("message.received").received(scope, message(), "message").data["text"] == "secret"


@pytest.mark.parametrize("type_", ["bot.started", "message.unknown", "No.Type", "plain"])
def test_a_handler_may_not_publish_just_anything(type_: str) -> None:
    with pytest.raises(ProtocolError):
        publisher().custom(Scope(cause="update:1", trace_id="t"), type_, {}, 1)


async def test_reactions_are_called_by_pattern_in_order() -> None:
    called: list[str] = []

    async def answer(event: Event) -> None:
        """Nobody asks."""

    reactions = Reactions(answer)

    def note(name: str) -> None:
        async def callback(event: Event) -> None:
            called.append(name)
            raise NotRepeatedError  # as a send does with `skip`; what else there is to do goes on

        reactions.add(name, callback)

    for pattern in ("order.*", "order.placed", "other.thing"):
        note(pattern)
    await reactions.react(Event(id="1", type="order.placed", occurred_at=1.0))
    assert called == ["order.*", "order.placed"]
    assert reactions.unheard(["order.*"]) == ["other.thing"]
    with pytest.raises(ValueError, match="no event type"):
        reactions.add("???", callback=reactions.react)


def test_the_row_of_an_event_has_the_trace_of_where_it_began() -> None:
    event = Event(
        id="e1", type="order.placed", source="bot:1", occurred_at=1.0, correlation_id="trace", data={"a": "\x00"}
    )
    row = row_of(event)
    assert (row.cause, row.lane, row.kind, row.trace_id) == ("event:e1", "event:bot:1", "event", "trace")
    assert "\\u0000" not in row.payload


def test_a_delivery_that_can_not_be_read_becomes_a_dead_letter_with_its_text() -> None:
    event = Event(id="x", type="a.b", occurred_at=1)
    entries = [
        Entry("1-0", event),
        Entry("2-0", None, "no object", b'["\\u0000", \xff\x00'),
        Entry("3-0", None, "the entry was trimmed before it was read"),
    ]
    readable, dead = rows_of(entries)
    assert (readable.cause, readable.dead) == ("event:x", None)
    assert (dead.kind, dead.dead, rows_of(entries)[1].cause) == ("event", "can't be read: no object", dead.cause)
    assert "\x00" not in dead.payload
    assert set(json.loads(dead.payload)) == {"raw"}
