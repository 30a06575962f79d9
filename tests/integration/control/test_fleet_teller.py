"""Events of the fleet as a whole get into the outbox, also when the database was away."""

from __future__ import annotations

import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from botctl.control.fleet.teller import FleetTeller
from botctl.control.trouble import DATABASE_TROUBLE
from support.fleet_stage import Stage


async def test_what_happens_to_the_fleet_is_published_and_waits_for_the_database(stage: Stage) -> None:
    woken: list[int] = []
    teller = FleetTeller(stage.engine, stage.supervisor, "1.2", lambda: 3, lambda: woken.append(1))
    nowhere = create_async_engine("postgresql+asyncpg://nobody@/none?host=/nowhere")
    engine, teller._engine = teller._engine, nowhere
    with pytest.raises(DATABASE_TROUBLE):
        await teller.look()
    assert woken == []
    teller._engine = engine
    await teller.look()
    await teller.look()
    assert woken == [1]
    async with stage.engine.connect() as connection:
        rows = await connection.exec_driver_sql(
            "SELECT data->>'version' FROM outbox WHERE bot_id = 0 AND type = 'fleet.started'"
        )
        assert [row[0] for row in rows] == ["1.2"]
