"""What was cut off a stream before a reader had it. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Dropped:
    """`reader` is `bot:ID`, `group:NAME` or `grant:NAME`; `entries` how many it will never read, about.

    What is gone are the entries of `stream` (a key) from the id `first` on and before the id `before`; either is empty
    where nobody knows it, or when nothing is left.
    """

    stream: str
    reader: str
    entries: int
    first: str
    before: str
    why: str
