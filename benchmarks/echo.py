"""What being durable costs an echo: `benchmarks/echo.py [--updates N] [--rounds N] [--json FILE]`.

A bare python-telegram-bot and a bot of ours with the same handler, at one emulated Telegram with flood control off, are
given N updates (2,000) of 100 chats at once, in turns, each round beginning with the other one. The time is from the
first message to the last answer. Prints the medians of all rounds:

- answers/s, and ours to theirs,
- ms of processor time an update: of the bot, of PostgreSQL, of the emulator,
- what ours asks of the database for one update: statements, BEGIN and COMMIT among them, when each comes alone, and of
  many at once (where the same statement of several updates is one round trip).

An answer that is missing or comes twice ends it with 1.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import asyncpg
from processes import adopt_orphans, cpu, descendants, end, end_all, end_on_signals, finish_undisturbed, title

from botctl.sandbox.client import SandboxClient
from support.stack import Stack, new_stack, token

THEIRS, OURS = 7_700_000_201, 7_700_000_202
CHATS = 100
COUNTED = 500
ALONE = 50
PATIENCE = 120.0
HANDLERS = """
from telegram.ext import MessageHandler, filters

def register(app, bot):
    async def echo(update, context):
        await update.effective_message.reply_text(update.effective_message.text)

    app.add_handler(MessageHandler(filters.TEXT, echo))
"""


class Stage:
    """The two bots, the emulator between them and whoever writes."""

    def __init__(self, stack: Stack, telegram: SandboxClient, bots: dict[int, int]) -> None:
        self._stack = stack
        self._telegram = telegram
        self._bots = bots
        self._said = dict.fromkeys(bots, 0)

    async def answered(self, bot: int) -> int:
        """Messages that the bot has sent so far."""
        stats: dict[str, Any] = await self._telegram.stats(bot)
        return int(stats["calls"].get("sendMessage", 0))

    async def echo(self, bot: int, updates: int) -> dict[str, float]:
        """Have a bot answer so many at once; what it took. Raises RuntimeError when it doesn't."""
        goal = await self.answered(bot) + updates
        before, began = self._used(bot), time.monotonic()
        await self._telegram.say_many(bot, [(1_000_001 + n % CHATS, f"number {n}") for n in range(updates)])
        while (done := await self.answered(bot)) < goal:
            if time.monotonic() - began > PATIENCE:
                raise RuntimeError(f"{goal - done} of {updates} answers are missing")
            await asyncio.sleep(0.03)
        took = time.monotonic() - began
        await asyncio.sleep(0.3)  # what is left to be done after the last answer counts, too
        if await self.answered(bot) != goal:
            raise RuntimeError("an answer came twice")
        used = self._used(bot)
        return {"rate": updates / took} | {who: 1000 * (used[who] - before[who]) / updates for who in used}

    def _used(self, bot: int) -> dict[str, float]:
        """Seconds of processor time so far."""
        family = {pid: title(pid) for pid in descendants(self._stack.daemon_pid)}
        postgres = [pid for pid, name in family.items() if "postgres" in name.partition(" ")[0]]
        emulator = next(pid for pid in descendants(os.getpid()) if "botctl.sandbox" in title(pid))
        return {
            "bot": cpu(self._bots[bot]) or 0.0,
            "postgres": sum(cpu(pid) or 0.0 for pid in postgres),
            "emulator": cpu(emulator) or 0.0,
        }


async def one_by_one(stage: Stage) -> None:
    """Updates of which each comes when the one before is answered."""
    for _ in range(ALONE):
        await stage.echo(OURS, 1)


