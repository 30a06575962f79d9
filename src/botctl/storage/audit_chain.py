"""Recomputes the chain over the audit log and names what doesn't fit. Reads only; trusts no digest but its own.

A chain that fits shows that nobody has changed the log *and* left the seals as they were. Whether somebody has made a
new chain, or cut this one off at its end, only the published head tells (`compare_head`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from botctl.storage.audit import UNBORN_FROM
from botctl.storage.audit_batches import Listed, entries, read_list, seals
from botctl.storage.audit_digest import GENESIS, EntryText, Seal
from botctl.storage.audit_head import Head

NAMED = 20
"""Entries of one batch that are named one by one; the others are counted."""

NAMED_IN_ALL = 200
"""Findings after which entries are only counted."""

SLACK = 60.0
"""Seconds by which an entry may seem to be from another time than its batch: the server's clock may be set."""

_UNSEALED_STRAYS = f"""
    SELECT bot_id, extract(epoch FROM at)::text, audit_id, tx, actor, action, entity, before::text, after::text
    FROM audit_log, {UNBORN_FROM} AS of (unborn)
    WHERE tx >= $1 AND (tx >= unborn OR at > clock_timestamp() + make_interval(secs => $4)
                        OR tx >= $2 AND at < to_timestamp($3::text::float8) - make_interval(secs => $4))
    ORDER BY audit_id, bot_id, at LIMIT $5
"""
"""Entries without a seal that somebody has put in: of transactions that have never been, or dated otherwise than they
can have been written."""


