"""The command: kills at each step of the send journal, and a page about them.

`scripts/chaos journal [--kills 200] [--seed S] [--bots 2] [--report FILE]`; exit code 0 when all demands held.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from chaos.journal.stage import new_stage, play  # noqa: E402
from chaos.journal.steps import Mode, Step  # noqa: E402
from chaos.journal.tally import Tally  # noqa: E402


async def run(kills: int, seed: int, bots: int) -> Tally:
    """On servers of its own."""

    def told(done: int, all_: int) -> None:
        if done % 20 == 0 or done == all_:
            sys.stdout.write(f"{done} of {all_} rounds\n")
            sys.stdout.flush()

    async with new_stage() as stage:
        return await play(stage, kills, seed, bots=bots, told=told)


def markdown(tally: Tally, seed: int, seconds: float) -> str:
    """The page."""
    lines = [
        f"Seed {seed}: {tally.kills} times kill -9, {tally.trials.total()} messages stopped at a step of the journal, "
        f"{seconds / 60:.1f} minutes.",
        "",
        f"Parts that users have twice: {tally.twice}; counted as uncertain in the journal: {tally.uncertain}, by the "
        f"bots' metric: {tally.metric}. Parts that nobody has, as `skip` says: {tally.unseen}.",
        "",
        f"Broken demands: {len(tally.stories)}." if tally.stories else "No demand was broken.",
        "",
        "| step | handler's call: resend, skip | assistant's answer: resend, skip |",
        "|---|---|---|",
    ]
    for step in Step:
        counts = {mode: [tally.trials[step, mode, resend] for resend in (True, False)] for mode in Mode}
        lines.append(f"| {step.value} | " + " | ".join(f"{a}, {b}" for a, b in counts.values()) + " |")
    return "\n".join([*lines, "", *(f"```\n{story}\n```" for story in tally.stories[:20])]) + "\n"


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="scripts/chaos journal", description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="of each step, mode and policy")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--bots", type=int, default=2, help="of each policy, at the same time")
    parser.add_argument("--report", type=Path, help="write the page there")
    asked = parser.parse_args()
    seed = asked.seed if asked.seed is not None else random.randrange(1 << 32)
    sys.stdout.write(f"seed {seed}\n")
    began = time.monotonic()
    tally = asyncio.run(run(asked.kills, seed, asked.bots))
    page = markdown(tally, seed, time.monotonic() - began)
    sys.stdout.write(page)
    if asked.report is not None:
        asked.report.write_text(page)
    sys.stdout.write(
        f"journal: {tally.kills} kills, {tally.trials.total()} messages, {tally.twice} parts twice, "
        f"{tally.uncertain} uncertain, {len(tally.stories)} demands broken\n"
    )
    return 1 if tally.stories else 0


if __name__ == "__main__":
    sys.exit(main())
