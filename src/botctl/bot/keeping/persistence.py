"""python-telegram-bot's persistence, kept in PostgreSQL and committed with the update it belongs to.

Handlers use `context.user_data`, `chat_data`, `bot_data` and `ConversationHandler` as ever. What they see is their own
attempt's draft (`persistence_drafts`); what python-telegram-bot would flush from time to time is committed with the end
of the attempt instead (`commit`), or, changed outside of any handling, by the flush that it calls from time to time.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from typing import Any

import structlog
from telegram import Update
from telegram.ext import Application, BasePersistence, ConversationHandler, PersistenceInput
from telegram.ext._handlers.conversationhandler import PendingState

from botctl.bot.faults import brief
from botctl.bot.keeping.drafts import BOT, Owner
from botctl.bot.keeping.memory import KeptMemory

_log = structlog.get_logger("botctl.bot.keeping.persistence")

FLUSH_EVERY = 15.0
"""Seconds between two commits of what is changed outside of any handling."""

_STATE = "state"


class ContextPersistence(BasePersistence[Any, Any, Any]):
    """What `Application.persistence` is: it says that there is one. Nothing is read or written through it."""

    def __init__(self) -> None:
        nothing = PersistenceInput(bot_data=False, chat_data=False, user_data=False, callback_data=False)
        super().__init__(store_data=nothing, update_interval=FLUSH_EVERY)

    async def get_user_data(self) -> dict[int, Any]:
        """Not asked."""
        return {}

    async def get_chat_data(self) -> dict[int, Any]:
        """Not asked."""
        return {}

    async def get_bot_data(self) -> Any:
        """Not asked."""
        return {}

    async def get_callback_data(self) -> None:
        """Arbitrary callback data isn't kept."""

    async def get_conversations(self, name: str) -> Any:
        """Not asked."""
        return {}

    async def update_conversation(self, name: str, key: Any, new_state: object | None) -> None:
        """Not told."""

    async def update_user_data(self, user_id: int, data: Any) -> None:
        """Not told."""

    async def update_chat_data(self, chat_id: int, data: Any) -> None:
        """Not told."""

    async def update_bot_data(self, data: Any) -> None:
        """Not told."""

    async def update_callback_data(self, data: Any) -> None:
        """Not told."""

    async def drop_chat_data(self, chat_id: int) -> None:
        """Not told."""

    async def drop_user_data(self, user_id: int) -> None:
        """Not told."""

    async def refresh_user_data(self, user_id: int, user_data: Any) -> None:
        """Not asked."""

    async def refresh_chat_data(self, chat_id: int, chat_data: Any) -> None:
        """Not asked."""

    async def refresh_bot_data(self, bot_data: Any) -> None:
        """Not asked."""

    async def flush(self) -> None:
        """Nothing waits here."""


class _DataView(MutableMapping[int, Any]):
    """`user_data` or `chat_data` of the application, as the current attempt sees it. Missing ones are empty dicts."""

    def __init__(self, memory: KeptMemory, kind: str) -> None:
        self._memory = memory
        self._kind = kind

    def __getitem__(self, number: int) -> Any:
        return self._memory.current.values((self._kind, str(number)))

    def __setitem__(self, number: int, value: Any) -> None:
        values = self._memory.current.values((self._kind, str(number)))
        if values is not value:
            values.clear()
            values.update(value)

    def __delitem__(self, number: int) -> None:
        self._memory.current.empty((self._kind, str(number)))

    def pop(self, number: int, *default: Any) -> Any:
        """Drop what is kept, in memory or not; returns nothing."""
        del self[number]

    def __contains__(self, number: object) -> bool:
        return str(number) in self._numbers()

    def __iter__(self) -> Iterator[int]:
        return iter([int(number) for number in self._numbers()])

    def __len__(self) -> int:
        return len(self._numbers())

    def _numbers(self) -> list[str]:
        draft = self._memory.current
        known = dict.fromkeys([*self._memory.owners(self._kind), *draft.opened(self._kind)])
        return [number for number in known if draft.values((self._kind, number))]


class _ReadOnly(Mapping[int, Any]):
    """What python-telegram-bot shows of it."""

    def __init__(self, view: _DataView) -> None:
        self._view = view

    def __getitem__(self, number: int) -> Any:
        return self._view[number]

    def __contains__(self, number: object) -> bool:
        return number in self._view

    def __iter__(self) -> Iterator[int]:
        return iter(self._view)

    def __len__(self) -> int:
        return len(self._view)


class _States(MutableMapping[Any, Any]):
    """The conversations of one ConversationHandler, as the current attempt sees them."""

    def __init__(self, memory: KeptMemory, kind: str, name: str) -> None:
        self._memory = memory
        self._kind = kind
        self._name = name

    def owner(self, key: Any) -> Owner:
        """Whose row a conversation is."""
        return self._kind, json.dumps([self._name, *key])

    def settle(self) -> None:
        """States that handlers with block=False were to find, and have found by now."""
        draft = self._memory.current
        for number in draft.opened(self._kind):
            values = draft.values((self._kind, number))
            state = values.get(_STATE)
            if isinstance(state, PendingState):
                values[_STATE] = state.resolve() if state.done() else state.old_state
                if values[_STATE] in (ConversationHandler.END, None):
                    del values[_STATE]

    def __getitem__(self, key: Any) -> Any:
        return self._memory.current.values(self.owner(key))[_STATE]

    def __setitem__(self, key: Any, state: Any) -> None:
        self._memory.current.values(self.owner(key))[_STATE] = state

    def __delitem__(self, key: Any) -> None:
        del self._memory.current.values(self.owner(key))[_STATE]

    def __iter__(self) -> Iterator[Any]:
        owners = dict.fromkeys([*self._memory.owners(self._kind), *self._memory.current.opened(self._kind)])
        for owner in owners:
            name, *key = json.loads(owner)
            if name == self._name and _STATE in self._memory.current.values((self._kind, owner)):
                yield tuple(key)

    def __len__(self) -> int:
        return sum(1 for _ in self)


