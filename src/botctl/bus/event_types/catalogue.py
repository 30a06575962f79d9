"""The closed list of botctl's own event types: name, version, log, who may publish it, and the shape of its data.

Pure. The reference page `docs/events.md` is made from this list (`python -m botctl.bus.event_types.reference`).
Types whose first name is not reserved here are a bot's own: free-form, checked by nobody but their consumers.

A version is raised when data changes incompatibly; an upcaster brings data of the version before to the next, so that
consumers see the newest only.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from botctl.bus.event_types import data as shape
from botctl.bus.event_types.upcasting import Upcaster, upcast
from botctl.bus.events import FLEET, Event, Log
from botctl.errors import ProtocolError


class Publisher(StrEnum):
    """Who may publish an event type. What a bot can't know or must not claim is published by the fleet."""

    FLEET = "fleet"
    BOT = "bot"
    ANY = "any"


class EventType(msgspec.Struct, frozen=True, kw_only=True):
    """One type of the catalogue. `upcasters[v]` brings data of version v to version v + 1.

    `reserved`: its name and data are settled, and nothing publishes it yet.
    """

    name: str
    log: Log
    publisher: Publisher
    summary: str
    data: type[msgspec.Struct]
    version: int = 1
    upcasters: Mapping[int, Upcaster] = {}
    reserved: bool = False


def _type(
    name: str, log: Log, publisher: Publisher, data: type[msgspec.Struct], summary: str, *, reserved: bool = False
) -> EventType:
    return EventType(name=name, log=log, publisher=publisher, data=data, summary=summary, reserved=reserved)


_FLEET, _BOT = Publisher.FLEET, Publisher.BOT

CATALOGUE: Mapping[str, EventType] = {
    entry.name: entry
    for entry in (
        _type("bot.started", Log.BOT, _FLEET, shape.BotStarted, "A process of a bot was started."),
        _type("bot.ready", Log.BOT, _FLEET, shape.BotReady, "A bot's first getUpdates has succeeded."),
        _type("bot.degraded", Log.BOT, _FLEET, shape.BotHealth, "A bot works, but something it needs doesn't."),
        _type("bot.recovered", Log.BOT, _FLEET, shape.BotHealth, "A degraded or paused bot is well again."),
        _type("bot.paused", Log.BOT, _FLEET, shape.BotHealth, "A bot waits for the database or the network."),
        _type("bot.failed", Log.BOT, _FLEET, shape.BotFailed, "A process of a bot ended or hung, unasked."),
        _type("bot.stopped", Log.BOT, _FLEET, shape.BotStopped, "A bot was stopped on request."),
        _type("bot.parked", Log.BOT, _FLEET, shape.BotParked, "A bot takes no updates; Telegram keeps them a day."),
        _type("bot.quarantined", Log.BOT, _FLEET, shape.BotQuarantined, "A bot is kept down until it's released."),
        _type("bot.released", Log.BOT, _FLEET, shape.BotStopped, "A bot was released from quarantine."),
        _type("message.received", Log.USER, _BOT, shape.MessageReceived, "A user's message was stored."),
        _type("message.sent", Log.USER, _BOT, shape.MessageSent, "Telegram has accepted a bot's message."),
        _type("conversation.started", Log.USER, _BOT, shape.Conversation, "The first message of a conversation came."),
        _type("conversation.reset", Log.USER, _BOT, shape.Conversation, "A user has closed a conversation."),
        _type(
            "chat.unreachable", Log.USER, _BOT, shape.ChatUnreachable, "Telegram refuses messages to a chat for good."
        ),
        _type("assistant.failed", Log.BOT, _BOT, shape.AssistantFailed, "The completion API gave no answer."),
        _type("handler.failed", Log.BOT, _BOT, shape.HandlerFailed, "A handler raised an exception."),
        _type(
            "user.shared.detected", Log.USER, _FLEET, shape.UserShared, "One user talks to several bots.", reserved=True
        ),
        _type("config.updated", Log.SYSTEM, _FLEET, shape.ConfigUpdated, "The wanted fleet has changed."),
        _type("bus.dropped", Log.SYSTEM, _FLEET, shape.BusDropped, "Events went that a reader had not read."),
        _type(
            "backup.completed",
            Log.SYSTEM,
            _FLEET,
            shape.BackupCompleted,
            "A backup was written and verified.",
            reserved=True,
        ),
        _type("threat.detected", Log.SYSTEM, _FLEET, shape.ThreatDetected, "A rule has seen an attack or abuse."),
        _type("fleet.started", Log.SYSTEM, _FLEET, shape.FleetStarted, "The daemon has started."),
        _type("fleet.stopped", Log.SYSTEM, _FLEET, shape.FleetStopped, "The daemon was asked to stop."),
        _type("fleet.paused", Log.SYSTEM, _FLEET, shape.FleetStopped, "Many bots failed; restarts are held back."),
        _type("fleet.resumed", Log.SYSTEM, _FLEET, shape.FleetStopped, "Restarts go on."),
    )
}

RESERVED_NOTE = "Reserved: its name and data are settled, and nothing publishes it yet."

RESERVED = frozenset({name.split(".")[0] for name in CATALOGUE}) | frozenset(
    (
        "api",
        "audit",
        "bus",
        "completion",
        "console",
        "control",
        "credentials",
        "daemon",
        "database",
        "group",
        "import",
        "job",
        "operation",
        "redis",
        "security",
        "supervisor",
        "system",
        "update",
    )
)
"""First names of types that are botctl's own. A type that begins so and isn't in the catalogue is refused."""

CUSTOM_LOG = Log.BOT


def lookup(name: str) -> EventType | None:
    """The catalogue's entry, or None for a bot's own type. Raises ProtocolError for a reserved name without entry."""
    entry = CATALOGUE.get(name)
    if entry is None and name.partition(".")[0] in RESERVED:
        raise ProtocolError(f"event type {name} is not in the catalogue; own types begin with another name than "
                            f"{name.partition('.')[0]!r}, for example custom.")  # fmt: skip
    return entry


def log_of(name: str) -> Log:
    """The log that keeps events of this type. Raises ProtocolError for a reserved name without entry."""
    entry = lookup(name)
    return entry.log if entry is not None else CUSTOM_LOG


def validate(event: Event, source: str | None = None) -> Event:
    """The event with its data checked and brought to the newest version. Raises ProtocolError.

    With a `source` (`fleet` or `bot:<bot_id>`) it is also checked that this source may publish the type.
    """
    entry = lookup(event.type)
    if entry is None:
        return event
    if source is not None and not _may_publish(entry, source):
        raise ProtocolError(f"{source} may not publish {event.type}; that is up to the {entry.publisher.value}")
    data = upcast(event.type, event.data, event.version, entry.version, entry.upcasters)
    try:
        msgspec.convert(data, entry.data)
    except (msgspec.ValidationError, RecursionError) as error:
        raise ProtocolError(f"data of {event.type} is not as in the catalogue: {error}") from error
    if event.version == entry.version:
        return event
    return msgspec.structs.replace(event, version=entry.version, data=data)


def _may_publish(entry: EventType, source: str) -> bool:
    if entry.publisher is Publisher.ANY:
        return True
    return (source == FLEET) is (entry.publisher is Publisher.FLEET)
