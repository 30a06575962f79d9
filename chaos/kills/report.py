"""From what was seen to figures, and to a page in Markdown. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from chaos.kills.harm import Done, Phase
from chaos.kills.messages import Kind, Message
from chaos.kills.plan import Moment


@dataclass
class Result:
    """Everything of one run. `violations` is empty when all that was demanded held. Times: seconds since the epoch."""

    seed: int
    bots: int
    chats: int
    calm: tuple[float, float]
    harmed: tuple[float, float]
    done: Done
    messages: list[Message] = field(default_factory=list)
    unlinked: int = 0
    excuses: int = 0
    uncertain: int = 0
    violations: list[str] = field(default_factory=list)
    load: tuple[float, float] = (0.0, 0.0)

    @property
    def kills(self) -> int:
        """Bots that were killed alone."""
        return self.done.kills.total()

    @property
    def lost(self) -> int:
        """Messages without their answer, or without a part of it."""
        return sum(1 for one in self.messages if one.answered is None)

    @property
    def surplus(self) -> int:
        """Parts that came more than once."""
        return sum(one.surplus for one in self.messages) + self.unlinked


def percentiles(values: Iterable[float | None]) -> tuple[float, float, float, float]:
    """p50, p95, p99 and the worst; zeros of nothing."""
    known = sorted(value for value in values if value is not None)
    if not known:
        return 0.0, 0.0, 0.0, 0.0
    at = [known[min(len(known) - 1, int(len(known) * share))] for share in (0.5, 0.95, 0.99)]
    return at[0], at[1], at[2], known[-1]


def markdown(result: Result) -> str:
    """The page."""
    minutes = (result.harmed[1] - result.harmed[0]) / 60
    kinds = {kind: sum(one.kind is kind for one in result.messages) for kind in Kind}
    moments = ", ".join(f"{moment.value} {result.done.kills[moment]}" for moment in Moment)
    lines = [
        f"{result.bots} bots, {result.chats} chats, seed {result.seed}, {minutes:.1f} minutes; load of the machine "
        f"{result.load[0]:.1f} before, {result.load[1]:.1f} after.",
        "",
        f"Kills: {result.kills} ({moments}), and {result.done.with_supervisor} bots with their supervisor.",
        "",
        f"Messages: {len(result.messages)} sent ({', '.join(f'{kind.value[0]} {n}' for kind, n in kinds.items())}), "
        f"{sum(one.answered is not None for one in result.messages)} answered, {result.excuses} of them by the "
        f"assistant's excuse, {result.lost} lost.",
        "",
        f"Parts too many: {result.surplus}; counted as uncertain: {result.uncertain}.",
        "",
        f"Broken demands: {len(result.violations)}." if result.violations else "No demand was broken.",
        *(f"- {violation}" for violation in result.violations[:50]),
        "",
        "| seconds to the first part of the answer | times | messages | p50 | p95 | p99 | worst |",
        "|---|---|---|---|---|---|---|",
        *_rows(result),
    ]
    return "\n".join(lines) + "\n"


def _rows(result: Result) -> Iterator[str]:
    calm = [one for one in result.messages if result.calm[0] <= one.at < result.calm[1]]
    harmed = [one for one in result.messages if one.at >= result.harmed[0]]
    yield _row("calm, before the first kill", "", calm)
    yield _row("only kills", "", [one for one in harmed if not any(_meet(one, phase) for phase in result.done.phases)])
    names = dict.fromkeys(phase.name for phase in result.done.phases)
    for name in sorted(names):
        phases = [phase for phase in result.done.phases if phase.name == name]
        yield _row(name, str(len(phases)), [one for one in harmed if any(_meet(one, phase) for phase in phases)])


def _row(name: str, times: str, messages: list[Message]) -> str:
    figures = " | ".join(f"{value:.3f}" for value in percentiles(one.latency for one in messages))
    return f"| {name} | {times} | {len(messages)} | {figures} |"


def _meet(message: Message, phase: Phase) -> bool:
    """Whether a message waited while a fault lasted."""
    latency = message.latency
    return message.at <= phase.ended and (latency is None or message.at + latency >= phase.began)
