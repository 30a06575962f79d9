"""Telegram's flood control: who may send when, so that it isn't met, and who waits when it was. Pure.

What Telegram says (https://core.telegram.org/bots/faq#my-bot-is-hitting-limits-how-do-i-avoid-this): one message a
second into a chat, with short bursts beyond; 20 messages a minute into a group; 30 a second for the bot. Edits count as
messages (https://github.com/tdlib/telegram-bot-api/issues/648). A 429 tells the seconds to wait, and not who is meant;
`Flood.refused` says whom it takes it to mean. Time is an argument.
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from botctl.bot.sending.flood_window import Bucket, Window
from botctl.fleet.model import Limits

Place = int | str | None
"""A chat by its id or by its @name; None for calls that belong to no chat."""

FLEETING = 60.0
"""Seconds for which what was sent matters: the longest window there is."""

INTERACTIVE_IN_A_ROW = 9
"""So many answers go out before one of the bulk that waits does."""

_TIDY_EVERY = 512
_CHAT_A_SECOND, _GROUP_A_MINUTE, _BOT_A_SECOND = 2, 20, 24
"""Sends of ours that explain a 429: more than one a second into the chat, all that a group may get in a minute, or four
fifths of the bot's 30 a second, because Telegram's clock isn't ours."""


@dataclass(frozen=True)
class Rates:
    """The limits kept to; 0 for none."""

    bot_per_second: int = 30
    chat_per_second: float = 1.0
    chat_burst: int = 5
    group_per_minute: int = 20


def rates_of(limits: Limits) -> Rates:
    """As the fleet file says."""
    return Rates(
        limits.sends_per_second, limits.chat_sends_per_second, limits.chat_burst, limits.group_sends_per_minute
    )


class Blame(StrEnum):
    """Whom a 429 was taken to mean; only they wait."""

    CHAT = "chat"
    GROUP = "group"
    BOT = "bot"


@dataclass(slots=True, eq=False)
class Ticket:
    """Somebody who waits to send `items` messages. `bulk` lets answers go first; `paid` is beyond the bot's limit."""

    place: Place
    items: int = 1
    bulk: bool = False
    paid: bool = False
    waiter: Any = None
    withdrawn: bool = False


@dataclass(slots=True)
class _Chat:
    bucket: Bucket | None
    window: Window | None
    sent: deque[float] = field(default_factory=lambda: deque(maxlen=_GROUP_A_MINUTE))
    blocked: float = 0.0
    unexplained: bool = False
    waiting: tuple[deque[Ticket], deque[Ticket]] = field(default_factory=lambda: (deque(), deque()))

    def ready_at(self, items: int) -> float:
        ready = self.blocked
        if self.bucket is not None:
            ready = max(ready, self.bucket.ready_at(items))
        if self.window is not None:
            ready = max(ready, self.window.ready_at(items))
        return ready

    def record(self, items: int, now: float) -> None:
        if self.bucket is not None:
            self.bucket.record(items, now)
        if self.window is not None:
            self.window.record(items, now)
        self.sent.extend([now] * min(items, _GROUP_A_MINUTE))

    def sent_since(self, since: float) -> int:
        return sum(at > since for at in self.sent)

    def is_over(self, now: float) -> bool:
        idle = not self.sent or self.sent[-1] <= now - FLEETING
        full = self.bucket is None or self.bucket.ready_at(1) <= now
        return idle and full and self.blocked <= now and not any(self.waiting)