class KeepingApplication(Application[Any, Any, Any, Any, Any, Any]):
    """An application whose data is that of the attempt that is being made. `keep` is called once, before handlers."""

    _memory: KeptMemory | None = None
    _states: dict[ConversationHandler[Any], _States]

    def keep(self, memory: KeptMemory) -> None:
        """From now on this is where data is kept."""
        self._memory = memory
        memory.bot = self.bot
        self._states = {}
        for kind in ("user", "chat"):
            view = _DataView(memory, kind)
            setattr(self, f"_{kind}_data", view)
            setattr(self, f"{kind}_data", _ReadOnly(view))

    @property
    def bot_data(self) -> Any:
        """The bot's own data."""
        return {} if self._memory is None else self._memory.current.values(BOT)

    @bot_data.setter
    def bot_data(self, value: Any) -> None:
        if self._memory is not None:
            raise AttributeError("bot_data is changed, not replaced")

    async def initialize(self) -> None:
        """As in python-telegram-bot; every conversation is then the current attempt's."""
        await super().initialize()
        for handlers in self.handlers.values():
            for handler in handlers:
                if isinstance(handler, ConversationHandler):
                    self._take_over(handler)

    def add_handler(self, handler: Any, group: int = 0) -> None:
        """As in python-telegram-bot."""
        super().add_handler(handler, group)
        if self._initialized and isinstance(handler, ConversationHandler):
            self._take_over(handler)

    async def _add_ch_to_persistence(self, handler: ConversationHandler[Any]) -> None:
        self._take_over(handler)

    def _take_over(self, handler: ConversationHandler[Any]) -> None:
        if self._memory is None or handler in self._states:
            return
        kept = handler.persistent and handler.name
        states = _States(self._memory, "conversation" if kept else "transient", handler.name or f"#{id(handler)}")
        for key, state in handler._conversations.items():
            states[key] = state
        self._states[handler] = states
        handler._conversations = states
        for child in handler._child_conversations:
            self._take_over(child)

    async def prepare(self, update: Update) -> None:
        """Have in memory what the handlers of an update may look at without waiting."""
        if self._memory is None or self._memory.whole:
            return
        await self._memory.bring([*_owners_of(update), *self._conversations_of(update)])

    async def prepare_timer(self, job: Any) -> None:
        """The same for a timer of python-telegram-bot's: of whom it was set for, or of the update it is about."""
        if self._memory is None or self._memory.whole:
            return
        users, chats = ([number] if number is not None else [] for number in (job.user_id, job.chat_id))
        await self.load_data(users=users, chats=chats)
        update = getattr(job.data, "update", None)
        if isinstance(update, Update):
            await self.prepare(update)

    async def load_data(self, *, users: Iterable[int] = (), chats: Iterable[int] = ()) -> None:
        """Have `user_data` and `chat_data` of others than those whom an update concerns in memory.

        Needed only by bots that keep more than memory holds (20,000 users, chats and conversations, or 16 MB).
        """
        if self._memory is not None:
            owners = [*(("user", str(number)) for number in users), *(("chat", str(number)) for number in chats)]
            await self._memory.bring(owners)

    def settle(self) -> None:
        """The handlers of an attempt have ended, those with block=False too: their conversations know their states."""
        for states in getattr(self, "_states", {}).values():
            states.settle()

    def _conversations_of(self, update: Update) -> Iterable[Owner]:
        for handler, states in self._states.items():
            try:
                key = handler._get_key(update)
            except RuntimeError:  # this conversation is not about such updates
                continue
            yield states.owner(key)

    def drop_chat_data(self, chat_id: int) -> None:
        """As in python-telegram-bot; committed with the update."""
        self._chat_data.pop(chat_id, None)

    def drop_user_data(self, user_id: int) -> None:
        """As in python-telegram-bot; committed with the update."""
        self._user_data.pop(user_id, None)

    def mark_data_for_update_persistence(self, *ids: Any, **more: Any) -> None:
        """Not needed: every change is found."""

    def _mark_for_persistence_update(self, **_: Any) -> None:
        return

    async def update_persistence(self) -> None:
        """Commit what was changed outside of any handling; python-telegram-bot calls it from time to time.

        Raises nothing: that would be the last time. What is not stored now is tried again then.
        """
        if self._memory is None:
            return
        try:
            await self._memory.flush()
        except Exception as error:
            _log.error("what was changed outside of any handling can't be stored", error=brief(error))


def _owners_of(update: Update) -> Iterable[Owner]:
    if update.effective_user is not None:
        yield "user", str(update.effective_user.id)
    if update.effective_chat is not None:
        yield "chat", str(update.effective_chat.id)
    if update.message is not None:
        for number in (update.message.migrate_to_chat_id, update.message.migrate_from_chat_id):
            if number is not None:
                yield "chat", str(number)
