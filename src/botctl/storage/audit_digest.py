"""What is hashed of the audit log, and how: the same as `botctl_internal.audit_*_digest` do it in SQL. Pure.

A tool of one's own needs no more than this file says: docs/database.md, "Audit log".
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

GENESIS = bytes(32)
"""What the first seal has in the place of a digest before it."""

_NULL = b"-,"


@dataclass(frozen=True, slots=True)
class EntryText:
    """One entry as PostgreSQL writes it: `at` as `extract(epoch FROM at)::text`, JSON as `::text`."""

    bot_id: int
    at: str
    audit_id: int
    tx: int
    actor: str
    action: str
    entity: str
    before: str | None
    after: str | None

    def digest(self) -> bytes:
        """SHA-256 of its fields, version 1."""
        return _sha256(
            "botctl-audit-entry-1",
            str(self.bot_id),
            self.at,
            str(self.audit_id),
            str(self.tx),
            self.actor,
            self.action,
            self.entity,
            self.before,
            self.after,
        )


@dataclass(frozen=True, slots=True)
class Seal:
    """One link of the chain, without its list. Times as `EntryText.at`."""

    seal: int
    kind: str
    from_tx: int
    to_tx: int
    next_tx: int
    entries: int
    root: bytes
    previous: bytes
    digest: bytes
    sealed_at: str
    cutoff: str | None
    forgotten_seal: int | None
    forgotten_digest: bytes | None

    def own_digest(self) -> bytes:
        """What its digest has to be, version 1."""
        return _sha256(
            "botctl-audit-seal-1",
            str(self.seal),
            self.kind,
            str(self.from_tx),
            str(self.to_tx),
            str(self.next_tx),
            str(self.entries),
            self.root.hex(),
            self.previous.hex(),
            self.sealed_at,
            self.cutoff,
            None if self.forgotten_seal is None else str(self.forgotten_seal),
            None if self.forgotten_digest is None else self.forgotten_digest.hex(),
        )


def line_of_list(audit_id: int, at: str, digest: bytes) -> bytes:
    """One entry's part of the list; the root of a batch is the SHA-256 of these, one behind the other."""
    return fields(str(audit_id), at, digest.hex())


def fields(*texts: str | None) -> bytes:
    """Each text as its length in bytes, a colon, itself and a comma; a null as `-,`."""
    return b"".join(_one(text) for text in texts)


def _one(text: str | None) -> bytes:
    if text is None:
        return _NULL
    body = text.encode()
    return b"%d:%s," % (len(body), body)


def _sha256(*texts: str | None) -> bytes:
    return hashlib.sha256(fields(*texts)).digest()


def digests_of(entries: Iterable[EntryText]) -> list[bytes]:
    """The digests of many entries; a batch of thousands is work for a thread."""
    return [entry.digest() for entry in entries]
