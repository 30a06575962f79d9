"""Who may bring updates for which bot. Pure; replaced as a whole when anything changes.

Nothing tells an unknown bot from a wrong secret: the same answer, after the same comparisons.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from botctl.control.ingress.secrets import WebhookSecret, match
from botctl.storage.sealing import UNSEALED, Sealing

SECRET_HEADER = b"x-telegram-bot-api-secret-token"
_LAST_PART = re.compile(r"/([1-9]\d{0,17})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Resident:
    """One bot of the fleet that can be sent updates; `sealing` is how its rows are stored."""

    bot_id: int
    secret: WebhookSecret = field(repr=False)
    sealing: Sealing = UNSEALED


@dataclass(frozen=True, slots=True)
class Admitted:
    """Somebody showed a secret of this bot; `newest`: it is the newest one."""

    resident: Resident
    newest: bool


@dataclass(frozen=True, slots=True)
class Door:
    """`path` is what stands before a bot's id."""

    path: str = ""
    residents: Mapping[int, Resident] = field(default_factory=dict)

    def admit(self, path: str, shown: bytes) -> Admitted | None:
        """Whoever asks for this path and shows this secret; None when they are nobody."""
        found = _LAST_PART.fullmatch(path.removeprefix(self.path)) if path.startswith(self.path) else None
        resident = self.residents.get(int(found[1])) if found is not None else None
        matched = match(resident.secret if resident is not None else None, shown)
        return Admitted(resident, matched.newest) if resident is not None and matched.fits else None
