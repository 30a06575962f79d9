"""What a day down costs: `benchmarks/backlog.py [--updates N] [--answer] [--probe SECONDS]`.

N updates (100,000) wait at the emulated Telegram, most of a few chats: one has 30 %, ten have 30 % together, the
rest comes of 2,000 others. A real stack is started and its bot drains them. Meanwhile people of fresh chats write, one
every few seconds, and are answered. Prints

- updates stored and handled, updates/s, PSS and RSS of the bot, every few seconds,
- seconds until all were taken from Telegram, and until all were handled; the bot's memory at its highest,
- processor time of the bot and of its connections at the server, for one update (other work matters little to it),
- how long fresh chats waited for their answers: median, p95, worst,
- lost, handled twice, and out of order within their chat: all three must be 0, or it ends with 1.

The handler counts. With --answer it also answers each update, with flood control off on both sides: the real one would
let 30 messages a second through.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import asyncpg
from processes import adopt_orphans, cpu, descendants, end_all, end_on_signals, finish_undisturbed, footprint, title

from botctl.sandbox.client import SandboxClient
from support.stack import Stack, new_stack, token

BOT = 7_700_000_101
CHUNK = 2000
SHOWN_EVERY = 4.0
HEAVIEST, HEAVY, LIGHT = 1_000_001, range(2_000_001, 2_000_011), range(3_000_001, 3_002_001)
FRESH = 9_000_001
REPORTING = 8_000_001
UNLIMITED = {"sends_per_second": 0, "chat_sends_per_second": 0, "group_sends_per_minute": 0}

HANDLERS = """
import json
from telegram.ext import MessageHandler, filters

def register(app, bot):
    last, counts = {}, {"handled": 0, "twice": 0, "disorder": 0}

    async def on_text(update, context):
        message = update.message
        if message.text == "report":
            await message.reply_text(json.dumps(counts))
        elif not message.text.isdigit():
            await message.reply_text("at once")
        else:
            number = int(message.text)
            before = last.get(message.chat_id, -1)
            counts["twice"] += number == before
            counts["disorder"] += number < before
            last[message.chat_id] = number
            counts["handled"] += 1
            if ANSWER:
                await message.reply_text(message.text)

    app.add_handler(MessageHandler(filters.TEXT, on_text))
"""


def chat_of(draw: random.Random) -> int:
    """Whose update the next one is."""
    part = draw.random()
    return HEAVIEST if part < 0.3 else draw.choice(HEAVY) if part < 0.6 else draw.choice(LIGHT)


async def fill(telegram: SandboxClient, updates: int) -> None:
    """Have them wait; each says its own number."""
    draw = random.Random(7)
    for first in range(0, updates, CHUNK):
        batch = [(chat_of(draw), str(number)) for number in range(first, min(first + CHUNK, updates))]
        await telegram.say_many(BOT, batch)


async def probe(telegram: SandboxClient, every: float, waits: list[float]) -> None:
    """Write from chats that are new, one after the other, and time the answers."""
    chat, after = FRESH, 0
    while True:
        began = time.monotonic()
        await telegram.say(BOT, chat, "hello")
        if (reply := await telegram.wait_for_reply(BOT, chat, after, wait=600)) is not None:
            after = reply.seq
        waits.append(time.monotonic() - began)
        chat += 1
        await asyncio.sleep(every)


async def drain(stack: Stack, database: asyncpg.Connection[Any], updates: int, pid: int) -> dict[str, Any]:
    """Look on until all is handled."""
    began = time.monotonic()
    found: dict[str, Any] = {"pss_mb": [], "rss_mb": []}
    shown, before = 0.0, 0
    print(f"{'s':>6} {'stored':>8} {'handled':>8} {'upd/s':>7} {'PSS MB':>7} {'RSS MB':>7}")
    while True:
        row = await database.fetchrow(
            "SELECT count(*) AS stored, count(*) FILTER (WHERE state = 'done') AS done,"
            " count(*) FILTER (WHERE state = 'dead') AS dead FROM inbox WHERE bot_id = $1 AND payload #>>"
            " '{message,text}' ~ '^[0-9]+$'",
            BOT,
        )
        assert row is not None
        now = time.monotonic() - began
        if (used := footprint(pid)) is not None:
            found["pss_mb"].append(round(used.pss, 1))
            found["rss_mb"].append(rss_mb(pid))
        if row["stored"] >= updates and "taken_s" not in found:
            found["taken_s"] = round(now, 1)
        if now - shown >= SHOWN_EVERY or row["done"] + row["dead"] >= updates:
            rate = (row["done"] - before) / max(now - shown, 0.1)
            memory = (found["pss_mb"] or [0])[-1], (found["rss_mb"] or [0])[-1]
            print(f"{now:6.1f} {row['stored']:8} {row['done']:8} {rate:7.0f} {memory[0]:7.1f} {memory[1]:7.1f}")
            shown, before = now, row["done"]
        if row["done"] + row["dead"] >= updates:
            found["handled_s"], found["dead"] = round(now, 1), row["dead"]
            return found
        await asyncio.sleep(1.0)


def used_by(stack: Stack, bot: int) -> dict[str, float]:
    """Seconds of processor time so far: the bot's, and its connections' at the server."""
    servers = [one for one in descendants(stack.daemon_pid) if f"bot_{BOT}" in title(one)]
    return {"bot": cpu(bot) or 0.0, "postgres": sum(cpu(one) or 0.0 for one in servers)}


def rss_mb(pid: int) -> float:
    """Resident memory of a process."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((round(int(line.split()[1]) / 1024, 1) for line in lines if line.startswith("VmRSS:")), 0.0)


