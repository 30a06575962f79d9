"""Roles and Redis users of bots, made and dropped: nothing of them is left. `benchmarks/logins.py` does it with 500."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from botctl.bus.caretaking.admin import BusAdmin
from botctl.bus.client import connect
from botctl.bus.topology import Topology
from botctl.embedded.probes import ping_valkey
from botctl.embedded.valkey import prepare_valkey
from integration.conftest import RunningServer
from support.logins_stage import FIRST, Logins, difference


@pytest.fixture
async def stage(new_database: Any, server_files: Path) -> Any:
    """A database and a Valkey of the test's own, and the file of its users."""
    made = prepare_valkey(server_files / "valkey")
    server = RunningServer(made.spec, lambda: ping_valkey(made.admin_url))
    redis = connect(made.admin_url, blocking=True)
    admin = BusAdmin(redis, Topology("t"), keeps_users=True)
    assert urlsplit(made.admin_url).port
    logins = Logins(new_database.admin, new_database.control, admin, made.admin_url)
    await logins.begin()
    yield logins, admin, server_files / "valkey/users/users.acl"
    await redis.aclose()
    server.stop()


async def test_logins_of_bots_are_made_and_dropped_without_trace(stage: Any) -> None:
    logins, _, users_file = stage
    before = await logins.traces(users_file)
    await logins.make_and_drop(25)
    assert difference(before, await logins.traces(users_file)) == {}


async def test_a_login_that_is_there_shows_in_what_is_compared(stage: Any) -> None:
    logins, admin, users_file = stage
    before = await logins.traces(users_file)
    original = admin.drop_bot

    async def forgetful(bot_id: int) -> None:
        if bot_id != FIRST:
            await original(bot_id)

    admin.drop_bot = forgetful
    await logins.make_and_drop(3)
    left = difference(before, await logins.traces(users_file))
    assert left.keys() == {"redis users", "redis users' file", "redis keys"}
