"""`botctl status` as a terminal shows it. Asks nobody: the body and the time are arguments."""

from __future__ import annotations

from typing import TYPE_CHECKING

from botctl.cli.words import ago, times, with_signals_named

if TYPE_CHECKING:
    from rich.console import RenderableType

    from botctl.control.views import BotView, ServiceView, StatusBody


def table(body: StatusBody, now: float) -> RenderableType:
    """The daemon, its servers, what is wrong, and a row for each bot."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    daemon = body.daemon
    head = f"botctl {daemon.version}  {daemon.state}  pid {daemon.pid}  up {_span(daemon.uptime_s)}"
    servers = "  ".join(_server(one) for one in body.services)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("BOT", "ID", "STATE", "PID", "UP", "RESTARTS", "MEMORY", "INBOX", "OUTBOX", "NOTE"):
        table.add_column(
            column, justify="left" if column in ("BOT", "STATE", "NOTE") else "right", no_wrap=column != "NOTE"
        )
    usual = _usual_isolation(body)
    for bot in body.bots:
        table.add_row(
            bot.name,
            str(bot.bot_id),
            Text(bot.state, style=_COLOURS.get(bot.state, "")),
            str(bot.pid or "-"),
            _span(bot.uptime_s),
            str(bot.restarts),
            f"{bot.memory_mb:.0f} MB" if bot.memory_mb is not None else "-",
            _number(bot.inbox_depth),
            _number(bot.outbox_depth),
            Text(" ".join(_note(bot, now, usual).split())[:500]),
        )
    rows: list[RenderableType] = [Text(head, style="bold")]
    if usual is not None:
        servers = f"{servers}  isolation {usual}".strip()
    if servers:
        rows.append(Text(servers))
    if daemon.rollout:
        rows.append(Text(f"rolling restart: {daemon.rollout}", style="cyan"))
    rows += [Text(f"! {problem}", style="yellow") for problem in _problems(body)]
    return Group(*rows, Text(""), table)


def _server(one: ServiceView) -> str:
    """`valkey running (pid 44, restarted twice)`."""
    restarts = f", restarted {times(one.restarts)}" if one.restarts else ""
    return f"{one.name} {one.state} (pid {one.pid or '-'}{restarts})"


LEAST_SCORE = 1.0
"""Of threat detection that is worth a word."""

_UNWELL = frozenset({"degraded", "paused", "failed", "backoff", "quarantined"})


def _problems(body: StatusBody) -> list[str]:
    """What is wrong, and what servers that aren't well have said last, unless it is the same."""
    known = "; ".join(body.daemon.problems)
    unwell = [one for one in body.services if one.state in _UNWELL and one.reason and one.reason not in known]
    late = [f"events: {warning}" for warning in (body.bus.warnings if body.bus is not None else ())]
    return [*body.daemon.problems, *(f"{one.name} is {one.state}: {one.reason}" for one in unwell), *late]


def _usual_isolation(body: StatusBody) -> str | None:
    """The level that most bots have; None when nobody has said."""
    levels = [bot.isolation for bot in body.bots if bot.isolation is not None]
    return max(set(levels), key=lambda level: (levels.count(level), level), default=None)


def _note(bot: BotView, now: float, usual: str | None) -> str:
    alone = f"isolation {bot.isolation}" if bot.isolation not in (None, usual) else ""
    said = with_signals_named(bot.reason or _last_failure(bot, now))
    if bot.state == "stopped" and bot.enabled:
        said = "stopped before it was released" if said == "released" else said
        said = f"{said}, while this daemon lives".removeprefix(", ")
    if bot.state == "quarantined" and bot.shut_away:
        said = f"{said}, until it is released".removeprefix(", ")
    old = f"old code ({bot.code[:8]})" if bot.code else ""
    token = "rotated token" if bot.token == "rotated" else ""
    threat = f"threat score {bot.threat_score:g}" if bot.threat_score >= LEAST_SCORE else ""
    aside = f"flooding users set aside: {bot.ignored_users}" if bot.ignored_users else ""
    dead = f"dead letters: {bot.dead_letters}" if bot.dead_letters else ""
    return "; ".join(part for part in (alone, old, token, threat, aside, dead, said) if part)


def _last_failure(bot: BotView, now: float) -> str:
    """`last failure: hang (signal 9), 3 min ago`."""
    if bot.last_failure is None:
        return ""
    exit = f" ({bot.last_exit})" if bot.last_exit else ""
    at = f", {ago(bot.last_failure_at, now)}" if bot.last_failure_at is not None else ""
    return f"last failure: {bot.last_failure}{exit}{at}"


_COLOURS = {
    "running": "green",
    "starting": "cyan",
    "degraded": "yellow",
    "paused": "yellow",
    "backoff": "red",
    "failed": "red",
    "quarantined": "bold red",
    "stopped": "dim",
    "configured": "dim",
}


def _number(value: int | None) -> str:
    return "-" if value is None else str(value)


def _span(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    whole = int(seconds)
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if whole >= 2 * size:
            return f"{whole // size}{unit}"
    return f"{whole}s"