async def measure(stack: Stack, given: argparse.Namespace) -> dict[str, Any]:
    """Fill, start, look on, ask the handler what it has seen."""
    (stack.folder / "counting.py").write_text(f"ANSWER = {given.answer}\n{HANDLERS}")
    limits = UNLIMITED if given.answer else {}
    stack.write_fleet({"name": "nora", "token": token(BOT), "handlers": "counting:register", "limits": limits})
    async with stack.sandbox() as telegram:
        await telegram.register_bot(token(BOT), first_name="Nora", username="nora_bot")
        await fill(telegram, given.updates)
        print(f"{given.updates} updates of {2 + len(HEAVY) + len(LIGHT)} chats wait at Telegram")
        await asyncio.to_thread(stack.start)
        await stack.until_running("nora", timeout=120)
        pid = next(bot["pid"] for bot in stack.status()["bots"])
        database = await asyncpg.connect(stack.database_url)
        waits: list[float] = []
        before = used_by(stack, pid)
        probing = asyncio.create_task(probe(telegram, given.probe, waits))
        try:
            found = await drain(stack, database, given.updates, pid)
        finally:
            probing.cancel()
            await asyncio.gather(probing, return_exceptions=True)
        after = used_by(stack, pid)
        found["cpu_ms"] = {who: round(1000 * (after[who] - before[who]) / given.updates, 2) for who in after}
        await telegram.say(BOT, REPORTING, "report")
        report = await telegram.wait_for_reply(BOT, REPORTING, wait=60)
        assert report is not None
        counts = json.loads(str(report.text))
        await database.close()
    found |= {"lost": given.updates - counts["handled"] + counts["twice"], **counts, "waits_s": sorted(waits)}
    return found


def show(found: dict[str, Any], updates: int) -> None:
    """The result."""
    waits = found["waits_s"] or [0.0]
    print(f"\nall taken from Telegram after {found['taken_s']} s, all handled after {found['handled_s']} s:", end=" ")
    print(f"{updates / found['handled_s']:.0f} updates/s")
    print(f"the bot at its highest: PSS {max(found['pss_mb'])} MB, RSS {max(found['rss_mb'])} MB", end="; ")
    print(f"at first {found['pss_mb'][0]} and {found['rss_mb'][0]} MB")
    print(f"processor time, ms an update: {found['cpu_ms']}")
    p95 = waits[max(0, -(-95 * len(waits) // 100) - 1)]
    print(f"answers to {len(found['waits_s'])} fresh chats: median {statistics.median(waits):.2f} s,", end=" ")
    print(f"p95 {p95:.2f} s, worst {waits[-1]:.2f} s")
    print(
        f"lost {found['lost']}, handled twice {found['twice']}, out of order {found['disorder']}, dead {found['dead']}"
    )


def main() -> None:
    """Run once."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--updates", type=int, default=100_000, metavar="N", help="updates that wait (100000)")
    parser.add_argument("--answer", action="store_true", help="answer each, with flood control off")
    parser.add_argument("--probe", type=float, default=2.0, metavar="SECONDS", help="between two fresh chats (2)")
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
    show(found, given.updates)
    if given.json is not None:
        given.json.write_text(json.dumps(found, indent=1) + "\n")
    if found["lost"] or found["twice"] or found["disorder"] or found["dead"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
