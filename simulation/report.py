"""The report of a run, in Markdown."""

from __future__ import annotations

import platform
import time

from simulation import coverage
from simulation.invariants import INVARIANTS
from simulation.pool import Sum

RAREST = 15
"""Cells that are told by name."""


def report(total: Sum, first: int, jobs: int, seconds: float) -> str:
    """All that the run showed."""
    cells = coverage.flat(total.cells)
    reachable = {cell: hits for cell, hits in cells.items() if cell not in coverage.UNREACHABLE}
    rarest = sorted(reachable.items(), key=lambda one: one[1])[:RAREST]
    counts = Sum().tallies | total.tallies
    rows = [
        ("date", time.strftime("%Y-%m-%d", time.gmtime())),
        ("Python", f"{platform.python_implementation()} {platform.python_version()}"),
        ("seeds", f"{first:,} to {first + total.schedules - 1:,}"),
        ("schedules", f"{total.schedules:,}"),
        ("events fed", f"{total.events:,}, at least {total.least_events:,} in each schedule"),
        ("simulated time", f"{total.virtual / 86400 / 365.25:,.1f} years"),
        ("took", f"{seconds / 60:,.1f} min with {jobs} processes, {total.schedules / seconds:,.0f} schedules/s"),
        ("processes started", f"{counts['started']:,}"),
        ("failures judged", f"{counts['failed']:,}"),
        ("condemned for silence", f"{counts['condemned']:,}, of them acquitted {counts['acquitted']:,}"),
        ("quarantines", f"{counts['quarantined']:,}"),
        ("restarts on purpose, recyclings", f"{counts['restarted']:,}, {counts['recycled']:,}"),
        ("times the breaker opened", f"{counts['breaker opened']:,}"),
        ("invariants broken", f"{len(total.broken):,}"),
        (
            "cells of the table",
            f"{len(cells)}, of them {len(coverage.UNREACHABLE)} unreachable with a reason each (hit "
            f"{sum(hits for cell, hits in cells.items() if cell in coverage.UNREACHABLE)} times)",
        ),
        ("rarest reachable cell", f"{rarest[0][0][0].value} × {rarest[0][0][1]}: {rarest[0][1]:,} times"),
    ]
    lines = ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows), ""]
    lines += ["The cells hit least:", "", "| cell | hits |", "|---|---|"]
    lines += [f"| {state.value} × {event} | {hits:,} |" for (state, event), hits in rarest]
    return "\n".join(lines) + "\n"


def invariants() -> str:
    """The invariants as a list."""
    return "\n".join(f"- **{name}**: {what}" for name, what in INVARIANTS.items()) + "\n"
