"""The embedded servers that a daemon needs: those whose place no URL in its settings has taken."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from botctl.cli.boot import BootPayload
from botctl.runtime.folder import DataFolder

if TYPE_CHECKING:
    from botctl.embedded.postgres import EmbeddedPostgres
    from botctl.embedded.valkey import EmbeddedValkey

MAX_CONNECTIONS_BASE = 40
CONNECTIONS_PER_BOT = 6
"""CONNECTION LIMIT of a bot's role: 2 × pool + 2 (design §4.2)."""


def embedded(
    payload: BootPayload, folder: DataFolder, tell: Callable[..., None]
) -> Iterator[EmbeddedPostgres | EmbeddedValkey]:
    """Made ready one after the other, to be started; `tell` says which, and how long it may be silent.

    Raises what `prepare_postgres` and `prepare_valkey` raise.
    """
    if not payload.database_url:
        from botctl.embedded.postgres import INITDB_TIMEOUT, prepare_postgres

        tell("starting the embedded PostgreSQL", silent_for=INITDB_TIMEOUT)
        bots = len(json.loads(bytes(payload.fleet)).get("bots", ()))
        connections = MAX_CONNECTIONS_BASE + CONNECTIONS_PER_BOT * max(bots, 10)
        yield prepare_postgres(folder.path / "postgres", max_connections=connections)
    if not payload.redis_url:
        from botctl.embedded.valkey import prepare_valkey

        tell("starting the embedded Valkey")
        yield prepare_valkey(folder.path / "valkey")
