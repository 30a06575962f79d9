"""The answer of `botctl why`: from what is known of a bot's deaths to lines that read like an answer. Pure."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING

from botctl.cli.log_line import readable
from botctl.cli.stack_view import telling
from botctl.cli.words import ago, cut, local_time, printable, span, times, when, with_signals_named
from botctl.control.advice import HELD_BACK, advice, advice_in_trouble
from botctl.supervision.failures import TREATMENT
from botctl.supervision.model import Failure

if TYPE_CHECKING:
    from botctl.control.views import BotView, DeathBody, DeathsBody

LINES = 5
"""Of a log's end, unless all were asked for."""

_DOWN = frozenset({"backoff", "quarantined"})

_KILLED = frozenset({Failure.HANG, Failure.NOT_READY, Failure.PROTOCOL})
"""Classes whose process is killed when they are found."""

_OTHERWISE_TOLD = frozenset({Failure.MEMORY, Failure.SPAWN})
"""Classes whose memory isn't told: the cause says how much there was, or there was no process."""

_NEXT_DAEMON = "A daemon that is started anew starts it again. For good: enabled: false in the fleet file."

_NOISE = re.compile(r'^\s*(?:[~^]+\s*$|File "<frozen )')
"""Marks below a line of a traceback, and frames of the machinery of imports."""

_WORTH_SAYING = 5.0
"""Seconds of silence; the heartbeats of an idle bot are three seconds apart."""


def answer(body: DeathsBody, *, now: float, width: int, full: bool = False, unseen: str = "") -> list[str]:
    """Lines no wider than `width`. `unseen` says why nobody knows how the bot is now, if so."""
    lines: list[str] = []
    for paragraph in _standing(body, now, unseen):
        lines += _wrapped(paragraph, width)
    lines += [line for note in body.notes for line in _wrapped(f"! {printable(note)}", width)]
    shortened = False
    advised = set()
    if body.bot is not None and body.bot.state in _DOWN and not body.bot.held_back:
        advised.add(_to_mend(body.bot, body))
    for death in body.deaths:
        if body.bot is not None and body.bot.held_back and death is body.deaths[0]:
            death = death.model_copy(update={"action": _held_back(body.bot, death)})
        todo = advice(death.failure, exit=death.exit, cause=_cause(death))
        todo = "" if todo in advised else todo
        advised.add(todo)
        told = list(_death(death, todo, now, width, full))
        shortened = shortened or (not full and told != list(_death(death, todo, now, width, True)))
        lines += ["", *told]
    if shortened:
        lines += ["", "Shortened; --full shows all lines and stacks."]
    return lines


def meaning_of(failure: str) -> str:
    """A class of failure in words; the class itself when this release doesn't know it."""
    try:
        return TREATMENT[Failure(failure)].meaning.replace("`", "")
    except (ValueError, KeyError):
        return failure


# --- how it is now -------------------------------------------------------------------------------------------------


def _standing(body: DeathsBody, now: float, unseen: str) -> Iterator[str]:
    name, bot = body.name, body.bot
    if bot is not None:
        yield from _state(bot, body, now)
    elif unseen:
        yield f"How {name} is now can't be told: {unseen}"
    else:
        yield f"{name} is not in the fleet any more."
    last, death = body.last_end, (body.deaths[0] if body.deaths else None)
    known = bot is not None and bot.state == "stopped"
    if last is not None and last.failure is None and last.exit != "unknown" and not known:
        yield f"It last ended {ago(last.ended_at, now)}, because it was asked to: {_cause(last)}."
    if death is None:
        since = f" since {when(body.since, now)}, when its history begins" if body.since is not None else ""
        yield f"{name} has not died{since}."
    if bot is not None and bot.dead_letters:
        what = "1 dead letter waits" if bot.dead_letters == 1 else f"{bot.dead_letters} dead letters wait"
        yield f"{what} for you: botctl dead-letters list --bot {name}"
    if body.failures_24h:
        counts = ", ".join(f"{failure} {times(count)}" for failure, count in sorted(body.failures_24h.items()))
        yield f"Failures in the last 24 h: {counts}."


def _state(bot: BotView, body: DeathsBody, now: float) -> Iterator[str]:
    since = f" since {when(now - bot.since_s, now)}" if bot.since_s is not None else ""
    lived = f", for {span(bot.uptime_s)}" if bot.uptime_s is not None else ""
    reason = with_signals_named(printable(" ".join(bot.reason.split())))
    because = f": {reason}" if reason else ""
    name = bot.name
    match bot.state:
        case "running" if bot.kept_off_redis:
            yield f"{name} runs (pid {bot.pid}){lived}, but not all is well{because}."
            yield from _in_trouble(bot)
        case "running":
            yield f"{name} runs (pid {bot.pid}){lived}."
        case "degraded":
            yield f"{name} runs (pid {bot.pid}){lived}, but is degraded{because}."
            yield from _in_trouble(bot)
        case "paused":
            yield f"{name} waits{since}{because}. It goes on by itself when that is back; a restart would not help."
            yield from _in_trouble(bot)
        case "starting":
            yield f"{name} is starting{since}{because}."
            yield from _in_trouble(bot)
        case "stopping" | "failed":
            yield f"{name} is being ended{since}{because}."
        case "configured":
            yield f"{name} has not been started yet{because}."
        case "backoff" if bot.held_back:
            yield f"{name} is down{since}{because}. It is started again by itself."
            yield f"To do: {HELD_BACK} To start this one at once: botctl restart {name}"
        case "backoff":
            yield f"{name} is down{since}{because}. It is started again by itself."
            yield from _to_do(bot, body)
        case "quarantined":
            yield f"{name} is quarantined{since}{because}. It is not started again by itself."
            yield from _to_do(bot, body, f"botctl release {name}")
            if bot.shut_away:
                yield "It was shut away on purpose, and stays so when a daemon is started anew."
        case "stopped" if not bot.enabled:
            yield f"{name} is stopped{since}: the fleet file says enabled: false."
        case "stopped":
            yield f"{name} is stopped{since}{because}. To start it: botctl restart {name}"
            yield _NEXT_DAEMON
        case other:
            yield f"{name} is {other}{since}{because}."


