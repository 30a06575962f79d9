"""Delivers updates to webhooks, as the public source of the Bot API server does (`WebhookActor.cpp`).

In order within a chat, concurrently across chats, over at most `max_connections`. Anything but 2xx keeps the update:
it is tried again at once, then after 2, 4, 8 … seconds up to a minute or two (or when Retry-After says), for 24 hours,
and holds up the later ones of its chat. An answer may hold a method call, which is carried out; its result is nobody's.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp

from botctl.sandbox.faults.spec import Disorder, FaultSpec, When
from botctl.sandbox.telegram.errors import ApiError
from botctl.sandbox.telegram.parameters import Parameters
from botctl.sandbox.telegram.updates import Update
from botctl.sandbox.telegram.webhook_parts import chat_of, lane_of, read_call

if TYPE_CHECKING:
    from botctl.sandbox.telegram.bots import Bot
    from botctl.sandbox.telegram.world import World

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
READ_TIMEOUT = 60.0
LONGEST_DELAY = 60.0
"""Seconds; the real server draws from here to twice as long."""
LONGEST_RETRY_AFTER = 3600
WINDOW = 2
"""Updates looked at for each connection, as the real server loads them."""
SECRET_HEADER = "X-Telegram-Bot-Api-Secret-Token"


class DeliveryError(Exception):
    """A delivery failed; the message is for last_error_message. `retry_after` in seconds, 0 for none."""

    def __init__(self, message: str, retry_after: int = 0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


@dataclass(slots=True)
class _Tries:
    """What came of an update so far. `due` is of the monotonic clock."""

    fails: int = 0
    delay: float = 1.0
    due: float = 0.0


class Webhook:
    """One bot's webhook, from `start` to `stop`."""

    def __init__(self, world: World, bot: Bot, url: str, secret: str, connections: int, certificate: bool) -> None:
        self.url = url
        self._world = world
        self._bot = bot
        self._secret = secret
        self._connections = connections
        self._certificate = certificate
        self._task: asyncio.Task[None] | None = None
        self._flying: dict[int, asyncio.Task[None]] = {}
        self._lanes: dict[int, int] = {}
        self._tries: dict[int, _Tries] = {}
        self._error: tuple[int, str] | None = None

    def start(self) -> None:
        """Begin to deliver."""
        self._task = asyncio.create_task(self._run())

    def stop(self) -> None:
        """Deliver no more; what is on its way is cut and stays in the queue."""
        for task in (self._task, *self._flying.values()):
            if task is not None:
                task.cancel()

    def about(self) -> dict[str, Any]:
        """Its part of WebhookInfo."""
        about: dict[str, Any] = {
            "url": self.url,
            "has_custom_certificate": self._certificate,
            "max_connections": self._connections,
            "ip_address": "127.0.0.1",
        }
        if self._error is not None:
            about["last_error_date"], about["last_error_message"] = self._error
        return about

    async def _run(self) -> None:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=READ_TIMEOUT)) as session:
            while True:
                wait = self._launch(session)
                await self._bot.updates.changed.wait(wait)

    def _launch(self, session: aiohttp.ClientSession) -> float:
        """Start what may be delivered now; seconds until the next one is due."""
        now = time.monotonic()
        soonest = now + LONGEST_DELAY
        blocked: set[int] = set()
        for update in self._bot.updates.first(WINDOW * self._connections):
            lane = lane_of(update)
            if update.update_id in self._flying or lane in self._lanes or lane in blocked:
                continue
            tries = self._tries.setdefault(update.update_id, _Tries())
            if tries.due > now:
                soonest = min(soonest, tries.due)
                blocked.add(lane)
                continue
            if len(self._flying) >= self._connections:
                break
            self._lanes[lane] = update.update_id
            self._flying[update.update_id] = asyncio.create_task(self._deliver(session, update, lane, tries))
        return max(0.0, soonest - now)

    async def _deliver(self, session: aiohttp.ClientSession, update: Update, lane: int, tries: _Tries) -> None:
        try:
            again = await self._try(session, update)
        except DeliveryError as error:
            self._failed(update, tries, error)
        else:
            self._tries.pop(update.update_id, None)
            self._bot.updates.confirm(update)
            if again:
                self._bot.updates.put_back(update)
        finally:
            del self._flying[update.update_id]
            self._lanes.pop(lane, None)
            self._bot.updates.changed.notify()

    def _failed(self, update: Update, tries: _Tries, error: DeliveryError) -> None:
        self._error = (int(time.time()), str(error))
        wait = float(error.retry_after)
        if not wait and tries.fails:
            tries.delay = min(random.uniform(LONGEST_DELAY, 2 * LONGEST_DELAY), tries.delay * 2)
            wait = tries.delay * self._world.webhook_pace
        tries.fails += 1
        tries.due = time.monotonic() + wait

    async def _try(self, session: aiohttp.ClientSession, update: Update) -> bool:
        """One delivery, with its fault; whether it is to be made once more. Raises DeliveryError."""
        fault = self._world.faults.take("webhook", self._bot.bot_id, chat_of(update))
        if fault is None:
            await self._post(session, update)
            return False
        spec = fault.spec
        if spec.updates in (Disorder.REVERSED, Disorder.SHUFFLED):
            waiting = self._bot.updates.first(WINDOW * self._connections)
            others = [one for one in waiting if one.update_id not in self._flying]
            if others:
                other = others[-1] if spec.updates is Disorder.REVERSED else fault.dice.choice(others)
                await self._post(session, other)
                self._bot.updates.confirm(other)
        after = spec.when is When.AFTER
        if after:
            await self._post(session, update)
        if spec.hold:
            with self._world.faults.holds.hold(
                fault.fault_id,
                "webhook",
                self._bot.bot_id,
                chat_of(update),
                owner=self,
                effect=after,
                release_on=spec.release_on,
                longest=spec.delay,
            ) as held:
                if not await held.freed:
                    raise DeliveryError("Webhook connection closed")
        elif spec.delay:
            await asyncio.sleep(spec.delay)
        _refuse(spec)
        if not after:
            await self._post(session, update)
            if spec.updates is Disorder.TWICE:
                await self._post(session, update)
        return spec.updates is Disorder.AGAIN

    async def _post(self, session: aiohttp.ClientSession, update: Update) -> None:
        headers = {"Content-Type": "application/json", "Accept-Encoding": "gzip, deflate"}
        if self._secret:
            headers[SECRET_HEADER] = self._secret
        body = json.dumps(update.as_json(), separators=(",", ":")).encode()
        started = time.monotonic()
        status = 0
        try:
            # A webhook of a test has no certificate that anybody would vouch for.
            async with session.post(self.url, data=body, headers=headers, ssl=False) as response:
                status = response.status
                answer = await response.read()
                if not 200 <= status <= 299:
                    wait = response.headers.get("Retry-After", "0")
                    raise DeliveryError(
                        f"Wrong response from the webhook: {status} {response.reason}",
                        min(int(wait), LONGEST_RETRY_AFTER) if wait.isdigit() else 0,
                    )
                called = read_call(answer, response.content_type)
        except TimeoutError:
            raise DeliveryError("Read timeout expired") from None
        except aiohttp.ClientConnectorError as error:
            code = error.os_error.errno
            raise DeliveryError(os.strerror(code) if code else "Connection refused") from None
        except (aiohttp.ClientError, OSError):
            raise DeliveryError("Webhook connection closed") from None
        finally:
            self._world.calls.add(
                self._bot.bot_id,
                "webhook",
                {"update_id": update.update_id},
                status,
                seconds=time.monotonic() - started,
            )
        if called is not None:
            await self._carry_out(called)

    async def _carry_out(self, called: Mapping[str, Any]) -> None:
        """The method call that came as the answer; only its effect counts."""
        from botctl.sandbox.telegram.methods.registry import lookup

        method = lookup(str(called["method"]))
        if method is None or method.function is None:
            return
        parameters = Parameters({key: value for key, value in called.items() if key != "method"})
        status, description = 200, None
        try:
            method.function(self._world, self._bot, parameters)
        except ApiError as error:
            status, description = error.code, error.description
        self._world.calls.add(self._bot.bot_id, method.name, parameters.values, status, description=description)


def _refuse(spec: FaultSpec) -> None:
    if spec.cut or spec.cut_body:
        raise DeliveryError("Webhook connection closed")
    if spec.hang:
        raise DeliveryError("Read timeout expired")
    if spec.code is not None:
        raise DeliveryError(
            f"Wrong response from the webhook: {spec.code} {spec.description or 'Fault'}", spec.retry_after or 0
        )
