"""From the users' account to figures, a verdict, and pages to read. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from botctl.cli.chaos.account import Account, Message

SHOWN = 20
"""Lost messages named on a page; the JSON has them all."""
AFTERMATH = 3.0
"""Seconds after a step for which latencies count as its own: what it held up is answered then."""


@dataclass(frozen=True, slots=True)
class Latency:
    """How long answers took, in seconds; None where there were none."""

    label: str
    sent: int
    answered: int
    p50: float | None
    p95: float | None
    p99: float | None


@dataclass(slots=True)
class Report:
    """What came of a run."""

    scenario: str
    seed: int
    bots: int
    seconds: float
    sent: int = 0
    answered: int = 0
    lost: int = 0
    duplicated: int = 0
    uncertain: int | None = None
    """None when the metric could not be read."""
    duplicated_of: dict[int, int] = field(default_factory=dict)
    """By bot_id; each bot's are held against its own uncertain sends."""
    uncertain_of: dict[int, int] = field(default_factory=dict)
    out_of_order: int = 0
    order_matters: bool = True
    unexpected: int = 0
    dead_letters: int | None = None
    lost_messages: list[str] = field(default_factory=list)
    """Each lost message in words, oldest first."""
    flood_sent: int = 0
    flood_answered: int = 0
    restarts: dict[str, int] = field(default_factory=dict)
    latencies: list[Latency] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Something sent, nothing lost or answered twice but where it was counted, order kept, all done as planned."""
        return (
            self.sent > 0
            and not self.lost
            and all(count <= self.uncertain_of.get(bot_id, 0) for bot_id, count in self.duplicated_of.items())
            and not (self.order_matters and self.out_of_order)
            and not self.problems
        )

    @property
    def verdict(self) -> str:
        """The last line."""
        uncertain = "uncertain unknown" if self.uncertain is None else f"{self.uncertain} uncertain"
        return (
            f"chaos: {self.sent} sent, {self.answered} answered, {self.lost} lost, "
            f"{self.duplicated} duplicated ({uncertain})"
        )

    def as_json(self) -> dict[str, Any]:
        """Everything, for machines."""
        return {**asdict(self), "passed": self.passed}


def quantiles(values: Iterable[float | None]) -> tuple[float | None, float | None, float | None]:
    """p50, p95 and p99 of what is known; None without any."""
    known = sorted(value for value in values if value is not None)
    if not known:
        return None, None, None
    if len(known) == 1:
        return known[0], known[0], known[0]
    cuts = statistics.quantiles(known, n=100, method="inclusive")
    return cuts[49], cuts[94], cuts[98]


def latency(label: str, messages: Iterable[Message]) -> Latency:
    """The latencies of these messages; a flood's don't count."""
    found = [one for one in messages if not one.flood and one.expected]
    p50, p95, p99 = quantiles(one.latency for one in found)
    return Latency(label, len(found), sum(bool(one.answers) for one in found), p50, p95, p99)


def fill(
    report: Report, account: Account, calm: tuple[float, float], steps: Sequence[tuple[str, float, float]]
) -> None:
    """Add up an account; `steps` are (label, began, ended) in seconds since the epoch."""
    messages = list(account.messages.values())
    users = [one for one in messages if not one.flood]
    flood = [one for one in messages if one.flood]
    report.sent, report.answered = len(users), sum(bool(one.answers) for one in users)
    report.flood_sent, report.flood_answered = len(flood), sum(bool(one.answers) for one in flood)
    report.lost_messages = [_told(one, calm[0]) for one in account.waiting()]
    report.lost = len(report.lost_messages)
    report.duplicated = sum(one.extra for one in messages)
    report.duplicated_of = {
        bot_id: sum(one.extra for one in messages if one.bot_id == bot_id)
        for bot_id in {one.bot_id for one in messages}
    }
    report.out_of_order = account.disorder()
    report.unexpected = len(account.unexpected)
    report.latencies = [latency("calm", [one for one in users if calm[0] <= one.at < calm[1]])]
    for label, began, ended in steps:
        meanwhile = [one for one in users if began <= one.at < ended + AFTERMATH or _was_waiting(one, began)]
        report.latencies.append(latency(label, meanwhile))
    report.latencies.append(latency("all", users))


def _told(message: Message, start: float) -> str:
    return (
        f"{message.mark} to bot {message.bot_id} in chat {message.chat_id}, {message.at - start:.1f} s after the start"
    )


def _was_waiting(message: Message, moment: float) -> bool:
    return message.at < moment and (not message.answers or message.answers[0] > moment)


def text(report: Report) -> str:
    """The report for a terminal; its last line is the verdict."""
    lines = [
        f"{report.scenario}, seed {report.seed}, {report.bots} bots, {report.seconds:.0f} s",
        f"out of order {report.out_of_order}{'' if report.order_matters else ' (updates came in disorder)'}, "
        f"dead letters {_known(report.dead_letters)}, answers to nothing {report.unexpected}",
    ]
    if report.flood_sent:
        lines.append(f"floods: {report.flood_sent} sent, {report.flood_answered} answered")
    restarted = ", ".join(f"{name} {count}" for name, count in report.restarts.items() if count)
    lines.append(f"restarts: {restarted or 'none'}")
    width = max(len(one.label) for one in report.latencies)
    lines.append(f"{'latency':{width}}  {'sent':>6} {'answered':>9} {'p50':>9} {'p95':>9} {'p99':>9}")
    for one in report.latencies:
        figures = " ".join(f"{_seconds(value):>9}" for value in (one.p50, one.p95, one.p99))
        lines.append(f"{one.label:{width}}  {one.sent:>6} {one.answered:>9} {figures}")
    lines += [f"lost: {lost}" for lost in report.lost_messages[:SHOWN]]
    lines += [f"problem: {problem}" for problem in report.problems]
    return "\n".join([*lines, report.verdict])


def markdown(report: Report) -> str:
    """The report as a page."""
    rows = [
        ("sent", report.sent),
        ("answered", report.answered),
        ("lost", report.lost),
        ("duplicated", report.duplicated),
        ("of these counted as uncertain", _known(report.uncertain)),
        ("out of order", report.out_of_order),
        ("dead letters", _known(report.dead_letters)),
        ("answers to nothing", report.unexpected),
        ("sent in floods, answered", f"{report.flood_sent}, {report.flood_answered}"),
        ("restarts", ", ".join(f"{name} {count}" for name, count in report.restarts.items()) or "none"),
    ]
    lines = [
        f"# Chaos: {report.scenario}",
        "",
        f"Seed {report.seed}, {report.bots} bots, {report.seconds:.0f} s: {'passed' if report.passed else 'failed'}.",
        "",
        *("| | |", "|---|---|"),
        *(f"| {name} | {value} |" for name, value in rows),
        "",
        *("| latency | sent | answered | p50 | p95 | p99 |", "|---|---|---|---|---|---|"),
    ]
    for one in report.latencies:
        figures = " | ".join(_seconds(value) for value in (one.p50, one.p95, one.p99))
        lines.append(f"| {one.label} | {one.sent} | {one.answered} | {figures} |")
    wrong = [*(f"lost: {lost}" for lost in report.lost_messages[:SHOWN]), *report.problems]
    if wrong:
        lines += ["", *(f"- {one}" for one in wrong)]
    return "\n".join([*lines, ""])


def _seconds(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value * 1000:.0f} ms" if value < 10 else f"{value:.1f} s"


def _known(value: int | None) -> str:
    return "unknown" if value is None else str(value)
