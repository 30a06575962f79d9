"""One control's keepers over a database and a namespace of the test's own."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest

from support.fleet_stage import Stage


@pytest.fixture
async def stage(database: Any, valkey_admin_url: str) -> AsyncIterator[Stage]:
    made = Stage(database.control, valkey_admin_url, f"t{uuid.uuid4().hex[:8]}")
    try:
        yield made
    finally:
        for bot_id in list(made.bus.hashes):
            await made.bus.drop(bot_id)
        await made.close()
