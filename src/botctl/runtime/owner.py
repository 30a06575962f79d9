"""`Owner`: what the supervisor tells and asks the composition root that made it.

A protocol only: nothing here does anything, and nothing in `runtime` knows who is behind it.
"""

from __future__ import annotations

from typing import Protocol

from botctl.runtime import messages
from botctl.runtime.children import Child


class Owner(Protocol):
    """The composition root's side: what the supervisor tells it."""

    def log(self, level: str, event: str, **fields: object) -> None:
        """A line for the daemon's log."""

    def setup_done(self, result: bytes) -> None:
        """Set-up has ended well; `result` is the JSON of `handover.SetupResult`."""

    def boot_failed(self, message: str) -> None:
        """The daemon can't come up; shut down with this message."""

    def broken(self, message: str) -> None:
        """The daemon can't go on; shut down as failed, so that whoever watches it starts it anew."""

    def serving(self) -> None:
        """`control` serves its API for the first time."""

    def configure(self, child: Child) -> messages.Configure:
        """The first frame for a new incarnation."""

    def keep_secret(self, log_name: str, secrets: list[str]) -> None:
        """These must never stand in this log, nor in what its child is quoted with."""

    def forget_secrets(self, log_names: list[str]) -> None:
        """There are no bots but those with these logs."""

    def pulse(self, states: dict[str, int]) -> None:
        """About once a second, from the loop; the number of bots by the name of their state."""

    def reloading(self) -> None:
        """SIGHUP has come; `control` is told to read the fleet file again."""

    def desired(self, generation: int) -> None:
        """`control` has sent a wanted fleet, and it is being made so."""
