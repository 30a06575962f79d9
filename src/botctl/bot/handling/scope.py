"""The scope of one handling: the cause that is worked off now, what it has led to, and what is to be committed with it.

A contextvar carries it into handlers and into every task they start, so that a send anywhere below knows its cause.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from botctl.bot.keeping.drafts import Draft
from botctl.bot.sending.journal_rules import Journal
from botctl.storage.completions import StoredCompletion
from botctl.storage.outbox import StoredEvent

Also = Callable[[AsyncConnection], Awaitable[None]]
"""Something idempotent to be done in a commit."""


@dataclass
class Reply:
    """A message to be committed with the end of the handling, and sent afterwards."""

    role: str
    text: str
    entities: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Scope:
    """One attempt at one cause. `chat_id` None: the cause belongs to no chat."""

    cause: str
    trace_id: str
    inbox_id: int = 0
    attempt: int = 1
    attempt_counted: bool = False
    """Whether the inbox counts this attempt now; while it waits for a model, it does not."""
    inside: bool = False
    """Whether it is being worked on now, as `suspects` sees it; `alone`: with nothing beside it."""
    alone: bool = False
    chat_id: int | None = None
    thread_id: int = 0
    user_id: int | None = None
    conversation_id: int | None = None
    journal: Journal = field(default_factory=Journal)
    replies: list[Reply] = field(default_factory=list)
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    """Methods and parameters of further calls to be committed with the end of the handling, and made afterwards."""
    events: list[StoredEvent] = field(default_factory=list)
    completion: StoredCompletion | None = None
    reset: bool = False
    apology: bool = False
    """Whether all that the user gets is an apology."""
    draft: Draft | None = None
    """What it has looked at and changed of the data that handlers keep."""
    tasks: set[asyncio.Task[Any]] = field(default_factory=set)
    errors: list[Exception] = field(default_factory=list)
    published: int = 0
    asked: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """Requests so far, by whom they went to, their type and a digest of their data."""
    asking: int = 0
    """Requests whose replies are awaited now."""
    kept: list[Also] = field(default_factory=list)
    """What is to be stored with the end of the handling, if it succeeds."""
    closed: bool = False
    """While it is being committed, and afterwards, nothing more gets into it."""
    over: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once its end is committed, or given up."""

    @classmethod
    def operation(cls, trace_id: str | None = None) -> Scope:
        """The scope of a call that belongs to no update and no event: a timer of a handler, its start-up."""
        token = secrets.token_hex(8)
        return cls(cause=f"op:{token}", trace_id=trace_id or token)

    def reply(self, role: str, text: str, *, entities: list[dict[str, Any]] | None = None) -> None:
        """Answer in the cause's chat, with the commit of the handling."""
        self.replies.append(Reply(role, text, entities or []))


current: ContextVar[Scope | None] = ContextVar("botctl_scope", default=None)


def active() -> Scope | None:
    """The scope of the running handling; None outside of one, or when it has been committed already."""
    scope = current.get()
    return None if scope is None or scope.closed else scope