async def statements(stage: Stage, stack: Stack) -> dict[str, float]:
    """What the bot asks of the database for one update, by the server's own log: alone, and of many at once."""
    database = await asyncpg.connect(stack.database_url)
    folder = stack.data / "postgres" / "log"
    try:
        await database.execute("ALTER SYSTEM SET log_statement = 'all'")
        await database.execute("SELECT pg_reload_conf()")
        await asyncio.sleep(1.0)
        sizes = {path: path.stat().st_size for path in folder.glob("*.json")}
        await one_by_one(stage)
        await asyncio.sleep(1.0)
        alone = said(folder, sizes)
        sizes = {path: path.stat().st_size for path in folder.glob("*.json")}
        await stage.echo(OURS, COUNTED)
        await asyncio.sleep(1.0)
        together = said(folder, sizes)
    finally:
        await database.execute("ALTER SYSTEM RESET log_statement")
        await database.execute("SELECT pg_reload_conf()")
        await database.close()
    if alone < ALONE or together < COUNTED:
        raise RuntimeError("the server's log does not have the statements")
    return {"alone": alone / ALONE, "together": together / COUNTED}


def said(folder: Path, sizes: dict[Path, int]) -> int:
    """Statements of the bot in the server's log, beyond these sizes of its files."""
    user = f'"user":"bot_{OURS}"'.encode()
    return sum(path.read_bytes()[sizes.get(path, 0) :].count(user) for path in folder.glob("*.json"))


def start_peer(stack: Stack) -> subprocess.Popen[bytes]:
    """The bare bot."""
    peer = Path(__file__).with_name("echo_peer.py")
    return subprocess.Popen([sys.executable, str(peer), stack.urls["telegram"], token(THEIRS)])


async def measure(stack: Stack, given: argparse.Namespace) -> dict[str, Any]:
    """Start both, warm them up, and measure in turns."""
    (stack.folder / "echoing.py").write_text(HANDLERS)
    stack.write_fleet({"name": "nora", "token": token(OURS), "handlers": "echoing:register"})
    figures: dict[int, list[dict[str, float]]] = {THEIRS: [], OURS: []}
    async with stack.sandbox() as telegram:
        for bot in figures:
            await telegram.register_bot(token(bot), first_name="Nora", username=f"nora{bot}_bot")
        await telegram.set_limits(flood="off")
        await asyncio.to_thread(stack.start)
        await stack.until_running("nora", timeout=120)
        process = start_peer(stack)
        try:
            stage = Stage(stack, telegram, {THEIRS: process.pid, OURS: int(stack.bot("nora")["pid"])})
            for bot in figures:
                await stage.echo(bot, given.updates // 2)
            for number in range(given.rounds):
                for bot in sorted(figures, reverse=bool(number % 2)):
                    figures[bot].append(await stage.echo(bot, given.updates))
                    print(f"{number + 1}: {'ours' if bot == OURS else 'theirs'} {figures[bot][-1]['rate']:.0f}/s")
            asked = await statements(stage, stack)
        finally:
            end([process.pid])
    found = {
        name: {key: statistics.median(one[key] for one in rows) for key in rows[0]}
        for name, rows in (("theirs", figures[THEIRS]), ("ours", figures[OURS]))
    }
    return found | {"asked": asked}


def show(found: dict[str, Any]) -> None:
    """The result."""
    theirs, ours, asked = found["theirs"], found["ours"], found["asked"]
    print(f"\n{'':24} {'answers/s':>10} {'bot ms':>8} {'PostgreSQL ms':>14} {'emulator ms':>12}")
    for name, one in (("python-telegram-bot", theirs), ("botctl", ours)):
        # The server is ours only; while theirs works it does nothing for them.
        postgres = "" if one is theirs else f"{one['postgres']:.2f}"
        print(f"{name:24} {one['rate']:10.0f} {one['bot']:8.2f} {postgres:>14} {one['emulator']:12.2f}")
    print(f"ours to theirs: {ours['rate'] / theirs['rate']:.2f}")
    print(f"statements of an update: {asked['alone']:.1f} alone, {asked['together']:.1f} of many at once")


def main() -> None:
    """Run once."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--updates", type=int, default=2000, metavar="N", help="updates of a round (2000)")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="rounds of both (5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    given = parser.parse_args()
    adopt_orphans()
    end_on_signals()
    try:
        with new_stack() as stack:
            try:
                found = asyncio.run(measure(stack, given))
            finally:
                finish_undisturbed()
    finally:
        end_all()
    show(found)
    if given.json is not None:
        given.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
