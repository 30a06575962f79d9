"""Plays many schedules on several processes and adds up what came of them."""

from __future__ import annotations

import multiprocessing
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from simulation import coverage
from simulation.coverage import Cells
from simulation.population import Population
from simulation.schedule import run

CHUNK = 200
"""Schedules that a process plays at a time."""

ENOUGH = 5
"""Broken schedules after which nobody needs more."""


@dataclass
class Sum:
    """What came of some schedules."""

    schedules: int = 0
    events: int = 0
    virtual: float = 0.0
    least_events: int = sys.maxsize
    cells: Cells = field(default_factory=coverage.empty)
    tallies: Counter[str] = field(default_factory=Counter)
    population: Population = field(default_factory=Population)
    broken: list[tuple[int, str, str]] = field(default_factory=list)
    """Seed, invariant, what happened."""

    def add(self, other: Sum) -> None:
        """Add those of others."""
        self.schedules += other.schedules
        self.events += other.events
        self.virtual += other.virtual
        self.least_events = min(self.least_events, other.least_events)
        coverage.add(self.cells, other.cells)
        self.tallies.update(other.tallies)
        self.population.add(other.population)
        self.broken += other.broken


def play(seeds: range) -> Sum:
    """The schedules of these seeds, in this process."""
    total = Sum()
    stop = coverage.counting(total.cells)
    try:
        for seed in seeds:
            outcome = run(seed)
            total.schedules += 1
            total.events += outcome.events
            total.virtual += outcome.seconds
            if outcome.broken is not None:
                total.broken.append((seed, outcome.broken.law, outcome.broken.what))
                continue
            total.least_events = min(total.least_events, outcome.events)
            total.tallies.update(outcome.tallies)
            total.tallies["breaker opened"] += outcome.trips
            total.population.take(outcome.fractions, outcome.spreads)
    finally:
        stop()
    return total


def play_all(first: int, number: int, jobs: int) -> Sum:
    """`number` schedules from seed `first`; shows how far it is, stops when enough are broken."""
    total, began = Sum(), time.monotonic()
    chunks = (range(start, min(start + CHUNK, first + number)) for start in range(first, first + number, CHUNK))
    shown = 0.0
    for part in _parts(chunks, jobs):
        total.add(part)
        now = time.monotonic()
        if now - shown > (1.0 if sys.stderr.isatty() else 30.0) or total.schedules == number:
            shown = now
            _show(total, number, now - began)
        if len(total.broken) >= ENOUGH:
            break
    if sys.stderr.isatty():
        print(file=sys.stderr)
    return total


def _parts(chunks: Iterator[range], jobs: int) -> Iterator[Sum]:
    if jobs == 1:
        yield from map(play, chunks)
        return
    with multiprocessing.get_context("fork").Pool(jobs, signal.signal, (signal.SIGINT, signal.SIG_IGN)) as pool:
        yield from pool.imap_unordered(play, chunks)


def _show(total: Sum, number: int, seconds: float) -> None:
    rate = total.schedules / seconds if seconds else 0.0
    left = (number - total.schedules) / rate if rate else 0.0
    reachable = [hits for cell, hits in coverage.flat(total.cells).items() if cell not in coverage.UNREACHABLE]
    line = (
        f"{total.schedules:,} of {number:,} schedules, {rate:.0f}/s, {left:.0f} s left; "
        f"{sum(map(bool, reachable))} of {len(reachable)} cells hit, the rarest {min(reachable)} times; "
        f"{len(total.broken)} broken"
    )
    end = "" if sys.stderr.isatty() else "\n"
    print(f"\r{line}\x1b[K" if sys.stderr.isatty() else line, end=end, file=sys.stderr, flush=True)
