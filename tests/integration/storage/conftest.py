"""An audit log with entries that are sealed, and who may do everything to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from botctl.storage.audit_head import Head
from botctl.storage.engine import login_engine
from support.audit_log import published, seal_all, write


@pytest.fixture
async def superuser(database: Any) -> AsyncIterator[AsyncEngine]:
    made = login_engine(database.admin)
    yield made
    await made.dispose()


@pytest.fixture
async def log(engine: AsyncEngine) -> Head:
    """Three batches at least; the head as published."""
    for _ in range(3):
        await write(engine, 4)
        await seal_all(engine)
    return await published(engine)
