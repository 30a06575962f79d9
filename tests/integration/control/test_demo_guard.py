"""The demo never takes over a database in which another fleet lives."""

from __future__ import annotations

from typing import Any

import pytest

from botctl.cli.demonstration import _refuse_foreign_fleet
from botctl.errors import RefusedError
from botctl.storage.engine import connect


async def test_a_database_of_another_fleet_is_refused(database: Any) -> None:
    await _refuse_foreign_fleet(database.admin_url, [1])
    connection = await connect(database.control)
    try:
        await connection.execute("INSERT INTO bots (bot_id, name) VALUES (1, 'demo'), (2, 'theirs')")
        with pytest.raises(RefusedError, match="1 bots"):
            await _refuse_foreign_fleet(database.admin_url, [1])
        await connection.execute("UPDATE bots SET removed_at = now() WHERE bot_id = 2")
        await _refuse_foreign_fleet(database.admin_url, [1])
    finally:
        await connection.close()


async def test_a_server_that_is_away_is_left_to_the_daemon_to_tell_of() -> None:
    await _refuse_foreign_fleet("postgresql://u:p@127.0.0.1:1/d", [1])
