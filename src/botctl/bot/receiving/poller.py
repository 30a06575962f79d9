"""The poller: getUpdates, store, commit, and only then the next getUpdates, which acknowledges.

Never handles an update and never drops one that could be stored. Offsets live in memory only: a new incarnation asks
without one and the inbox's key drops what it has.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Callable

import structlog
from telegram.error import NetworkError

from botctl.bot.faults import brief
from botctl.bot.receiving.intake import Intake
from botctl.bot.receiving.raw_answer import RawAnswer
from botctl.bot.receiving.token_refusal import BadTokenError
from botctl.bot.receiving.updates import ALLOWED_UPDATES, Batch, read_batch
from botctl.bot.sending.transport import Transport
from botctl.bot.vitals.health import Health, Trouble
from botctl.bus.backoff import Backoff
from botctl.security.threat.talkers import Talkers

_log = structlog.get_logger("botctl.bot.receiving.poller")

LONG_POLL = 25
"""Seconds Telegram holds an empty getUpdates."""

_MOST = 100
"""Updates in one answer, which is as many as Telegram gives."""

_PATIENCE = 10.0
"""Seconds beyond the long poll after which a connection counts as dead."""

CONFLICT_AFTER = 30.0
"""Seconds of 409 after which somebody else polls this bot: after a kill, our own old poll may be held that long."""

TOLD_WAIT = 5.0
"""Seconds for which Telegram tells us not to poll that are worth telling; shorter ones are an ordinary day's."""

_ALLOWED = json.dumps(ALLOWED_UPDATES)


class Poller:
    """Runs until it is cancelled, or raises BadTokenError. `on_ready` is called after the first success.

    `ready_timeout` is the time, in seconds, after which a bot that is not ready and doesn't say why is ended.
    """

    def __init__(
        self,
        transport: Transport,
        url: str,
        intake: Intake,
        health: Health,
        *,
        on_ready: Callable[[], None],
        clock: Callable[[], float],
        ready_timeout: float = 2 * CONFLICT_AFTER,
    ) -> None:
        self._transport = transport
        self._url = f"{url}/getUpdates"
        self._intake = intake
        self._health = health
        self._on_ready = on_ready
        self._clock = clock
        self.talkers = Talkers()
        self._offset: int | None = None
        self._ready = False
        self._conflict = Backoff(first=0.1, limit=5.0)
        self._network = Backoff(first=0.1, limit=5.0)
        self._barren = Backoff(first=0.5, limit=30.0)
        self._conflict_since: float | None = None
        # Who says what keeps it is not ended as one that never got ready.
        self._patience = min(CONFLICT_AFTER, ready_timeout / 2)
        self.last_poll = clock()
        self.last_commit = clock()
        """When updates were last committed; before that, when this began."""
        self._held_until = 0.0
        self.stored = asyncio.Event()
        """Set as long as everything received is stored; a batch between Telegram and the database clears it."""
        self.stored.set()

    @property
    def held(self) -> float:
        """Seconds for which Telegram has told us not to poll; 0 when it hasn't."""
        return max(0.0, self._held_until - self._clock())

    async def run(self) -> None:
        """Poll. Raises BadTokenError."""
        while True:
            answer = await self._ask()
            if answer is None:
                continue
            if answer.status == 200:
                await self._take(answer)
            else:
                await self._refused(answer)

    async def _ask(self) -> RawAnswer | None:
        wait = LONG_POLL if self._ready else 0
        data = {"timeout": str(wait), "limit": str(_MOST), "allowed_updates": _ALLOWED}
        if self._offset is not None:
            data["offset"] = str(self._offset)
        try:
            return RawAnswer(*await self._transport.request("POST", self._url, data=data, timeout=wait + _PATIENCE))
        except NetworkError as error:
            await self._unreachable(brief(error))
            return None

    async def _take(self, answer: RawAnswer) -> None:
        try:
            batch = read_batch(answer.body, _trace_id)
        except (ValueError, RecursionError) as error:
            await self._unreachable(f"unreadable answer: {brief(error, 100)}")
            return
        self._succeeded()
        if batch.rows:
            self.stored.clear()
            await self._store(batch)
            self.stored.set()
        for reason in batch.unusable:
            _log.error("an update can't be used and is dropped", reason=reason[:200])
        if batch.unusable and batch.next_offset is None:
            # Nothing acknowledges them; asked again at once, Telegram gives them again at once.
            await asyncio.sleep(self._barren.next())
        else:
            self._barren.reset()
        # What an empty answer has confirmed needs no offset any more, and ids may begin anew after a quiet week.
        self._offset = batch.next_offset

    async def _store(self, batch: Batch) -> None:
        # A full answer is a part of a backlog: only behind its end stands what was written just now.
        new = await self._intake.store(batch.rows, old=len(batch.rows) >= _MOST)
        self.last_commit = self._clock()
        self._health.count("updates", len(new))
        for row in batch.rows:
            if row.cause in new:
                self.talkers.saw(row.sender, self.last_commit)
            if row.cause in new and row.dead is not None:
                self._health.count("dead_letters")
                _log.error("an unreadable update became a dead letter", cause=row.cause, reason=row.dead[:200])
            elif row.cause in new:
                _log.info("update received", cause=row.cause, kind=row.kind, lane=row.lane, trace_id=row.trace_id)

    def _succeeded(self) -> None:
        self.last_poll = self._clock()
        self._conflict.reset()
        self._network.reset()
        self._conflict_since = None
        self._health.well(Trouble.TELEGRAM)
        self._health.well(Trouble.CONFLICT)
        if not self._ready:
            self._ready = True
            self._on_ready()

    async def _refused(self, answer: RawAnswer) -> None:
        match answer.status:
            case 401 | 404 if answer.refuses_the_token:
                raise BadTokenError(answer.description)
            case 409:
                await self._conflicting(answer)
            case 429:
                self.last_poll = self._clock()
                self._held_until = self.last_poll + answer.retry_after
                _log.warning("polling too fast", retry_after=answer.retry_after)
                if not self._ready or answer.retry_after >= TOLD_WAIT:
                    wait = f"telegram asks us not to poll for {answer.retry_after:.0f} s"
                    self._health.trouble(Trouble.TELEGRAM, wait)
                await asyncio.sleep(answer.retry_after)
            case _:
                await self._unreachable(answer.description)

    async def _conflicting(self, answer: RawAnswer) -> None:
        now = self._clock()
        if self._conflict_since is None:
            self._conflict_since = now
            _log.warning("another poll of this bot is held", detail=answer.description)
        if "webhook" in answer.description.lower():
            await self._drop_webhook()  # again and again: it may have failed, or somebody sets it anew
        if now - self._conflict_since >= (CONFLICT_AFTER if self._ready else self._patience):
            self._health.trouble(Trouble.CONFLICT, f"another process polls this bot ({answer.description})")
        await asyncio.sleep(self._conflict.next())

    async def _drop_webhook(self) -> None:
        url = self._url.removesuffix("getUpdates") + "deleteWebhook"
        try:
            await self._transport.request("POST", url, data={"drop_pending_updates": "false"})
        except NetworkError as error:
            _log.warning("webhook not deleted", error=brief(error))
        else:
            _log.warning("a webhook was set for this bot; it has been deleted")

    async def _unreachable(self, reason: str) -> None:
        self._health.trouble(Trouble.TELEGRAM, "telegram is not reachable")
        delay = self._network.next()
        _log.warning("getUpdates failed", reason=reason, retry_in=round(delay, 2))
        await asyncio.sleep(delay)


def _trace_id() -> str:
    return secrets.token_hex(8)
