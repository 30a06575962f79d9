"""What an operator has a bot send: put into its inbox, sealed if it encrypts; and what has come of it.

Nothing is sent from here: the bot does it, when it runs, through its journal and its flood control.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Any

from pydantic import Field

from botctl.control.tracing.room import DeskRoom
from botctl.control.views import View
from botctl.control.watching.deafness import LISTENING
from botctl.errors import NoSuchBotError, RefusedError, UsageError
from botctl.fleet import BotSpec, Fleet
from botctl.storage import operations
from botctl.storage.operations import Outcome
from botctl.storage.sealing import Sealing

LONGEST = 4096
"""Characters of one message (core.telegram.org/bots/api#sendmessage)."""


class SendView(View):
    """One message. `state`: `waiting`, `sending`, `sent`, `refused` (by Telegram), `unsent` (given up), `gone`."""

    id: str
    chat: int | str | None = None
    state: str = "waiting"
    message_id: int | None = None
    error: str | None = None


class SendBody(View):
    """What was asked for. `bot_state` is the bot's now; `runs`: it sends them at once."""

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

    async def send(
        self, bot: str, chats: Sequence[int | str], text: str, operation_id: str | None, more: dict[str, Any]
    ) -> SendBody:
        """Have a bot send a text to these chats. Raises NoSuchBotError, UsageError, VaultError, DatabaseAwayError.

        With the id of an earlier operation nothing is sent anew.
        """
        spec = self._bot(bot)
        if not text.strip() or len(text) > LONGEST:
            raise UsageError(f"a message has 1 to {LONGEST} characters; this one has {len(text)}")
        token = operation_id or secrets.token_hex(8)
        rows, sends = [], []
        for number, chat in enumerate(dict.fromkeys(chats)):
            one = token if number == 0 else f"{token}.{number}"
            parameters = {"chat_id": chat, "text": text, **more}
            rows.append(operations.operation(one, "sendMessage", parameters, secrets.token_hex(8)))
            sends.append(SendView(id=one, chat=chat))
        sealing = self._sealing_of(spec)
        async with self._room.change() as connection:
            stored = await operations.store(connection, spec.bot_id, rows, sealing)
        if stored < len(rows) and operation_id is None:
            raise RefusedError("these messages have been asked for before")  # by chance, with 64 random bits
        self._wake(spec.bot_id)
        return await self._with_state(SendBody(sends=sends), spec.bot_id)

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
        body.bot_state = bot.state if bot is not None else "configured"
        body.runs = body.bot_state in LISTENING
        return body

    def _bot(self, name: str) -> BotSpec:
        fleet = self._fleet()
        found = fleet.by_name(name) if fleet is not None else None
        if found is None:
            names = ", ".join(one.name for one in fleet.bots) if fleet is not None else ""
            raise NoSuchBotError(f"no bot is called {name!r}", hint=f"There are: {names}." if names else None)
        return found


def _view(operation_id: str, outcome: Outcome) -> SendView:
    match outcome:
        case Outcome(row=None, send=None):
            state = "gone"
        case Outcome(send="sent"):
            state = "sent"
        case Outcome(send="failed"):
            state = "refused"
        case Outcome(send="skipped") | Outcome(row="dead"):
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
