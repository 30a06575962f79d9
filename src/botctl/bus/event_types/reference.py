"""Writes the reference page of all event types: `python -m botctl.bus.event_types.reference docs/events.md`."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

import msgspec

from botctl.bus.event_types.catalogue import CATALOGUE, CUSTOM_LOG, RESERVED, RESERVED_NOTE, EventType, Publisher
from botctl.bus.events import MAX_EVENT_BYTES, Log

_INTRODUCTION = """# Events

This page is made from the catalogue in `src/botctl/bus/event_types/catalogue.py`, by
`python -m botctl.bus.event_types.reference docs/events.md`.
[asyncapi.yaml](asyncapi.yaml) says the same for tools, [consumers.md](consumers.md) how programs of yours read events.

An event is JSON of at most {size} KiB:

| key | meaning |
|---|---|
| `id` | the same however often the event is delivered: work each id off once; no other bot can use it |
| `type`, `version` | which of the types below, and which version of its data |
| `source` | `bot:<bot_id>` or `fleet`, stamped by the router from the stream the event came from |
| `occurred_at` | seconds since the epoch |
| `correlation_id` | the trace of the update that began it all |
| `causation_id` | the cause right before, e.g. `update:123` or `event:<id>` |
| `data` | as listed below |

Requests and replies also have `to`, `deadline`, `reply_to`, `error` and `source_name` (the asking or answering bot's
name); an event that is delivered once more on purpose has `replay`. Subscriptions with conditions, groups that share
work, requests, and how to declare types of your own: [bus.md](bus.md).

Delivery is at least once and, for each publisher, in the order in which its events were committed. What a handler sends
at once is committed before its update ends: `message.sent` then comes before the `message.received` it answers.
`correlation_id` says what belongs together, `occurred_at` what came first.

A bot gets what its `subscribe:` patterns name: a type, `*` for every type, or a type with `*` in place of whole names
(`bot.*`, `*.failed`). Its own events it gets only where a pattern names the type exactly.

A bot may publish types of its own: names of the form `shop.order.paid` with free-form data, kept in the `{custom}` log.
Their first name must not be one of: {reserved}.
"""


def reference() -> str:
    """The page, in Markdown."""
    parts = [
        _INTRODUCTION.format(
            size=MAX_EVENT_BYTES // 1024,
            custom=CUSTOM_LOG.value,
            reserved=", ".join(f"`{name}`" for name in sorted(RESERVED)),
        )
    ]
    for log in Log:
        parts.append(f"## Log `{log.value}`\n")
        parts.extend(_entry(entry) for entry in CATALOGUE.values() if entry.log is log)
    return "\n".join(parts).rstrip() + "\n"


def _entry(entry: EventType) -> str:
    who = {Publisher.FLEET: "the fleet", Publisher.BOT: "bots", Publisher.ANY: "bots and the fleet"}[entry.publisher]
    lines = [f"### `{entry.name}`\n", f"{entry.summary} Version {entry.version}, published by {who}.\n"]
    if entry.reserved:
        lines.append(f"{RESERVED_NOTE}\n")
    note = " ".join((entry.data.__doc__ or "").split())
    if note:
        lines.append(f"{note}\n")
    lines += ["| data | type | |", "|---|---|---|"]
    hints = get_type_hints(entry.data, include_extras=False)
    for field in msgspec.structs.fields(entry.data):
        need = "required" if field.required else f"default {_default(field)}"
        lines.append(f"| `{field.encode_name}` | {_name(hints[field.name])} | {need} |")
    return "\n".join(lines) + "\n"


def _default(field: Any) -> str:
    value = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    return f"`{msgspec.json.encode(value).decode()}`"


def _name(hint: Any) -> str:
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(_name(part) for part in get_args(hint))
    if get_origin(hint) is list:
        return f"list of {_name(get_args(hint)[0])}"
    names = {int: "integer", float: "number", str: "string", bool: "boolean", type(None): "null"}
    return names.get(hint, getattr(hint, "__name__", str(hint)))


def main(arguments: list[str]) -> int:
    """Write the page to the file named, or print it."""
    if arguments:
        Path(arguments[0]).write_text(reference(), encoding="utf-8")
    else:
        sys.stdout.write(reference())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
