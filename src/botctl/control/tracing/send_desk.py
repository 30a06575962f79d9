"""What an operator has a bot send: put into its inbox, sealed if it encrypts; and what has come of it.

Nothing is sent from here: the bot does it, when it runs, through its journal and its flood control.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import Field

from botctl.control.tracing.masking import is_refusal
from botctl.control.tracing.room import DeskRoom, while_it_answers
from botctl.control.tracing.words import UNKNOWN
from botctl.control.views import View
from botctl.control.watching.deafness import LISTENING
from botctl.errors import ConflictError, NoSuchBotError, UsageError
from botctl.fleet import BotSpec, Fleet
from botctl.storage import operations
from botctl.storage.inbox import NewRow
from botctl.storage.operations import Outcome
from botctl.storage.sealing import Sealing

LONGEST = 4096
"""Characters of one message (core.telegram.org/bots/api#sendmessage)."""


MOST_CHATS = 100
"""Of one operation."""


class SendView(View):
    """One message. `state`: `waiting`, `sending`, `sent`, `refused` by Telegram, `unsent` (given up), `gone`."""

    id: str
    chat: int | str | None = None
    state: str = "waiting"
    message_id: int | None = None
    error: str | None = None


class SendBody(View):
    """What was asked for. `bot_state` is the bot's now, or `unknown`; `runs`: it sends them at once."""

    sends: list[SendView] = Field(default_factory=list)
    bot_state: str = ""
    runs: bool = False


class SendDesk:
    """`sealing_of` is how a bot's rows are stored; it opens what is sealed, whether new ones are or not.

    `wake` has a bot look into its inbox.
    """

    def __init__(
        self,
        room: DeskRoom,
        fleet: Callable[[], Fleet | None],
        sealing_of: Callable[[BotSpec], Sealing],
        wake: Callable[[int], None],
    ) -> None:
        self._room = room
        self._fleet = fleet
        self._sealing_of = sealing_of
        self._wake = wake

    @while_it_answers
    async def send(
        self, bot: str, chats: Sequence[int | str], text: str, operation_id: str | None, more: dict[str, Any]
    ) -> SendBody:
        """Have a bot send a text to these chats. Raises NoSuchBotError, UsageError, VaultError, DatabaseAwayError.

        With the id of an earlier operation nothing is sent anew, as long as its rows are kept. Raises ConflictError
        when that one had other chats, another text or other options.
        """
        spec = self._bot(bot)
        if not text.strip() or len(text) > LONGEST:
            raise UsageError(f"a message has 1 to {LONGEST} characters; this one has {len(text)}")
        token = operation_id or secrets.token_hex(8)
        rows, sends = [], []
        for number, chat in enumerate(dict.fromkeys(chats)):
            one = _numbered(token, number)
            parameters = {"chat_id": chat, "text": text, **more}
            rows.append(operations.operation(one, "sendMessage", parameters, secrets.token_hex(8)))
            sends.append(SendView(id=one, chat=chat))
        sealing = self._sealing_of(spec)
        async with self._room.change() as connection:
            new = await operations.store(connection, spec.bot_id, rows, sealing)
            if new < len(rows) or operation_id is not None:
                causes = [f"op:{_numbered(token, number)}" for number in range(MOST_CHATS)]
                _check_same(token, rows, new, await operations.stored(connection, spec.bot_id, causes, sealing))
        self._wake(spec.bot_id)
        return await self._with_state(SendBody(sends=sends), spec.bot_id)

    @while_it_answers
    async def sent(self, bot: str, ids: Sequence[str]) -> SendBody:
        """What came of operations. Raises NoSuchBotError, DatabaseAwayError."""
        spec = self._bot(bot)
        async with self._room.view(text=spec.encrypt_messages) as connection:
            causes = [f"op:{one}" for one in ids]
            found = await operations.outcomes(connection, spec.bot_id, causes, self._sealing_of(spec))
        sends = [_view(one, found[f"op:{one}"]) for one in ids]
        return await self._with_state(SendBody(sends=sends), spec.bot_id)

    async def _with_state(self, body: SendBody, bot_id: int) -> SendBody:
        sight = await self._room.sight()
        bot = sight.bot(bot_id) if sight is not None else None
        body.bot_state = UNKNOWN if sight is None else bot.state if bot is not None else "configured"
        body.runs = body.bot_state in LISTENING
        return body

    def _bot(self, name: str) -> BotSpec:
        fleet = self._fleet()
        found = fleet.by_name(name) if fleet is not None else None
        if found is None:
            names = ", ".join(one.name for one in fleet.bots) if fleet is not None else ""
            raise NoSuchBotError(f"no bot is called {name!r}", hint=f"There are: {names}." if names else None)
        return found


def _numbered(operation_id: str, number: int) -> str:
    """The id of one chat's row; the first one has the operation's own."""
    return operation_id if number == 0 else f"{operation_id}.{number}"


def _check_same(operation_id: str, rows: Sequence[NewRow], new: int, found: Mapping[str, str | None]) -> None:
    """`found` is what stands in the inbox now, `new` of these rows among it. Raises ConflictError."""
    wanted = {row.cause: json.loads(row.payload) for row in rows}
    same = new in (0, len(rows)) and wanted == {
        cause: json.loads(payload) if payload is not None else None for cause, payload in found.items()
    }
    if not same:
        raise ConflictError(
            f"the id {operation_id} was used before, for another text, other chats or other options; nothing is sent",
            hint="Repeat a request as it was, or give this one an id of its own.",
        )


def _view(operation_id: str, outcome: Outcome) -> SendView:
    match outcome:
        case Outcome(row=None, send=None):
            state = "gone"
        case Outcome(send="sent"):
            state = "sent"
        case Outcome(send="failed"):
            state = "refused" if is_refusal(outcome.error or "") else "unsent"
        case Outcome(send="skipped") | Outcome(row="dead" | "dropped"):
            state = "unsent"
        case Outcome(send="planned" | "sending"):
            state = "sending"
        case Outcome(row="done", send=None):
            state = "unsent"
        case _:
            state = "waiting"
    failed = state in ("refused", "unsent")
    return SendView(
        id=operation_id,
        state=state,
        message_id=outcome.message_id if state == "sent" else None,
        error=outcome.error if failed else None,
    )
