"""`scripts/simulate`: plays schedules, replays one, or hunts mutants."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from pathlib import Path

from simulation import coverage, mutants
from simulation.equivalent_mutants import EQUIVALENT
from simulation.pool import play_all
from simulation.report import report
from simulation.schedule import Schedule

EVERY_CELL = 1000
"""Hits that a million schedules must give every reachable cell; of fewer schedules, in proportion."""


def main() -> int:
    """Exit code 0 when nothing is broken."""
    parser = argparse.ArgumentParser(prog="scripts/simulate", description=__doc__)
    parser.add_argument("--schedules", type=int, help="how many (default 10000; of each mutant 3000)")
    parser.add_argument("--seed", type=int, default=1, help="of the first schedule; the next has the next number")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--replay", type=int, metavar="SEED", help="print the whole history of one schedule")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write the report there, too")
    parser.add_argument("--mutants", action="store_true", help="have mutants of supervision/ play until caught")
    parser.add_argument("--only", default="", metavar="TEXT", help="of the mutants those with this in their name")
    given = parser.parse_args()
    if given.replay is not None:
        return replay(given.replay)
    if given.mutants:
        return hunt(given.seed, given.schedules or 3000, given.jobs, given.only)
    return play(given.seed, given.schedules or 10_000, given.jobs, given.report)


def replay(seed: int) -> int:
    """Print a history: time, bot, event, states, actions; and what is broken at its end."""
    schedule = Schedule(seed, tell=True)
    outcome = schedule.run()
    setting = schedule.setting
    print(f"seed {seed}: profile {setting.profile.name}, tick {setting.tick:g} s, {setting.pace}, {setting.breaker}")
    for key, policy in schedule.world.policies.items():
        print(f"{key}: {policy}")
    print("\n".join(outcome.tale))
    broken = outcome.broken
    if broken is None:
        print(f"every invariant held; {outcome.events} events, {outcome.seconds:.1f} s, history {outcome.digest}")
        return 0
    print(f"\nBROKEN at {broken.now:.4f}, child {broken.key}: {broken}\nreplay: scripts/simulate --replay {seed}")
    return 1


def play(seed: int, schedules: int, jobs: int, file: Path | None) -> int:
    """Many schedules, and a report."""
    began = time.monotonic()
    total = play_all(seed, schedules, jobs)
    text = report(total, seed, jobs, time.monotonic() - began)
    print(text)
    if file is not None:
        file.write_text(text, "utf-8")
    for broken, _, _ in total.broken[:1]:
        replay(broken)
    for broken, law, what in total.broken:
        print(f"broken in {broken}: {law}: {what[:300]}\n  scripts/simulate --replay {broken}")
    wrong = coverage.wrong(total.cells, EVERY_CELL * schedules // 1_000_000) + total.population.wrong()
    for one in wrong:
        print(f"wrong: {one}")
    return 1 if total.broken or wrong else 0


def hunt(seed: int, schedules: int, jobs: int, only: str) -> int:
    """All mutants, and how many were caught by which invariant."""
    began = time.monotonic()
    chosen = [mutant for mutant in mutants.everything() if only in mutant.name]
    fates = mutants.hunt(chosen, seed, schedules, jobs)
    caught = [fate for fate in fates if fate.law]
    laws = Counter(fate.law for fate in caught)
    print(f"{len(fates)} mutants in {time.monotonic() - began:.0f} s: {len(caught)} caught, ", end="")
    print(f"{sum(fate.mutant.name in EQUIVALENT for fate in fates if not fate.law)} equivalent")
    print("caught by: " + ", ".join(f"{law} {number}" for law, number in laws.most_common()))
    late = sorted(caught, key=lambda fate: -fate.schedules)[:5]
    print("latest: " + "; ".join(f"{fate.mutant.name} after {fate.schedules}" for fate in late))
    wrong = mutants.verdict(fates)
    for one in wrong:
        print(f"wrong: {one}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
