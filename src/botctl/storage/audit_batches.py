"""Reads what the chain of the audit log is recomputed from: seals, their lists, and entries, a page at a time.

A batch is as large as the largest transaction, so neither its entries nor its list are ever held as objects at once.
"""

from __future__ import annotations

import asyncio
import hashlib
from array import array
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from botctl.storage.audit_digest import EntryText, Seal, digests_of, line_of_list

AT_ONCE = 2000
"""Entries that are held at a time."""

_SEALS_AT_ONCE = 20

_SEAL = """
    SELECT seal, kind, from_tx, to_tx, next_tx, entries, root, previous, digest, extract(epoch FROM sealed_at)::text,
           extract(epoch FROM cutoff)::text, forgotten_seal, forgotten_digest
    FROM audit_seals WHERE bot_id = 0 AND seal > $1 ORDER BY seal LIMIT $2
"""
_LIST = """
    SELECT audit_ids[$2:$3],
           ARRAY(SELECT extract(epoch FROM one)::text FROM unnest(ats[$2:$3]) WITH ORDINALITY AS u (one, n) ORDER BY n),
           substring(digests FROM 32 * ($2 - 1) + 1 FOR 32 * ($3 - $2 + 1))
    FROM audit_seals WHERE bot_id = 0 AND seal = $1
"""
_FITTING = """
    SELECT cardinality(audit_ids), cardinality(ats) = cardinality(audit_ids)
           AND octet_length(digests) = 32 * cardinality(audit_ids)
    FROM audit_seals WHERE bot_id = 0 AND seal = $1
"""
# Numbers of transactions are integers of ours; a cursor takes no parameters in this form.
_ENTRIES = """
    SELECT bot_id, CAST(extract(epoch FROM at) AS text), audit_id, tx, actor, action, entity, CAST(before AS text),
           CAST(after AS text)
    FROM audit_log WHERE tx >= {from_tx} AND tx < {to_tx} ORDER BY audit_id, bot_id, at
"""


@dataclass
class Listed:
    """The list of a seal, packed: some 50 bytes an entry. `root` is what its digest has to be."""

    ids: array[int] = field(default_factory=lambda: array("q"))
    ats: array[float] = field(default_factory=lambda: array("d"))
    digests: bytearray = field(default_factory=bytearray)
    root: bytes = b""

    def __len__(self) -> int:
        return len(self.ids)

    def digest(self, place: int) -> bytes:
        """Of the entry at this place."""
        return bytes(self.digests[32 * place : 32 * place + 32])

    def by_id(self) -> Sequence[int]:
        """Places in the order of ids; only a list that was changed has another one."""
        ids = self.ids
        if all(ids[place] <= ids[place + 1] for place in range(len(ids) - 1)):
            return range(len(ids))
        return sorted(range(len(ids)), key=ids.__getitem__)


async def seals(connection: AsyncConnection) -> AsyncIterator[Seal]:
    """All seals in their order, without their lists."""
    after = 0
    while True:
        result = await connection.exec_driver_sql(_SEAL, (after, _SEALS_AT_ONCE))
        rows: Sequence[Any] = result.all()
        for row in rows:
            yield Seal(*row)
            after = row[0]
        if len(rows) < _SEALS_AT_ONCE:
            return


async def read_list(connection: AsyncConnection, seal: int) -> Listed:
    """The list of a seal; an empty one when its parts don't fit together."""
    listed, root = Listed(), hashlib.sha256()
    row: Sequence[Any] = (await connection.exec_driver_sql(_FITTING, (seal,))).one()
    count = int(row[0]) if row[1] else 0
    for start in range(1, count + 1, AT_ONCE):
        page: Sequence[Any] = (await connection.exec_driver_sql(_LIST, (seal, start, start + AT_ONCE - 1))).one()
        ids, ats, digests = page
        await asyncio.to_thread(_add, listed, root, ids, ats, digests)
    listed.root = root.digest()
    return listed


async def entries(
    connection: AsyncConnection, from_tx: int, to_tx: int
) -> AsyncIterator[list[tuple[EntryText, bytes]]]:
    """Entries of these transactions with their digests, by `audit_id`, those of one id together."""
    group: list[tuple[EntryText, bytes]] = []
    async with connection.stream(text(_ENTRIES.format(from_tx=int(from_tx), to_tx=int(to_tx)))) as result:
        async for page in result.partitions(AT_ONCE):
            read = [EntryText(*row) for row in page]
            for entry, digest in zip(read, await asyncio.to_thread(digests_of, read), strict=True):
                if group and group[0][0].audit_id != entry.audit_id:
                    yield group
                    group = []
                group.append((entry, digest))
    if group:
        yield group


def _add(listed: Listed, root: Any, ids: list[int], ats: list[str], digests: bytes) -> None:
    listed.ids.extend(ids)
    listed.ats.extend(map(float, ats))
    listed.digests += digests
    for place, (audit_id, at) in enumerate(zip(ids, ats, strict=True)):
        root.update(line_of_list(audit_id, at, digests[32 * place : 32 * place + 32]))
