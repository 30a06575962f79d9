"""What applying a fleet leaves behind: where it came from, the note for the next `control`, and what is told of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from botctl.control.views import AppliedBody
from botctl.fleet import FleetDiff


@dataclass(frozen=True)
class FleetSource:
    """Where a fleet was read from, so that a reload can read it again."""

    path: str | None = None
    env: Mapping[str, str] = field(default_factory=dict, repr=False)


class AppliedNote(msgspec.Struct, frozen=True, kw_only=True):
    """What one `control` leaves for the next, in the supervisor's keeping."""

    generation: int
    fleet: msgspec.Raw
    path: str | None
    env: dict[str, str]
    master_keys: str = ""
    """Those in use, if they are not from a file that the daemon reads again."""
    ignored: dict[int, dict[int, float]] = {}
    """`FleetKeeper.ignored`."""
    webhooks: dict[int, tuple[str, ...]] = {}
    """Secrets of webhooks, by bot_id; the newest first."""


def told(diff: FleetDiff, *, dry_run: bool = False, failed: Mapping[str, str] | None = None) -> AppliedBody:
    """For the operator."""
    return AppliedBody(
        dry_run=dry_run,
        added=list(diff.added),
        removed=list(diff.removed),
        changed=list(diff.changed),
        unchanged=list(diff.unchanged),
        groups=list(diff.groups),
        failed=dict(failed or {}),
    )