def _to_do(bot: BotView, body: DeathsBody, then: str = "") -> Iterator[str]:
    todo = _to_mend(bot, body)
    if todo == advice(Failure.BAD_TOKEN):
        then = ""  # applying the new token starts it
    if steps := [step for step in (todo, then) if step]:
        yield f"To do: {' Then: '.join(steps)}"


def _in_trouble(bot: BotView) -> Iterator[str]:
    if steps := advice_in_trouble(bot.reason):
        yield f"To do: {' '.join(steps)}"


def _to_mend(bot: BotView, body: DeathsBody) -> str:
    """What to do about its latest end."""
    if (last := body.last_end) is not None:
        return advice(last.failure, exit=last.exit, cause=_cause(last))
    return advice(bot.last_failure, exit=bot.last_exit)


# --- one death -----------------------------------------------------------------------------------------------------


def _death(death: DeathBody, todo: str, now: float, width: int, full: bool) -> Iterator[str]:
    yield from _wrapped(f"{when(death.ended_at, now)}: {_cause(death)}", width)
    yield from _wrapped(f"  {_how(death)}", width, "  ")
    if death.action:
        action = printable(" ".join(death.action.split())).rstrip(".")
        action = action.removesuffix(f": {_cause(death)}").removesuffix(", the last")
        yield from _wrapped(f"  Then: {action}", width, "  ")
    if todo:
        yield from _wrapped(f"  To do: {todo}", width, "  ")
    told = [printable(part) for line in death.log_tail for part in readable(line) if part.strip()]
    cause = printable(" ".join(death.cause.split())).rstrip(".")
    tail = [line for line in told if not cause or f"={cause}" not in line] or told
    if tail:
        yield "  Last lines of its log:"
        for line in tail if full else _worth_reading(tail)[-LINES:]:
            yield "    " + (line if full else cut(line.rstrip(), max(20, width - 4)))
    elif death.failure is not None:
        yield "  It had written nothing to its log."
    if death.stacks:
        yield "  Where it stood:"
        for line in death.stacks.splitlines() if full else telling(death.stacks):
            yield "    " + (printable(line) if full else cut(printable(line), max(20, width - 4)))


def _held_back(bot: BotView, death: DeathBody) -> str:
    """What is done now, where the record was made before the fleet breaker had its say."""
    if death.action.startswith("held back"):
        return death.action
    return f"held back by the fleet breaker: {bot.reason.partition(', so ')[0]}"


def _cause(death: DeathBody) -> str:
    cause = printable(" ".join(death.cause.split())).rstrip(".")
    if cause and cause != death.exit:
        return f"it broke the protocol of its pipe: {cause}" if death.failure == Failure.PROTOCOL else cause
    if death.failure:
        return meaning_of(death.failure)
    return "it was asked to end" if death.exit != "unknown" else "nobody has seen how it ended"


def _worth_reading(tail: list[str]) -> list[str]:
    """Without the lines of a traceback that tell nobody anything; they stand in the whole one."""
    return [line for line in tail if _NOISE.match(line) is None] or tail


def _how(death: DeathBody) -> str:
    parts = [death.failure] if death.failure else []
    if death.exit and death.exit != "unknown":
        ours = death.failure in _KILLED and death.exit == "signal 9"
        parts.append("killed by its supervisor" if ours else printable(death.exit))
    if death.failure == Failure.SPAWN:
        pass  # it never began
    elif death.duration_s is not None:
        parts.append(f"after {span(death.duration_s)}")
    elif death.started_at is not None:
        parts.append(f"it had begun {local_time(death.started_at)}")
    if death.silent_for_s is not None and death.silent_for_s >= _WORTH_SAYING:
        parts.append(f"silent for {span(death.silent_for_s)}")
    if death.memory_mb is not None and death.failure not in _OTHERWISE_TOLD:
        parts.append(f"{death.memory_mb:.0f} MB")
    return " · ".join(parts) or "nothing more is known"


def _wrapped(text: str, width: int, indent: str = "") -> list[str]:
    return textwrap.wrap(
        text,
        max(40, width),
        subsequent_indent=indent + ("  " if indent else ""),
        break_long_words=False,
        break_on_hyphens=False,
        drop_whitespace=True,
    ) or [text]
