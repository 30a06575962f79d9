"""Requests and replies between bots, as the router sees them: who may ask whom, and which replies somebody waits for.

Pure: time is an argument. A request is an event with `to` and `deadline`; a reply is one with `reply_to`, of the
request's type. Both go to one mailbox; the log keeps them without their data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from botctl.bus.event_types.catalogue import lookup
from botctl.bus.event_types.conditions import Condition, compile_condition
from botctl.bus.event_types.subscriptions import matches
from botctl.bus.events import Event
from botctl.bus.routing.roster import Roster
from botctl.errors import ProtocolError

LONGEST_TIMEOUT = 600.0
"""Seconds ahead that a deadline may lie."""

MOST_OPEN = 1_000
"""Requests of one bot that nobody has answered yet; more are refused at once."""

_LATE = 60.0
"""Seconds after its deadline for which a request is remembered, so that a late reply is known as one."""


class Refusal(StrEnum):
    """What `error` of a reply says: why there is no answer. The first six are the router's, the others the bot's."""

    INVALID = "invalid"
    EXPIRED = "expired"
    NO_SUCH_BOT = "no such bot"
    UNWILLING = "unwilling"
    BUSY = "busy"
    TOO_LARGE = "too large"
    UNHANDLED = "unhandled"
    FAILED = "failed"


@dataclass(frozen=True)
class Refused:
    """Why a request isn't delivered; `detail` is for the developer who asked."""

    why: Refusal
    detail: str


class Switchboard:
    """`began` is when the router did: for a while replies to what its predecessor may have delivered are let through,
    from bots that answer such requests; what nobody has asked, the asker itself drops."""

    def __init__(self, began: float) -> None:
        self._began = began
        self._roster = Roster()
        self._names: Mapping[str, int] = {}
        self._answers: dict[int, tuple[tuple[str, Condition | None], ...]] = {}
        self._open: dict[int, dict[str, tuple[int, float]]] = {}
        """By asker and request: who was asked, and the deadline."""
        self._swept = began

    def update(self, roster: Roster) -> None:
        """The fleet as it is now."""
        if roster is self._roster or roster == self._roster:
            return
        self._roster = roster
        self._names = roster.ids()
        self._answers = {
            bot: tuple((entry.type, compile_condition(entry, self._names)) for entry in one.answers)
            for bot, one in roster.bots.items()
            if one.answers
        }

    def name(self, bot_id: int) -> str:
        """The bot's name, empty if it has none."""
        member = self._roster.bots.get(bot_id)
        return member.name if member is not None else ""

    def admit(self, event: Event, asker: int, now: float) -> int | Refused:
        """The bot to deliver a request to, or why not. Nothing is remembered before `delivered`."""
        if not event.deadline or event.error or not isinstance(event.to, str):
            return Refused(Refusal.INVALID, "a request has `to` and `deadline`, and no `error`")
        if event.deadline > now + LONGEST_TIMEOUT + 5:
            return Refused(Refusal.INVALID, f"a deadline lies at most {LONGEST_TIMEOUT:.0f} s ahead")
        if event.deadline <= now:
            return Refused(Refusal.EXPIRED, "its deadline was over before it could be delivered")
        if lookup(event.type) is not None:
            return Refused(Refusal.INVALID, f"{event.type} is an event of botctl's own and can't be a request")
        target = self._find(event.to)
        if target is None or not self.name(target):
            return Refused(Refusal.NO_SUCH_BOT, f"the fleet has no bot {event.to}")
        if not any(
            matches(pattern, event.type) and (condition is None or condition(event.data, asker))
            for pattern, condition in self._answers.get(target, ())
        ):
            return Refused(Refusal.UNWILLING, f"`answers:` of {self.name(target)} doesn't let this request in")
        self._sweep(now)
        if len(self._open.get(asker, ())) >= MOST_OPEN:
            return Refused(Refusal.BUSY, f"{MOST_OPEN} requests of this bot are waiting for answers already")
        return target

    def delivered(self, asker: int, request_id: str, target: int, deadline: float) -> None:
        """A request is in the target's mailbox."""
        self._open.setdefault(asker, {})[request_id] = (target, deadline)

    def expects(self, event: Event, replier: int, now: float) -> int | None:
        """The asker that waits for this reply; None: nobody, or not any more.

        The asker looks for itself whom it has asked; this keeps replies nobody asked for out of its mailbox.
        """
        if not isinstance(event.to, str) or not isinstance(event.reply_to, str) or event.deadline:
            raise ProtocolError("a reply has `to` and `reply_to`, and no `deadline`")
        asker = self._find(event.to)
        if asker is None:
            return None
        found = self._open.get(asker, {}).get(event.reply_to)
        if found is None:
            young = now - self._began < LONGEST_TIMEOUT + _LATE
            could = any(matches(pattern, event.type) for pattern, _ in self._answers.get(replier, ()))
            return asker if young and could and asker in self._roster.bots else None
        target, deadline = found
        return asker if target == replier and now <= deadline and asker in self._roster.bots else None

    def replied(self, asker: int, request_id: str) -> None:
        """A reply is in the asker's mailbox."""
        self._open.get(asker, {}).pop(request_id, None)

    def _find(self, named: str) -> int | None:
        """By name, or by `bot:<id>` or plain id."""
        found = self._names.get(named)
        if found is not None:
            return found
        digits = named.removeprefix("bot:")
        if not digits.isdecimal() or not digits.isascii():
            return None
        return int(digits) if int(digits) in self._roster.bots else None

    def _sweep(self, now: float) -> None:
        if now - self._swept < 1.0:
            return
        self._swept = now
        for asker, requests in list(self._open.items()):
            for request_id in [one for one, (_, deadline) in requests.items() if now > deadline + _LATE]:
                del requests[request_id]
            if not requests:
                del self._open[asker]
