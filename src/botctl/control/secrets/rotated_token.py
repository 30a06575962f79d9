"""A token that an operator has given a running bot, and which tokens of the fleet file it stands in for. Pure.

It replaces what the file holds as long as the file holds a token that was replaced; any other token in the file is
newer, and wins.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from botctl.control.fleet.wanted import fingerprint
from botctl.errors import VaultError


class _Kept(msgspec.Struct, frozen=True):
    token: str
    replaces: list[str]


@dataclass(frozen=True, slots=True)
class RotatedToken:
    """`replaced` are fingerprints; `set_at` in seconds since the epoch, 0 before it is stored."""

    token: str = field(repr=False)
    replaced: frozenset[str]
    set_at: float = 0.0

    @classmethod
    def instead_of(cls, old: str, new: str, before: RotatedToken | None) -> RotatedToken:
        """`new` for `old`, which may itself have replaced others (`before`)."""
        earlier = before.replaced if before is not None else frozenset()
        return cls(new, (earlier | {fingerprint(old)}) - {fingerprint(new)})

    def replaces(self, token: str) -> bool:
        """Whether it stands in for this token."""
        return fingerprint(token) in self.replaced

    def encoded(self) -> bytes:
        """As it is sealed."""
        return msgspec.json.encode(_Kept(self.token, sorted(self.replaced)))

    @classmethod
    def decoded(cls, body: bytes, set_at: float) -> RotatedToken:
        """What was sealed. Raises VaultError for anything else."""
        try:
            kept = msgspec.json.decode(body, type=_Kept)
        except msgspec.DecodeError:
            raise VaultError("what is sealed as a token is none") from None
        return cls(kept.token, frozenset(kept.replaces), set_at)