class Fault(StrEnum):
    """What can be wrong."""

    CHANGED = "changed"
    REMOVED = "removed"
    INSERTED = "inserted"
    TRUNCATED = "truncated"
    CHAIN = "chain"
    HEAD = "head"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, in words; `seal` is the batch, `audit_id` the entry where they are known."""

    fault: Fault
    text: str
    seal: int | None = None
    audit_id: int | None = None


@dataclass
class Report:
    """What a verification has found. Without findings the log is intact as far as the seals reach."""

    seals: int = 0
    entries: int = 0
    unsealed: int = 0
    first_seal: int = 0
    last_seal: int = 0
    cutoff: str | None = None
    """Entries before this were forgotten by retention, in seconds since the epoch."""
    findings: list[Finding] = field(default_factory=list)
    unnamed: int = 0
    """Entries that are wrong too and are not among the findings."""

    @property
    def intact(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings


async def verify(connection: AsyncConnection) -> tuple[Report, dict[int, bytes]]:
    """Recompute everything; the report, and the digest of each seal to compare with the head.

    Use a REPEATABLE READ transaction, so that a seal made meanwhile confuses nobody. Raises what the database raises.
    """
    report = Report()
    known: dict[int, bytes] = {}
    retentions: dict[int, Seal] = {}
    cutoff = await _cutoff(connection)
    first: Seal | None = None
    last: Seal | None = None
    async for seal in seals(connection):
        if first is None:
            first = seal
            await _before_the_first(connection, seal, report)
        elif last is not None:
            _link(last, seal, report)
        if seal.kind == "retention":
            retentions[seal.seal] = seal
        _own(seal, report)
        await _batch(connection, seal, last, cutoff, report)
        known[seal.seal] = seal.digest
        report.seals += 1
        report.entries += seal.entries
        last = seal
    _beginning(first, retentions, known, report)
    report.first_seal = first.seal if first is not None else 0
    report.last_seal = last.seal if last is not None else 0
    report.cutoff = max((seal.cutoff for seal in retentions.values() if seal.cutoff), key=float, default=None)
    await _strays(connection, last, report)
    report.unsealed = int(
        (
            await connection.exec_driver_sql(
                "SELECT count(*) FROM audit_log WHERE tx >= $1", (last.to_tx if last is not None else 0,)
            )
        ).scalar_one()
    )
    return report, known


def compare_head(head: Head, known: dict[int, bytes]) -> list[Finding]:
    """What was published and is no more what the database has."""
    found = [Finding(Fault.HEAD, f"line {number} of the head file can't be read") for number in head.broken[:NAMED]]
    last, first = max(known, default=0), min(known, default=0)
    cut = sorted({line.seal for line in head.lines if line.seal > last})
    if cut:
        which = f"{cut[0]}" if len(cut) == 1 else f"{cut[0]} to {cut[-1]}"
        entries = sum({line.seal: line.entries for line in head.lines if line.seal > last}.values())
        text = (
            f"the log was truncated: the seal{'s' if len(cut) > 1 else ''} {which} of {entries} entries"
            f" {'were' if len(cut) > 1 else 'was'} published and {'are' if len(cut) > 1 else 'is'} not in the database,"
            f" which ends with seal {last}"
        )
        found.append(Finding(Fault.TRUNCATED, text, seal=cut[0]))
    other = sorted({line.seal for line in head.lines if line.seal in known and line.digest != known[line.seal].hex()})
    found += [
        Finding(Fault.HEAD, f"seal {number} is not the one that was published", seal=number) for number in other[:NAMED]
    ]
    if len(other) > NAMED:
        found.append(Finding(Fault.HEAD, f"… and {len(other) - NAMED} seals more that are not as published"))
    if not head.lines and known:
        found.append(Finding(Fault.HEAD, "the head file has no seal, and the database has"))
    elif known and (published := {line.seal for line in head.lines}):
        gaps = [
            number for number in range(max(first, min(published)), min(last, max(published))) if number not in published
        ]
        if gaps:
            found.append(
                Finding(Fault.HEAD, f"the head file lacks seal {gaps[0]}, and {len(gaps)} in all", seal=gaps[0])
            )
    return found


async def _cutoff(connection: AsyncConnection) -> float:
    found = await connection.exec_driver_sql(
        "SELECT extract(epoch FROM max(cutoff))::float8 FROM audit_seals WHERE bot_id = 0 AND kind = 'retention'"
    )
    value = found.scalar_one()
    return float("-inf") if value is None else float(value)


async def _before_the_first(connection: AsyncConnection, first: Seal, report: Report) -> None:
    found = _Finder(report, first.seal)
    async for group in entries(connection, -(2**63), first.from_tx):
        for entry, _ in group:
            found.add(_inserted(entry, first.seal))
    found.close()


async def _strays(connection: AsyncConnection, last: Seal | None, report: Report) -> None:
    """What was put in behind the last seal, and does not look as if it had just been written."""
    parameters = (last.to_tx, last.next_tx, last.sealed_at) if last is not None else (0, 2**63 - 1, "0")
    result = await connection.exec_driver_sql(_UNSEALED_STRAYS, (*parameters, SLACK, NAMED_IN_ALL))
    rows: Sequence[Any] = result.all()
    found = _Finder(report, None)
    for row in rows:
        found.add(_inserted(EntryText(*row), None))
    found.close()


def _beginning(first: Seal | None, retentions: dict[int, Seal], known: dict[int, bytes], report: Report) -> None:
    if first is None or (first.seal == 1 and first.previous == GENESIS):
        return
    last = max(retentions.values(), key=lambda seal: seal.seal, default=None)
    if last is None or (last.forgotten_seal, last.forgotten_digest) != (first.seal - 1, first.previous):
        text = f"seals before {first.seal} are gone, and no retention says so"
        report.findings.append(Finding(Fault.TRUNCATED, text, seal=first.seal))


def _link(last: Seal, seal: Seal, report: Report) -> None:
    if seal.seal != last.seal + 1:
        text = f"seals {last.seal + 1} to {seal.seal - 1} are gone"
        report.findings.append(Finding(Fault.CHAIN, text, seal=last.seal + 1))
    elif seal.previous != last.digest:
        report.findings.append(
            Finding(Fault.CHAIN, f"seal {seal.seal} does not follow from seal {last.seal}", seal=seal.seal)
        )
    elif seal.from_tx != last.to_tx:
        text = f"seal {seal.seal} does not begin where seal {last.seal} ends"
        report.findings.append(Finding(Fault.CHAIN, text, seal=seal.seal))


def _own(seal: Seal, report: Report) -> None:
    if seal.own_digest() != seal.digest:
        report.findings.append(Finding(Fault.CHAIN, f"seal {seal.seal} was changed", seal=seal.seal))


async def _batch(connection: AsyncConnection, seal: Seal, last: Seal | None, cutoff: float, report: Report) -> None:
    """Go through list and entries side by side, both in the order of ids."""
    listed = await read_list(connection, seal.seal)
    if seal.kind == "batch" and (listed.root != seal.root or len(listed) != seal.entries):
        report.findings.append(Finding(Fault.CHAIN, f"the list of seal {seal.seal} was changed", seal=seal.seal))
    found, order, at = _Finder(report, seal.seal), listed.by_id(), 0

    def gone(place: int) -> None:
        if listed.ats[place] >= cutoff:
            found.add(Finding(Fault.REMOVED, f"entry {listed.ids[place]} is gone", seal.seal, listed.ids[place]))

    async for same in entries(connection, seal.from_tx, seal.to_tx):
        audit_id = same[0][0].audit_id
        while at < len(order) and listed.ids[order[at]] < audit_id:
            gone(order[at])
            at += 1
        while at < len(order) and listed.ids[order[at]] == audit_id:
            _compare(same, listed, order[at], seal, last, found, gone)
            at += 1
        for entry, _ in same:
            found.add(_inserted(entry, seal.seal))
    for place in order[at:]:
        gone(place)
    found.close()


def _compare(
    same: list[tuple[EntryText, bytes]],
    listed: Listed,
    place: int,
    seal: Seal,
    last: Seal | None,
    found: _Finder,
    gone: Callable[[int], None],
) -> None:
    """Take from the entries of one id the one that the list has at this place."""
    digest = listed.digest(place)
    match = next((one for one in same if one[1] == digest), None) or (same[0] if same else None)
    if match is None:
        gone(place)
        return
    same.remove(match)
    entry = match[0]
    if match[1] != digest:
        words = f"entry {entry.audit_id} ({entry.action} of {entry.entity}, bot {entry.bot_id}) was changed"
        found.add(Finding(Fault.CHANGED, words, seal.seal, entry.audit_id))
    elif (untimely := _untimely(entry, seal, last)) is not None:
        found.add(Finding(Fault.INSERTED, untimely, seal.seal, entry.audit_id))


def _untimely(entry: EntryText, seal: Seal, last: Seal | None) -> str | None:
    """An entry that was put in before its batch was sealed, but is dated otherwise."""
    at = float(entry.at)
    if last is not None and entry.tx >= last.next_tx and at < float(last.sealed_at) - SLACK:
        return f"entry {entry.audit_id} was put in later than it says (or the server's clock was set back)"
    if at > float(seal.sealed_at) + SLACK:
        return f"entry {entry.audit_id} was put in earlier than it says (or the server's clock was set back)"
    return None


def _inserted(entry: EntryText, seal: int | None) -> Finding:
    text = f"entry {entry.audit_id} ({entry.action} of {entry.entity}, bot {entry.bot_id}) was put in"
    return Finding(Fault.INSERTED, text, seal, entry.audit_id)


class _Finder:
    """Names what is wrong with a batch, as far as there is room in the report; the rest is counted."""

    def __init__(self, report: Report, seal: int | None) -> None:
        self._report = report
        self._seal = seal
        self._room = max(0, min(NAMED, NAMED_IN_ALL - len(report.findings)))
        self._named = 0
        self._others: Counter[Fault] = Counter()

    def add(self, finding: Finding) -> None:
        if self._named < self._room:
            self._report.findings.append(finding)
            self._named += 1
        else:
            self._others[finding.fault] += 1

    def close(self) -> None:
        if not self._room:
            self._report.unnamed += self._others.total()
            return
        where = f"of batch {self._seal}" if self._seal is not None else "without a seal"
        for fault, more in sorted(self._others.items()):
            words = f"… and {more} entries more {where} are {fault.value}"
            self._report.findings.append(Finding(fault, words, self._seal))
