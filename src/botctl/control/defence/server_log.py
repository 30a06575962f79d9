"""The embedded PostgreSQL's own log: what it says of refused statements and failed logins, and all of it for operators.

Who did something is the session's login, which the server tells itself. Costs a bounded time and room however much is
written: a flood of one bot is passed on in part, and counted whole.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections import Counter
from collections.abc import Iterable
from logging import LogRecord, makeLogRecord
from logging.handlers import RotatingFileHandler
from pathlib import Path

import structlog

from botctl.observability.logs import redact
from botctl.observability.postgres_log import LONGEST_NAME, Entry, ServerLog, entry_of, plain
from botctl.security.threat.denials import target_of
from botctl.security.threat.observations import DeniedSql, FailedLogins, Observation, Target

_log = structlog.get_logger("botctl.control.defence.server_log")

MOST_FAILED = 20
"""Addresses and bots of failed logins in one look that are told of."""

TOLD_FOR = 600.0
"""Seconds for which `problem` tells of what was not read: longer than people take between two looks."""

LINES_A_LOOK = 5
"""Messages of one login that are passed on to the operator's log, of those of one look."""

_REFUSED = b'"state_code":"42501"'
_NOT_LET_IN = b'"state_code":"28'
_USER = re.compile(rb'\{"timestamp":"[^"]*"(?:,"user":"((?:[^"\\]|\\.)*)")?')
_BOT = re.compile(r"bot_([1-9][0-9]{0,17})")


class ServerLogFeed:
    """`home` is the embedded server's folder, `logs` where operators look: `botctl logs postgres`."""

    def __init__(self, home: Path, logs: Path) -> None:
        self.problem: str | None = None
        self._log = ServerLog(home)
        self._dropped_at = -math.inf
        self._shown = logs / "postgres-messages.log"
        self._handler: RotatingFileHandler | None = None

    async def read(self, now: float) -> list[Observation]:
        """What is new. Without its folder there is nothing, and `problem` says so."""
        try:
            return await asyncio.to_thread(self._look, now)
        except OSError as error:
            if self.problem is None:
                _log.error("the server's log can't be read; refused statements are not seen", error=str(error))
            self.problem = f"database: its log can't be read, so refused statements are not seen: {error.strerror}"
            return []

    def _look(self, now: float) -> list[Observation]:
        dropped = self._log.dropped
        lines = self._log.read()
        found = _observations(lines, now)
        self._show(lines)
        self._log.keep()
        self.problem = None
        if self._log.dropped > dropped:
            self._dropped_at = now
        if now - self._dropped_at < TOLD_FOR:
            size = f"{self._log.dropped / 1e6:.1f} MB"
            self.problem = f"database: bots flood its log, {size} of which were not read; see: botctl logs postgres"
        if self._log.dropped > dropped:
            _log.error("the server's log is flooded, and was not read in full", bytes=self._log.dropped - dropped)
        return found

    def _show(self, lines: list[bytes]) -> None:
        shown: Counter[bytes] = Counter()
        for line in lines:
            user = _user(line)
            shown[user] += 1
            if shown[user] <= LINES_A_LOOK:
                entry = entry_of(line)
                self._write(entry.line if entry is not None else plain(line[:800].decode("utf-8", "replace"), 200))
        for user, count in shown.items():
            if count > LINES_A_LOOK:
                whose = plain(user.decode("utf-8", "replace"), LONGEST_NAME) or "the server"
                self._write(f"and {count - LINES_A_LOOK} more of {whose}")

    def _write(self, line: str) -> None:
        if self._handler is None:
            self._handler = _Handler(self._shown, maxBytes=10_000_000, backupCount=2, encoding="utf-8", delay=True)
        self._handler.handle(makeLogRecord({"msg": redact(line)}))


class _Handler(RotatingFileHandler):
    """What can't be written is lost."""

    def handleError(self, record: LogRecord) -> None:
        """Nothing: a full disk is told of elsewhere."""


def _observations(lines: Iterable[bytes], now: float) -> list[Observation]:
    denied: Counter[tuple[int, Target]] = Counter()
    words: dict[tuple[int, Target], str] = {}
    failed: Counter[tuple[int, str]] = Counter()
    for line in lines:
        if _REFUSED in line:
            if (bot := _BOT.fullmatch(_user(line).decode("ascii", "replace"))) is not None:
                message = (entry_of(line) or Entry()).message
                what = int(bot[1]), target_of(message)
                denied[what] += 1
                words.setdefault(what, message[:200])
        elif _NOT_LET_IN in line:
            entry = entry_of(line) or Entry()
            if entry.state_code == "28P01" and (bot := _BOT.fullmatch(entry.user)) is not None:
                failed[int(bot[1]), entry.remote_host] += 1
    found: list[Observation] = [
        DeniedSql(at=now, bot_id=bot_id, message=words[bot_id, target], target=target, count=count)
        for (bot_id, target), count in denied.items()
    ]
    return found + [
        FailedLogins(at=now, tried=tried, address=address, count=count)
        for (tried, address), count in failed.most_common(MOST_FAILED)
    ]


def _user(line: bytes) -> bytes:
    head = _USER.match(line)
    return head[1] or b"" if head is not None else b""
