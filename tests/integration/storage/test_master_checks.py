"""Set-up tells which master keys a database's data keys need."""

from __future__ import annotations

from botctl.storage.bootstrap import prepare
from botctl.storage.engine import connect


async def test_set_up_tells_the_checks_of_the_master_keys_in_use(empty_database_url: str) -> None:
    first = await prepare(empty_database_url)
    assert first.master_checks == []
    control = await connect(first.control)
    await control.execute(
        "INSERT INTO bot_keys (bot_id, key_id, master_version, master_check, wrapped)"
        " VALUES (1, 1, 1, 'a', ''), (1, 2, 2, 'b', ''), (2, 1, 2, 'b', '')"
    )
    await control.close()
    assert (await prepare(empty_database_url)).master_checks == [(1, "a"), (2, "b")]
