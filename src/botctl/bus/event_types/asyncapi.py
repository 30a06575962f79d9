"""Writes the AsyncAPI 3.0 document of all events: `python -m botctl.bus.event_types.asyncapi docs/asyncapi.yaml`. Pure.

Made from the catalogue, as docs/events.md is; a test keeps both true.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec
import yaml

from botctl.bus.event_types.catalogue import CATALOGUE, CUSTOM_LOG, RESERVED, RESERVED_NOTE, EventType, Publisher
from botctl.bus.events import MAX_EVENT_BYTES, TYPE_FORMAT, Event, Log
from botctl.bus.topology import FIELD

_SCHEMAS = "#/components/schemas/"
_CUSTOM = "custom"
_NAMESPACE = {"description": "BOTCTL_NAMESPACE of the installation.", "default": "botctl"}
_WHO = {Publisher.FLEET: "the fleet", Publisher.BOT: "bots", Publisher.ANY: "bots and the fleet"}


def document() -> dict[str, Any]:
    """The document, as JSON has it. The application it describes is botctl: what it sends, others receive."""
    messages = {entry.name: _message(entry) for entry in CATALOGUE.values()} | {_CUSTOM: _custom()}
    types, components = msgspec.json.schema_components(
        [Event, *(entry.data for entry in CATALOGUE.values())], ref_template=_SCHEMAS + "{name}"
    )
    assert len(types) == 1 + len(CATALOGUE)
    every = [*CATALOGUE, _CUSTOM]
    by_log = {log: [name for name, entry in CATALOGUE.items() if entry.log is log] for log in Log}
    by_log[CUSTOM_LOG].append(_CUSTOM)
    channels = {f"log-{log.value}": _log_channel(log, names) for log, names in by_log.items()}
    channels["mailbox"] = {
        "address": "{namespace}:bus:bot:{bot_id}:in",
        "title": "Mailbox of a bot",
        "description": "What a bot subscribes to, requests to it, and replies. Read with the consumer group `bot`.",
        "parameters": {"namespace": _NAMESPACE, "bot_id": {"description": "Telegram's id of the bot."}},
        "messages": _references(every),
    }
    channels["out"] = {
        "address": "{namespace}:bus:bot:{bot_id}:out",
        "title": "What a bot publishes",
        "description": "The router reads it, checks each event against its type and stamps where it came from.",
        "parameters": {"namespace": _NAMESPACE, "bot_id": {"description": "Telegram's id of the bot; 0 is the fleet."}},
        "messages": _references(every),
    }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Events of botctl",
            "version": "1.0.0",
            "description": (
                f"Entries of Redis Streams with one field, `{FIELD}`: an event as JSON of at most "
                f"{MAX_EVENT_BYTES // 1024} KiB. Delivery is at least once; work each `id` off once. Programs outside "
                "the fleet read the logs with a user and a consumer group of their own (`botctl events grant`)."
            ),
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": {
            **{
                f"keep-{log.value}": {
                    "action": "send",
                    "channel": {"$ref": f"#/channels/log-{log.value}"},
                    "summary": f"Every event of the log `{log.value}`, in the order it was routed.",
                }
                for log in Log
            },
            "deliver": {
                "action": "send",
                "channel": {"$ref": "#/channels/mailbox"},
                "summary": "Events that a bot subscribes to.",
            },
            "route": {
                "action": "receive",
                "channel": {"$ref": "#/channels/out"},
                "summary": "Events that bots and the fleet publish.",
            },
        },
        "components": {"messages": messages, "schemas": {name: _portable(one) for name, one in components.items()}},
    }


def _log_channel(log: Log, names: list[str]) -> dict[str, Any]:
    return {
        "address": f"{{namespace}}:events:{log.value}",
        "title": f"Log {log.value}",
        "description": "Read it with XREADGROUP and the group of a grant; acknowledge with XACK.",
        "parameters": {"namespace": _NAMESPACE},
        "messages": _references(names),
    }


def _references(names: list[str]) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/messages/{name}"} for name in names}


def _message(entry: EventType) -> dict[str, Any]:
    given = {"type": {"const": entry.name}, "version": {"const": entry.version}}
    given["data"] = {"$ref": f"{_SCHEMAS}{entry.data.__name__}"}
    return {
        "name": entry.name,
        "title": entry.name,
        "summary": entry.summary,
        "description": f"Version {entry.version}, by {_WHO[entry.publisher]}, in the log `{entry.log.value}`."
        + (f" {RESERVED_NOTE}" if entry.reserved else ""),
        "contentType": "application/json",
        "correlationId": {"location": "$message.payload#/correlation_id", "description": "The trace of the update."},
        "tags": [{"name": entry.log.value}],
        "payload": {"allOf": [{"$ref": f"{_SCHEMAS}Event"}, {"type": "object", "properties": given}]},
    }


def _custom() -> dict[str, Any]:
    reserved = {"not": {"pattern": rf"^({'|'.join(sorted(RESERVED))})\."}}
    return {
        "name": _CUSTOM,
        "title": "A bot's own type",
        "summary": "Data are free-form; the type's first name is none of botctl's own.",
        "contentType": "application/json",
        "correlationId": {"location": "$message.payload#/correlation_id", "description": "The trace of the update."},
        "tags": [{"name": CUSTOM_LOG.value}],
        "payload": {
            "allOf": [
                {"$ref": f"{_SCHEMAS}Event"},
                {"type": "object", "properties": {"type": {**_portable({"pattern": TYPE_FORMAT}), **reserved}}},
            ]
        },
    }


def _portable(schema: Any) -> Any:
    """With patterns as JSON Schema knows them, which has no `\\Z`."""
    if isinstance(schema, dict):
        return {
            key: value.replace(r"\Z", "$") if key == "pattern" and isinstance(value, str) else _portable(value)
            for key, value in schema.items()
        }
    return [_portable(one) for one in schema] if isinstance(schema, list) else schema


class _Plain(yaml.SafeDumper):
    """Writes out what stands in several places: references are for people the harder reading."""

    def ignore_aliases(self, data: Any) -> bool:
        """None are made."""
        return True


def to_yaml(made: dict[str, Any]) -> str:
    """The document in YAML."""
    text: str = yaml.dump(made, Dumper=_Plain, sort_keys=False, allow_unicode=True, width=120)
    return text


def reference() -> str:
    """What docs/asyncapi.yaml holds."""
    return "# Made by `python -m botctl.bus.event_types.asyncapi docs/asyncapi.yaml`.\n" + to_yaml(document())


def main(arguments: list[str]) -> int:
    """Write the document to the file named, or print it."""
    if arguments:
        Path(arguments[0]).write_text(reference(), encoding="utf-8")
    else:
        sys.stdout.write(reference())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