class Flood:
    """Within a chat those who wait are served in order; of the chats that may be sent to, each in turn."""

    def __init__(self, rates: Rates | None = None) -> None:
        self._rates = rates or Rates()
        self._bot = Window(self._rates.bot_per_second, 1.0) if self._rates.bot_per_second > 0 else None
        self._sent: deque[float] = deque(maxlen=_BOT_A_SECOND)
        self._everybody = 0.0
        self._chats: dict[Place, _Chat] = {}
        self._ready: tuple[deque[Place], deque[Place]] = (deque(), deque())
        self._sleeping: list[tuple[float, int, Place, bool]] = []
        self._number = 0
        self._in_a_row = 0
        self._taken = 0

    def take(self, place: Place, items: int, now: float, *, bulk: bool = False, paid: bool = False) -> bool:
        """A slot at once, if there is one and nobody waits for it; it is used up."""
        self._tidy(now)
        interactive, waiting_bulk = self._ready
        if now < self._everybody or interactive or (waiting_bulk and (bulk or self._in_a_row >= INTERACTIVE_IN_A_ROW)):
            return False
        chat = self._chat(place)
        if any(chat.waiting) or chat.ready_at(items) > now or (not paid and self._bot_ready(items) > now):
            return False
        self._record(chat, items, now, paid=paid)
        self._in_a_row = 0 if bulk else self._in_a_row + 1
        return True

    def ask(self, ticket: Ticket, now: float) -> None:
        """Wait for a slot; `grant` gives it."""
        chat = self._chat(ticket.place)
        waiting = chat.waiting[ticket.bulk]
        waiting.append(ticket)
        if len(waiting) == 1:
            self._line_up(ticket.place, chat, now, bulk=ticket.bulk)

    def withdraw(self, ticket: Ticket) -> None:
        """Wait no more. A slot that was granted is used up all the same."""
        ticket.withdrawn = True

    def grant(self, now: float) -> list[Ticket]:
        """Those whose turn has come; their slots are used up."""
        while self._sleeping and self._sleeping[0][0] <= now:
            _, _, sleeper, later = heapq.heappop(self._sleeping)
            self._ready[later].append(sleeper)
        granted: list[Ticket] = []
        while now >= self._everybody and (bulk := self._whose_turn()) is not None:
            place = self._ready[bulk][0]
            chat = self._chats.get(place)
            ticket = _first(chat.waiting[bulk]) if chat is not None else None
            if chat is None or ticket is None:
                self._ready[bulk].popleft()
                continue
            if chat.ready_at(ticket.items) > now:
                self._ready[bulk].popleft()
                self._line_up(place, chat, now, bulk=bulk)
                continue
            if not ticket.paid and self._bot_ready(ticket.items) > now:
                break
            self._ready[bulk].popleft()
            chat.waiting[bulk].popleft()
            self._record(chat, ticket.items, now, paid=ticket.paid)
            self._in_a_row = 0 if bulk else self._in_a_row + 1
            granted.append(ticket)
            if chat.waiting[bulk]:
                self._line_up(place, chat, now, bulk=bulk)
        return granted

    def wake_at(self) -> float | None:
        """When `grant` may have more to give; None when nobody waits."""
        moments = [self._sleeping[0][0]] if self._sleeping else []
        if (bulk := self._whose_turn()) is not None:
            known = self._chats.get(self._ready[bulk][0])
            ticket = _first(known.waiting[bulk]) if known is not None else None
            moments.append(0.0 if ticket is None or ticket.paid else self._bot_ready(ticket.items))
        return max(min(moments), self._everybody) if moments else None

    def blocked(self, place: Place, now: float) -> float:
        """Seconds for which Telegram has forbidden calls to this chat, or all calls; 0 for none."""
        chat = self._chats.get(place)
        return max(self._everybody - now, chat.blocked - now if chat is not None else 0.0, 0.0)

    def refused(self, place: Place, retry_after: float, now: float) -> Blame:
        """A call was answered with 429; from what was sent lately follows whom it means, and only they wait.

        A group that has had its 20 within a minute, or a chat that has had more than one message within a second, is
        meant itself. Otherwise it is the bot, when it has sent some 30 within a second, when the call belongs to no
        chat, or when another chat waits for a reason as unknown as this one's. Otherwise it is the chat.
        """
        until = now + max(retry_after, 0.0)
        chat = self._chat(place)
        blame = self._blame(place, chat, now)
        if blame is Blame.BOT:
            self._everybody = max(self._everybody, until)
        else:
            chat.blocked = max(chat.blocked, until)
        return blame

    def __len__(self) -> int:
        """How many chats it has in mind."""
        return len(self._chats)

    def _blame(self, place: Place, chat: _Chat, now: float) -> Blame:
        if is_group(place) and chat.sent_since(now - 60.0) >= _GROUP_A_MINUTE:
            return Blame.GROUP
        if place is not None and chat.sent_since(now - 1.0) >= _CHAT_A_SECOND:
            return Blame.CHAT
        others = (one for one in self._chats.values() if one is not chat and one.unexplained and one.blocked > now)
        if place is None or sum(at > now - 1.0 for at in self._sent) >= _BOT_A_SECOND or any(others):
            return Blame.BOT
        chat.unexplained = True
        return Blame.CHAT

    def _whose_turn(self) -> bool | None:
        """Whether it is the bulk's turn; None when nobody is ready."""
        interactive, bulk = self._ready
        if interactive and bulk:
            return self._in_a_row >= INTERACTIVE_IN_A_ROW
        return bool(bulk) if interactive or bulk else None

    def _line_up(self, place: Place, chat: _Chat, now: float, *, bulk: bool) -> None:
        ticket = _first(chat.waiting[bulk])
        if ticket is None:
            return
        ready_at = chat.ready_at(ticket.items)
        if ready_at <= now:
            self._ready[bulk].append(place)
        else:
            self._number += 1
            heapq.heappush(self._sleeping, (ready_at, self._number, place, bulk))

    def _record(self, chat: _Chat, items: int, now: float, *, paid: bool) -> None:
        chat.record(items, now)
        if not paid:
            self._sent.extend([now] * min(items, _BOT_A_SECOND))
            if self._bot is not None:
                self._bot.record(items, now)

    def _bot_ready(self, items: int) -> float:
        return self._bot.ready_at(items) if self._bot is not None else 0.0

    def _chat(self, place: Place) -> _Chat:
        chat = self._chats.get(place)
        if chat is None:
            rates = self._rates
            bucket = Bucket(rates.chat_per_second, max(1, rates.chat_burst)) if rates.chat_per_second > 0 else None
            window = Window(rates.group_per_minute, 60.0) if rates.group_per_minute > 0 and is_group(place) else None
            chat = self._chats[place] = _Chat(bucket if place is not None else None, window)
        return chat

    def _tidy(self, now: float) -> None:
        """Forget chats of which nothing matters any more."""
        self._taken += 1
        if self._taken % _TIDY_EVERY == 0:
            self._chats = {place: chat for place, chat in self._chats.items() if not chat.is_over(now)}


def is_group(place: Place) -> bool:
    """Groups and channels have negative ids or @names; people never have a name here that a bot may write to."""
    return isinstance(place, str) or (place is not None and place < 0)


def _first(waiting: deque[Ticket]) -> Ticket | None:
    while waiting and waiting[0].withdrawn:
        waiting.popleft()
    return waiting[0] if waiting else None
