"""What isolation costs, in one run on an embedded PostgreSQL: `benchmarks/isolation.py [--bots N] [--messages N] …`.

A message inserted and the last twenty of a conversation read without row level security, with ours and the bot's own
role, and with `encrypt_messages` besides; all that is stored for a message the assistant answers, clear and sealed; a
change in the registry without and with its audit; a request to the API with and without its check; the threat rules.
What is compared is done in turns, and each figure is a median. Prints tables in Markdown, with the figures to reach.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import time
from typing import Any

from database import server
from isolation_guards import api, checks, threats
from isolation_stage import BOT, Stage, set_up
from isolation_storage import Path, audit_ways, message_ways
from processes import end_on_signals
from rounds import in_turns, micro, ratio, table

from botctl.storage.sealing import Sealing


async def storage(stage: Stage, rounds: int) -> list[str]:
    """The tables of the database's part."""
    async with contextlib.AsyncExitStack() as stack:
        connections: dict[str, Any] = {
            name: await stack.enter_async_context(way.engine.connect()) for name, way in stage.ways.items()
        }
        found = await in_turns(message_ways(stage, connections), rounds)
    async with contextlib.AsyncExitStack() as stack:
        audited = await stack.enter_async_context(stage.control.connect())
        unaudited = await stack.enter_async_context(stage.unaudited.connect())
        await unaudited.exec_driver_sql("SET search_path = bench, public")
        await unaudited.commit()
        audit = await in_turns(await audit_ways(stage, {"no audit": unaudited, "audit": audited}), rounds)
    own = stage.ways["RLS and own role"].engine
    paths = {"clear": Path(own, Sealing()), "sealed": Path(own, Sealing(stage.cipher, seals=True))}
    for number, path in enumerate(paths.values()):
        await path.open(9001 + number)
    path_times = await in_turns({name: path.answer for name, path in paths.items()}, max(rounds // 2, 50))
    clear, sealed = path_times["clear"]["path"], path_times["sealed"]["path"]

    plain, ours, secret, opened = found.values()
    rows = []
    for name, step in (
        ("INSERT of a message", "insert"),
        ("the same and its commit", "commit"),
        ("last 20 read", "read"),
    ):
        rows.append((name, *(micro(way[step]) for way in (plain, ours, secret)),
                     ratio(ours[step], plain[step]), ratio(secret[step], ours[step])))  # fmt: skip
    rows.append(("the same after a start", "", "", micro(opened["read"]), "", ratio(opened["read"], ours["read"])))
    rows.append(("a message answered, all of it", "", micro(clear), micro(sealed), "", ratio(sealed, clear)))
    aim = ("to reach", "", "", "", "≤ 1.05", "≤ 1.05 on a message")
    header = ("µs", "no RLS", "RLS, own role", "+ sealed", "RLS : none", "sealed : clear")
    tables = [table(header, [*rows, aim])]

    before, after = audit["no audit"], audit["audit"]
    rows = [
        (name, micro(before[step]), micro(after[step]), ratio(after[step], before[step]))
        for name, step in (("a bot's configuration changed", "update"), ("the same and its commit", "commit"))
    ]
    tables.append(table(("µs", "no audit", "audit", "ratio"), rows))
    with_triggers = [name for name, count in stage.triggers.items() if count]
    assert not stage.triggers["messages"]
    tables.append(f"Audit triggers: {', '.join(with_triggers)}. None on messages: audit costs them nothing.")
    return tables


def guards(asked: dict[str, float]) -> list[str]:
    """The tables of the rest."""
    cost, rules = checks(), threats()
    rows = [
        ("token compared, each request", micro(cost["token"]), "≤ 1000"),
        ("user of the socket, each connection", micro(cost["user"]), ""),
        ("request, token shown", micro(asked["shown"]), ""),
        ("the same, of an API that demands none", micro(asked["no check"]), ""),
        ("the check's part of it", micro(asked["shown"] - asked["no check"]), "≤ 1000"),
        ("request refused", micro(asked["refused"]), "≤ 1000"),
        ("an observation judged by all threat rules", micro(rules["observation"]), ""),
        ("an update counted by its user", micro(rules["update"]), ""),
        ("the same, of a user beyond 2,000 in a minute", micro(rules["update in a crowd"]), ""),
        ("a message of 190 characters looked through for secrets", micro(rules["message"]), ""),
        ("one of 4,096 characters", micro(rules["long message"]), ""),
    ]
    return [table(("", "µs", "to reach"), rows)]


async def measure(url: str, bots: int, messages: int, rounds: int) -> list[str]:
    """All tables."""
    begun = time.perf_counter()
    stage = await set_up(url, bots, messages)
    try:
        filled = time.perf_counter() - begun
        head = (
            f"{os.cpu_count()} cores; {bots} bots × {messages:,} messages in 16 partitions (filled in {filled:.0f} s);"
            f" bot {BOT} measured, {rounds:,} rounds"
        )
        return [head, *await storage(stage, rounds), *guards(await api(rounds))]
    finally:
        await stage.close()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bots", type=int, default=200)
    parser.add_argument("--messages", type=int, default=5000, help="of each bot, beforehand")
    parser.add_argument("--rounds", type=int, default=2000)
    asked = parser.parse_args()
    end_on_signals()
    with server() as url:
        print("\n\n".join(asyncio.run(measure(url, asked.bots, asked.messages, asked.rounds))))


if __name__ == "__main__":
    main()
