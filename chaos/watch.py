"""Looks at the fleet twice a second, as `status` tells it, and notes whatever witnesses must not show.

A witness is a bot that nobody harms: its process, its restarts, its state and its heartbeat are looked at. What the
servers' faults may do to all (pause them) is excused while they last; what may not happen then either is not.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from support.stack import Stack

EVERY = 0.5
SILENCE = 20.0
"""Seconds for which `control` may give no answer while nobody harms it or its database."""

WELL = ("running",)
HARMED = ("running", "degraded", "paused", "starting")
"""States of a witness while a server is away. `starting`: one that was paused before it had been ready."""


@dataclass
class Watched:
    """What is known of one bot."""

    name: str
    victim_of: str = ""
    """The fault it suffers from; empty for a witness."""
    baseline: tuple[int, int] | None = None
    """Pid and restarts that it must keep, as a witness."""
    last: dict[str, Any] = field(default_factory=dict)


class Watch:
    """Polls until cancelled. `violations` are sentences; empty is well."""

    def __init__(self, stack: Stack, names: list[str], heartbeat_timeout: float) -> None:
        self._oldest = heartbeat_timeout + 1.0
        self.bots = [Watched(name) for name in names]
        self.violations: list[str] = []
        self.heartbeats: list[float] = []
        self.looks = 0
        self._harmed = 0
        self._pausing = 0
        self._pausing_until = 0.0
        self._heard_at = time.monotonic()
        self._data = stack.data
        self._session = aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(str(stack.data / "run" / "api.sock")),
            timeout=aiohttp.ClientTimeout(total=10.0),
        )

    # --- the API ---------------------------------------------------------------------------------------------------

    async def get(self, path: str) -> Any:
        """The JSON of an answer; None while `control` gives none."""
        with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError, ValueError):
            async with self._session.get(f"http://botctl{path}", headers=self._shown()) as answer:
                if answer.status == 200:
                    return await answer.json()
        return None

    async def post(self, path: str) -> bool:
        """Whether a command was accepted."""
        with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
            async with self._session.post(f"http://botctl{path}", headers=self._shown()) as answer:
                return answer.status < 300
        return False

    def _shown(self) -> dict[str, str]:
        """The daemon's token, which is a new one at each of its starts."""
        return {"Authorization": f"Bearer {(self._data / 'api.token').read_text()}"}

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    # --- victims and servers ---------------------------------------------------------------------------------------

    def take_as_victim(self, bot: int, fault: str) -> None:
        """It is harmed from now on; nothing is demanded of it."""
        self.bots[bot].victim_of = fault
        self.bots[bot].baseline = None

    def make_witness(self, bot: int, sight: dict[str, Any] | None) -> None:
        """It is well again, as its status says; from now on it is a witness."""
        self.bots[bot].victim_of = ""
        self.bots[bot].baseline = (sight["pid"], sight["restarts"]) if sight is not None else None
        self.bots[bot].last = {}

    @contextlib.contextmanager
    def harmed(self, *, bots_need_it: bool) -> Iterator[None]:
        """While a server is away `control` may be silent; witnesses may pause when it is one that they need."""
        self._harmed += 1
        self._pausing += bots_need_it
        try:
            yield
        finally:
            self._harmed -= 1
            self._pausing -= bots_need_it
            self._heard_at = time.monotonic()
            if bots_need_it:
                self._pausing_until = time.monotonic() + 2.0

    @property
    def excused(self) -> bool:
        """Whether a server that bots need is away, or was just now."""
        return self._pausing > 0 or time.monotonic() < self._pausing_until

    # --- looking ---------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Look, twice a second."""
        while True:
            await self.look()
            await asyncio.sleep(EVERY)

    async def look(self) -> None:
        """One look."""
        excused = self.excused
        witnesses = {one.name for one in self.bots if not one.victim_of}
        body = await self.get("/v1/status")
        now = time.monotonic()
        if body is None:
            self._silent(now)
            return
        self._heard_at = now
        self.looks += 1
        found = {bot["name"]: bot for bot in body["bots"]}
        for watched in self.bots:
            bot = found.get(watched.name)
            if bot is None:
                self._object(watched, "is not in the status")
                continue
            watched.last = bot
            if watched.name in witnesses and not watched.victim_of:
                self._check(watched, bot, excused or self.excused)

    def _silent(self, now: float) -> None:
        silence = now - self._heard_at
        if silence > SILENCE and not self._harmed:
            self._heard_at = now
            self.violations.append(f"control gave no answer for {silence:.0f} s")

    def _check(self, watched: Watched, bot: dict[str, Any], excused: bool) -> None:
        identity = (bot["pid"], bot["restarts"])
        if watched.baseline is None and bot["state"] == "running":
            watched.baseline = identity
        if watched.baseline is not None and identity != watched.baseline:
            before, watched.baseline = watched.baseline, identity
            self._object(
                watched,
                f"had pid {before[0]} and {before[1]} restarts, has pid {identity[0]} and {identity[1]} restarts "
                f"({bot['last_failure']}: {bot['reason']})",
            )
        if bot["state"] not in (HARMED if excused else WELL):
            self._object(watched, f"is {bot['state']}: {bot['reason']}")
        age = bot["heartbeat_age_s"]
        if age is None or age > self._oldest:
            self._object(watched, f"has a heartbeat {age} s old, and nobody acts")
        else:
            self.heartbeats.append(age)

    def _object(self, watched: Watched, what: str) -> None:
        sentence = f"witness {watched.name} {what}"
        if sentence not in self.violations[-20:]:
            self.violations.append(sentence)
