"""What the API needs of `control`: a port, so that routes can be tested without servers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from enum import StrEnum
from typing import Protocol

from botctl.control import views
from botctl.fleet import Fleet


class Verb(StrEnum):
    """What can be asked of one bot, or of all."""

    START = "start"
    STOP = "stop"
    RESTART = "restart"
    RELEASE = "release"
    QUARANTINE = "quarantine"


class ControlService(Protocol):
    """Every method may raise a BotctlError; its exit code decides the HTTP status."""

    async def status(self) -> views.StatusBody:
        """The fleet as the supervisor sees it; works without database and Redis."""
        ...

    async def apply(
        self, fleet: Fleet, *, fleet_path: str | None, fleet_env: dict[str, str], dry_run: bool
    ) -> views.AppliedBody:
        """Make this the wanted fleet. Raises when the database is away; nothing is changed then."""
        ...

    async def reload(self) -> views.AppliedBody:
        """Read the fleet file again and apply it."""
        ...

    async def command(self, verb: Verb, name: str) -> views.CommandBody:
        """Pass a command to the supervisor; an empty name means every bot. Raises NoSuchBotError.

        Releasing every bot leaves those that were shut away on purpose.
        """
        ...

    async def rollout(self, wave: str, watch: bool, settle: float) -> views.RolloutBody:
        """Begin a rolling restart. Raises UsageError for a wrong size, RefusedError beside another one."""
        ...

    async def abort_rollout(self) -> views.CommandBody:
        """Take back the rolling restart that is under way. Raises RefusedError when there is none."""
        ...

    def follow_rollout(self) -> AsyncIterator[views.RolloutLine]:
        """What the rolling restart under way, or the last one, has said and says, until it is over."""
        ...

    async def shutdown(self) -> views.CommandBody:
        """End the daemon."""
        ...

    async def open_events(self, log: str, after: str, follow: bool) -> AsyncIterator[views.EventBody]:
        """Entries of one log or, for `all`, of the three. Raises before the first entry if Redis is away."""
        ...

    async def runs(self, name: str | None, limit: int) -> list[views.RunBody]:
        """The latest incarnations of a bot or of all. Raises NoSuchBotError."""
        ...

    async def deaths(self, name: str, limit: int, planned: bool) -> views.DeathsBody:
        """A bot's latest ends, with `planned` also those that were asked for. Raises NoSuchBotError."""
        ...

    async def psql_login(self, name: str) -> views.LoginBody:
        """Make a read-only login that sees this bot's rows only. Raises NoSuchBotError."""
        ...

    async def secrets(self) -> views.SecretsBody:
        """Which keys there are, and of what age; no secret."""
        ...

    async def rotate_master(self, given: str) -> views.MasterBody:
        """A new master key, or the end of a rotation. `given` are the keys as the operator keeps them now, if elsewhere
        than in the data folder."""
        ...

    async def rotate_bot(self, name: str) -> views.CommandBody:
        """A new data key for one bot. Raises NoSuchBotError."""
        ...

    async def rotate_credentials(self, name: str) -> views.CommandBody:
        """New passwords for the database and Redis: of one bot, or without a name of all. Raises NoSuchBotError."""
        ...

    async def rotate_token(self, name: str, token: str) -> views.CommandBody:
        """A new token for one bot, which is restarted with it. Raises NoSuchBotError, UsageError, RefusedError."""
        ...

    async def health(self) -> views.HealthBody:
        """Whether `control` and the supervisor can do their work, and restart who fails."""
        ...

    async def metrics(self) -> bytes:
        """The Prometheus exposition."""
        ...
