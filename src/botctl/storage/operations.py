"""What operators have a bot do: rows that `control` puts into its inbox, and what has come of them.

A row of kind `operation` holds one call of the Bot API; the bot makes it through its send journal, like any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from botctl.errors import VaultError
from botctl.storage.cleaning import encode
from botctl.storage.inbox import NewRow, columns_of, insert_of
from botctl.storage.sealing import Sealing

KIND = "operation"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one operation. `row` is the inbox row's state: new, done, dead; `send` that of its send, if any.

    `error` is Telegram's refusal, or why the row was given up. Null: nothing is kept of it any more.
    """

    row: str | None
    send: str | None = None
    message_id: int | None = None
    error: str | None = None


def operation(operation_id: str, method: str, parameters: dict[str, Any], trace_id: str) -> NewRow:
    """The inbox row of one call; one without a chat of its own waits for nobody."""
    chat = parameters.get("chat_id")
    lane = f"chat:{chat}" if isinstance(chat, int) else "other"
    payload = encode({"method": method, "parameters": parameters})
    return NewRow(f"op:{operation_id}", None, KIND, lane, payload, trace_id)


async def store(connection: AsyncConnection, bot_id: int, rows: Sequence[NewRow], sealing: Sealing) -> int:
    """Put them into the bot's inbox; how many were not there yet."""
    result = await connection.exec_driver_sql(insert_of(bot_id), columns_of(rows, sealing))
    return len(result.all())


async def stored(
    connection: AsyncConnection, bot_id: int, causes: Sequence[str], sealing: Sealing
) -> dict[str, str | None]:
    """Payloads of those of these that are in the bot's inbox, by cause; None for one that can't be opened."""
    result: Any = await connection.exec_driver_sql(
        f"SELECT cause, payload::text FROM inbox WHERE bot_id = {int(bot_id)} AND cause = ANY($1::text[])",
        (list(causes),),
    )
    found: dict[str, str | None] = {}
    for cause, payload in result.all():
        try:
            found[cause] = sealing.read_json("inbox", "payload", payload)
        except VaultError:
            found[cause] = None
    return found


async def outcomes(
    connection: AsyncConnection, bot_id: int, causes: Sequence[str], sealing: Sealing
) -> dict[str, Outcome]:
    """What came of these, by cause."""
    bot = f"{int(bot_id)}"
    result: Any = await connection.exec_driver_sql(
        f"""
        SELECT asked.cause, inbox.state, inbox.last_error, sends.state, sends.result::text, sends.error
        FROM unnest($1::text[]) AS asked (cause)
        LEFT JOIN inbox ON inbox.bot_id = {bot} AND inbox.cause = asked.cause
        LEFT JOIN sends ON sends.bot_id = {bot} AND sends.cause = asked.cause AND sends.n = 0""",
        (list(causes),),
    )
    found: dict[str, Outcome] = {}
    for cause, row, why, send, answer, refusal in result.all():
        error = _text(sealing, "sends", "error", refusal) if send is not None else None
        found[cause] = Outcome(
            row, send, _message_id(sealing, answer), error or (_text(sealing, "inbox", "last_error", why))
        )
    return found


def _message_id(sealing: Sealing, answer: str | None) -> int | None:
    if answer is None:
        return None
    try:
        document = msgspec.json.decode(sealing.read_json("sends", "result", answer))
    except (VaultError, msgspec.DecodeError):
        return None
    number = document.get("message_id") if isinstance(document, dict) else None
    return number if isinstance(number, int) else None


def _text(sealing: Sealing, table: str, column: str, stored: str | None) -> str | None:
    try:
        return sealing.read_text(table, column, stored)
    except VaultError as error:
        return error.message
