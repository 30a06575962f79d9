"""From what was seen to figures, and to a page in Markdown. Pure."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from botctl.cli.chaos.account import Message
from chaos.faults import FAULTS
from chaos.outcome import Outcome
from chaos.processes import Tally

NOTHING = Tally(0, 0)


@dataclass
class Result:
    """Everything of one run. `violations` is empty when all that was demanded held. Times: seconds since the epoch."""

    seed: int
    ids: list[int]
    calm: tuple[float, float]
    chaos: tuple[float, float]
    outcomes: list[Outcome] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    uncertain: int = 0
    apologies: int = 0
    dead_letters: int = 0
    heartbeats: list[float] = field(default_factory=list)
    looks: int = 0
    before: Tally = NOTHING
    after: Tally = NOTHING
    load: tuple[float, float] = (0.0, 0.0)

    @property
    def lost(self) -> int:
        """Messages without an answer, dead letters excepted."""
        return sum(one.waits for one in self.messages)

    @property
    def extra(self) -> int:
        """Answers beyond the first."""
        return sum(one.extra for one in self.messages)

    def sorted_out(self) -> dict[str, list[Message]]:
        """Messages by what their bot and the servers went through while they waited."""
        harmed: dict[int, list[Outcome]] = defaultdict(list)
        servers = [one for one in self.outcomes if one.step.victim is None]
        for one in self.outcomes:
            if one.step.victim is not None:
                harmed[self.ids[one.step.victim]].append(one)
        found: dict[str, list[Message]] = {"calm": [], "witnesses": [], "servers": [], "victims": []}
        for message in self.messages:
            if self.calm[0] <= message.at < self.calm[1]:
                found["calm"].append(message)
            elif message.at < self.chaos[0]:
                continue
            elif any(_meet(message, one) for one in harmed[message.bot_id]):
                found["victims"].append(message)
            elif any(_meet(message, one) for one in servers):
                found["servers"].append(message)
            else:
                found["witnesses"].append(message)
        return found


def quantiles(values: Iterable[float | None]) -> tuple[float, float, float]:
    """Median, 95th percentile and worst; zeros of nothing."""
    known = sorted(value for value in values if value is not None)
    if not known:
        return 0.0, 0.0, 0.0
    return statistics.median(known), known[min(len(known) - 1, int(len(known) * 0.95))], known[-1]


def markdown(result: Result) -> str:
    """The page."""
    groups = result.sorted_out()
    minutes = (result.chaos[1] - result.chaos[0]) / 60
    lines = [
        f"{len(result.ids)} bots, {minutes:.1f} minutes, {len(result.outcomes)} faults, seed {result.seed}; load of "
        f"the machine {result.load[0]:.1f} before, {result.load[1]:.1f} after.",
        "",
        f"Messages: {len(result.messages)} sent, {sum(bool(one.answers) for one in result.messages)} answered, "
        f"{result.lost} lost, {result.extra} answers too many ({result.uncertain} counted as uncertain), "
        f"{result.apologies} apologies, {result.dead_letters} dead letters by intention.",
        "",
        f"Witnesses: {result.looks} looks, heartbeat {_ages(result)}. "
        f"The supervisor: {result.before.descriptors} descriptors and {result.before.threads} threads before, "
        f"{result.after.descriptors} and {result.after.threads} after.",
        "",
        f"Broken demands: {len(result.violations)}." if result.violations else "No demand was broken.",
        *(f"- {violation}" for violation in result.violations[:50]),
        "",
        "| seconds to the answer | messages | median | p95 | worst | p95 to calm |",
        "|---|---|---|---|---|---|",
    ]
    calm = quantiles(one.latency for one in groups["calm"])
    for name, told in (
        ("calm", "before the first fault"),
        ("witnesses", "witnesses, while others are harmed"),
        ("servers", "witnesses, while a server is away too"),
        ("victims", "victims"),
    ):
        middle, high, worst = quantiles(one.latency for one in groups[name])
        ratio = f"{high / calm[1]:.1f}" if calm[1] else "–"
        lines.append(f"| {told} | {len(groups[name])} | {middle:.3f} | {high:.3f} | {worst:.3f} | {ratio} |")
    lines += [
        "",
        "| fault | times | told as | detected, median (worst) | runs again, median (worst) | "
        "all answered, median (worst) | witnesses meanwhile: p95 (worst) |",
        "|---|---|---|---|---|---|---|",
        *_rows(result, groups["witnesses"] + groups["servers"]),
    ]
    return "\n".join(lines) + "\n"


def _ages(result: Result) -> str:
    middle, high, worst = quantiles(result.heartbeats)
    return f"{middle:.1f} s old in the median, {high:.1f} s at p95, {worst:.1f} s at worst"


def _rows(result: Result, witnessed: list[Message]) -> Iterable[str]:
    by_fault: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in result.outcomes:
        by_fault[outcome.fault.name].append(outcome)
    for name in FAULTS:
        outcomes = by_fault.get(name, [])
        if not outcomes:
            continue
        told = sorted({death["failure"] for one in outcomes for death in one.deaths if death["failure"] is not None})
        meanwhile = [message for message in witnessed if any(_meet(message, one) for one in outcomes)]
        _, high, worst = quantiles(message.latency for message in meanwhile)
        yield (
            f"| {name} | {len(outcomes)} | {', '.join(told) or '–'} | {_span(one.detected for one in outcomes)} | "
            f"{_span(one.recovered for one in outcomes)} | {_span(one.sound for one in outcomes)} | "
            f"{high:.2f} ({worst:.2f}) |"
        )


def _span(values: Iterable[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{statistics.median(known):.2f} ({max(known):.2f})" if known else "–"


def _meet(message: Message, outcome: Outcome) -> bool:
    answered = message.answers[0] if message.answers else float("inf")
    return message.at <= outcome.ended and answered >= outcome.began
