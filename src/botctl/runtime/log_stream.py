"""The output of one incarnation on its way into a log: read raw, cut into lines, freed of secrets, its tail kept.

Two threads use it, and neither may keep the other waiting: the log keeper's cleans and writes, the supervisor's asks
for the tail of a child that has ended. So reading is quick and done under the lock, cleaning is long and done outside.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable

READ_BUDGET = 64 * 1024
LONGEST_LINE = 16 * 1024
CUT_WINDOW = 2048
BLOCK = 8 * 1024
"""Bytes cleaned at once: as many lines as fit. A call a line is slow, and one call for all keeps the interpreter from
the supervisor's thread for long."""

TAIL_BYTES = 8 * 1024
TAIL_READS = 4
TOO_LONG = b"[a line of more than 8 KiB]"

_NOT_IN_SECRETS = re.compile(rb"[^A-Za-z0-9_:%+/=.-]")

Redact = Callable[[bytes], bytes]


class LogStream:
    """One pipe. `descriptor` is closed by its reader, once `ended`."""

    def __init__(self, descriptor: int, name: str) -> None:
        self.descriptor = descriptor
        self.name = name
        self.ended = False
        """Nothing more is read."""
        self.over = False
        """Whether the incarnation that it was opened for has ended; the supervisor's note."""
        self._lock = threading.Lock()
        self._raw: list[bytes] = []
        """What has been read and not been cleaned; the keeper takes it out when it has been."""
        self._tail = b""
        """The end of what has been cleaned."""

    def fill(self) -> int:
        """Read once; how many bytes have come."""
        with self._lock:
            return self._read()

    def end(self) -> None:
        """Read no more: the descriptor is about to be closed."""
        with self._lock:
            self.ended = True

    def clean(self, redact: Redact) -> bytes:
        """What there is of whole lines, without secrets; at the end also the last one. For one thread only."""
        with self._lock:
            taken, ended = len(self._raw), self.ended
            raw = b"".join(self._raw)
        lines, rest = _lines(raw, all_of_it=ended)
        cleaned = b"".join(map(redact, _blocks(lines)))
        with self._lock:
            self._raw[:taken] = [rest] if rest else []
            self._tail = (self._tail + cleaned)[-TAIL_BYTES:]
        return cleaned

    def tail(self, redact: Redact) -> list[str]:
        """The last lines, with what still stands in the pipe; some KiB of them."""
        with self._lock:
            for _ in range(TAIL_READS):
                if self.ended or self._read() < READ_BUDGET:
                    break
            raw, text = b"".join(self._raw), self._tail
        if len(raw) > TAIL_BYTES:
            start = raw.find(b"\n", len(raw) - TAIL_BYTES)
            # Not from amidst a line: half a secret isn't recognised.
            raw, text = raw[start:] if start >= 0 else TOO_LONG, b""
        text = (text + redact(raw))[-TAIL_BYTES:]
        return text.strip(b"\n").decode("utf-8", "backslashreplace").split("\n") if text.strip(b"\n") else []

    def _read(self) -> int:
        if self.ended:
            return 0
        try:
            data = os.read(self.descriptor, READ_BUDGET)
        except BlockingIOError:
            return 0
        except OSError:
            data = b""
        if data:
            self._raw.append(data)
        else:
            self.ended = True
        return len(data)


def _lines(raw: bytes, *, all_of_it: bool) -> tuple[bytes, bytes]:
    """Whole lines, each with its end, and what is left; a line that grows too long is cut."""
    end = raw.rfind(b"\n") + 1
    lines, rest = raw[:end], raw[end:]
    while len(rest) > LONGEST_LINE:
        cut = _harmless_cut(rest, LONGEST_LINE)
        lines += rest[:cut] + b"\n"
        rest = rest[cut:]
    if all_of_it and rest:
        lines, rest = lines + rest + b"\n", b""
    return lines, rest


def _blocks(lines: bytes) -> list[bytes]:
    blocks = []
    start = 0
    while start < len(lines):
        end = lines.rfind(b"\n", start, start + BLOCK) + 1 or lines.find(b"\n", start) + 1
        blocks.append(lines[start:end])
        start = end
    return blocks


def _harmless_cut(line: bytes, limit: int) -> int:
    """Where to cut a line that is too long: not within what could be a secret, lest each half look harmless."""
    for match in re.finditer(_NOT_IN_SECRETS, line[limit - CUT_WINDOW : limit][::-1]):
        return limit - match.start()
    return limit
