"""Recorded completions: what a model answered for a cause, so that a replay asks it nothing twice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from botctl.storage.sealing import UNSEALED, Sealing


@dataclass(frozen=True, slots=True)
class StoredCompletion:
    """One answer of a model. Token figures are None where the server gave none."""

    text: str
    model: str
    input_tokens: int | None
    output_tokens: int | None
    duration_ms: int
    cached_tokens: int | None = None
    """Of the input tokens, those that the server had in its cache."""
    retries: int = 0
    """Calls before the one that was answered."""
    finish_reason: str = ""
    """Why the model stopped, in the server's word: `completed`, `stop`, `length`, `max_output_tokens`."""


class Completions:
    """The completions of one bot. Answers go through `sealing`."""

    def __init__(self, bot_id: int, sealing: Sealing = UNSEALED) -> None:
        self._sealing = sealing
        bot = f"{int(bot_id)}"
        self._find = f"""
            SELECT response::text, coalesce(model, ''), input_tokens, output_tokens, coalesce(duration_ms, 0),
                   cached_tokens, coalesce(retries, 0), coalesce(finish_reason, '')
            FROM completions WHERE bot_id = {bot} AND cause = $1 AND step = $2"""
        self._record = f"""
            INSERT INTO completions (bot_id, cause, step, model, response, input_tokens, output_tokens, duration_ms,
                                     cached_tokens, retries, finish_reason, created_at)
            VALUES ({bot}, $1, $2, $3, $4::text::jsonb, $5, $6, $7, $8, $9, $10, now())
            ON CONFLICT (bot_id, cause, step) DO NOTHING"""

    async def find(self, connection: AsyncConnection, cause: str, step: int) -> StoredCompletion | None:
        """What the model answered at this step of this cause, if it was asked before. Raises VaultError."""
        result = await connection.exec_driver_sql(self._find, (cause, step))
        row: Any = result.first()
        if row is None:
            return None
        answer = msgspec.json.decode(self._sealing.read_json("completions", "response", row[0]))
        return StoredCompletion(answer["text"], row[1], row[2], row[3], int(row[4]), row[5], row[6], row[7])

    async def record(self, connection: AsyncConnection, cause: str, step: int, completion: StoredCompletion) -> None:
        """Keep an answer; the first one recorded for a step stays."""
        answer = msgspec.json.encode({"text": completion.text}).decode()
        await connection.exec_driver_sql(
            self._record,
            (
                cause,
                step,
                completion.model,
                self._sealing.json("completions", "response", answer),
                completion.input_tokens,
                completion.output_tokens,
                completion.duration_ms,
                completion.cached_tokens,
                completion.retries,
                completion.finish_reason,
            ),
        )
