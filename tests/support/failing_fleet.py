"""A whole stack with one bot for each class of failure, each with its own fault, and what is known of them."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
from typer.testing import CliRunner

from botctl.cli.main import app
from support import why_outputs
from support.stack import Stack, eventually, new_stack, token

SHOP = {"handlers": "failing.shop:register", "limits": {"attempts": 1}}

FLEET: dict[str, dict[str, Any]] = {
    "bystander": SHOP,
    "licence": {"handlers": "failing.shop:register_with_licence", "restart": {"intensity": 2}},
    "segfault": SHOP,
    "exit_quietly": SHOP,
    "call_exit": SHOP,
    "hang": SHOP | {"restart": {"heartbeat_timeout": "2s"}},
    "slow": {"handlers": "failing.slow_import:register", "restart": {"ready_timeout": "3s", "intensity": 1}},
    "missing": {"handlers": "no_such_module:register"},
    "typo": {"handlers": "failing.typo:register"},
    "mistaken": {"handlers": "failing.shop:register_wrongly"},
    "leaving": {"handlers": "failing.leaving:register"},
    "revoked": SHOP,
    "rival": SHOP,
    "rival_at_start": SHOP | {"restart": {"ready_timeout": "6s"}},
    "flooded_at_start": SHOP | {"restart": {"ready_timeout": "5s"}},
    "flooded": SHOP,
    "thoughtless": {"assistant": {"base_url": "http://127.0.0.1:9/v1", "retries": 0}},
    "hoard": SHOP | {"limits": {"attempts": 1, "memory": "400M", "memory_soft": "70M"}},
    "overeat": SHOP | {"limits": {"attempts": 1, "memory": "200M"}},
    "swallow": SHOP | {"limits": {"attempts": 1, "memory": "200M"}},
    "killed": SHOP,
    "no_process": SHOP,
    "babble": SHOP,
    "resting": SHOP,
}
"""By name; a bot whose name is a command of `failing.shop` breaks on it."""

TROUBLED = frozenset(
    ["licence", "slow", "missing", "typo", "mistaken", "leaving", "revoked", "rival_at_start", "flooded_at_start"]
)
"""Those whose trouble begins with their start."""

IDS = {name: 7410000001 + place for place, name in enumerate(FLEET)}

PERSON = {"id": 1, "first_name": "Ada"}


class FailingFleet:
    """What tests do with it."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        transport = httpx.HTTPTransport(uds=str(stack.data / "run" / "api.sock"))
        shown = {"Authorization": f"Bearer {(stack.data / 'api.token').read_text()}"}
        self._api = httpx.Client(transport=transport, headers=shown, timeout=10)

    def bots(self) -> dict[str, dict[str, Any]]:
        """The status of all bots by name."""
        answer = self._api.get("http://botctl/v1/status").raise_for_status().json()
        return {bot["name"]: bot for bot in answer["bots"]}

    def bot(self, name: str) -> dict[str, Any]:
        """The status of one."""
        return self.bots()[name]

    def deaths(self, name: str) -> list[dict[str, Any]]:
        """Its deaths, newest first."""
        answer = self._api.get(f"http://botctl/v1/bots/{name}/deaths", params={"limit": 20}).raise_for_status().json()
        return [dict(death) for death in answer["deaths"]]

    async def until(self, name: str, state: str, *, restarts: int | None = None) -> dict[str, Any]:
        """Wait until a bot is so."""

        def reached() -> dict[str, Any] | None:
            bot = self.bots().get(name)
            if bot is None:
                return None  # commands are served a moment before the fleet is taken over
            return bot if bot["state"] == state and restarts in (None, bot["restarts"]) else None

        found: dict[str, Any] = await eventually(reached, f"{name} is {state}, restarts: {restarts}", 30)
        return found

    async def died(self, name: str, failure: str) -> dict[str, Any]:
        """Wait for its first death, which must be of this class."""
        (death,) = await eventually(lambda: self.deaths(name), f"{name} has died of {failure}", 30)
        assert death["failure"] == failure, death
        return dict(death)

    async def say(self, name: str, text: str) -> None:
        """Write to a bot."""
        async with self.stack.sandbox() as telegram:
            await telegram.say(IDS[name], 1, text, PERSON)

    async def replies(self, name: str) -> list[str]:
        """What it has said."""
        async with self.stack.sandbox() as telegram:
            found = await telegram.transcript(IDS[name], 1)
        return [message["text"] for message in found if message.get("from", {}).get("is_bot")]

    async def answers(self, name: str, text: str = "hello") -> None:
        """It does its job."""
        await self.say(name, text)

        async def answered() -> bool:
            return f"echo {text}" in await self.replies(name)

        await eventually(answered, f"{name} answers", 20)

    def why(self, name: str, *arguments: str, keep_as: str = "") -> str:
        """What `botctl why` prints, in this process; kept when somebody asked for it."""
        done = CliRunner().invoke(app, ["why", name, "--data-dir", str(self.stack.data), *arguments])
        assert done.exit_code == 0, done.output
        why_outputs.keep(keep_as or name, done.stdout, self.stack.folder)
        return done.stdout

    def close(self) -> None:
        """End the connection."""
        self._api.close()


class Rival:
    """Somebody else who polls with a bot's token, as a forgotten copy on another machine does."""

    def __init__(self, stack: Stack, name: str) -> None:
        self._url = f"{stack.urls['telegram'].rstrip('/')}/bot{token(IDS[name])}/getUpdates"
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._poll, name=f"rival of {name}")

    def __enter__(self) -> Rival:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(10)

    def _poll(self) -> None:
        with httpx.Client(timeout=10) as client:
            while not self._over.is_set():
                with contextlib.suppress(httpx.HTTPError):
                    client.post(self._url, data={"timeout": "2"})


@contextlib.contextmanager
def failing_fleet() -> Iterator[FailingFleet]:
    """Start it, with the faults that have to be there from the beginning."""
    with new_stack() as stack:
        shutil.copytree(Path(__file__).with_name("failing"), stack.folder / "failing")
        (stack.folder / "failing" / "typo.py").write_text("def register(app, bot)\n    pass\n")
        stack.write_fleet(*({"name": name, "token": token(IDS[name]), **bot} for name, bot in FLEET.items()))
        asyncio.run(_refuse(stack))
        stack.start()
        fleet = FailingFleet(stack)
        try:
            yield fleet
        finally:
            fleet.close()


async def _refuse(stack: Stack) -> None:
    async with stack.sandbox() as telegram:
        await telegram.inject_fault("*", bot_id=IDS["revoked"], status=401, description="Unauthorized", times=None)
        await telegram.inject_fault("getUpdates", bot_id=IDS["flooded_at_start"], status=429, retry_after=9)
        conflict = "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running"
        await telegram.inject_fault(
            "getUpdates", bot_id=IDS["rival_at_start"], status=409, description=conflict, times=None
        )
