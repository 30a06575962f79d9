"""The passwords a running bot logs in with; rotating them changes what the next connection uses."""

from __future__ import annotations

from botctl.observability.redaction import Redactor


class Passwords:
    """The newest first, then the one before: an altered password may not have taken effect yet."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._database: tuple[str, ...] = ()
        self._redis: tuple[str, ...] = ()

    def take(self, *, database: tuple[str, ...], redis: tuple[str, ...]) -> None:
        """From now on these; empty ones don't count."""
        self._database = tuple(password for password in database if password)
        self._redis = tuple(password for password in redis if password)
        self._redactor.add(*self._database, *self._redis)

    def database(self) -> tuple[str, ...]:
        """Candidates for PostgreSQL."""
        return self._database

    def redis(self) -> tuple[str, ...]:
        """Candidates for Redis."""
        return self._redis
