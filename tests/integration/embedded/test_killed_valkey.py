"""A Valkey that is killed knows the bots when it is back, as they were last, though nobody tells it who they are."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, NoPermissionError

from botctl.bus.caretaking.admin import BusAdmin
from botctl.bus.client import connect
from botctl.bus.topology import Topology
from botctl.control.bus.keeper import BusKeeper
from botctl.embedded.valkey import EmbeddedValkey, prepare_valkey

TOPOLOGY = Topology("t")
Login = Callable[[int, str], Any]


def digest(password: str) -> str:
    return hashlib.sha256(password.encode()).hexdigest()


def access_list(folder: Path) -> Path:
    return folder / "valkey" / "users" / "users.acl"


class Installation:
    """A server as the daemon runs it, and its administrator as `control` has it."""

    def __init__(self, made: EmbeddedValkey, server: Any) -> None:
        self.made = made
        self.server = server
        self.redis = connect(made.admin_url)
        self.admin = BusAdmin(self.redis, TOPOLOGY, keeps_users=True)

    async def crash(self) -> None:
        """kill -9; it is started again by the supervisor, and `control` does nothing."""
        self.server.kill()
        await asyncio.to_thread(self.server.start)

    async def may_log_in(self, bot_id: int, password: str) -> bool:
        async with self.bot(bot_id, password) as client:
            try:
                return bool(await client.ping())
            except AuthenticationError:
                return False

    @asynccontextmanager
    async def bot(self, bot_id: int, password: str) -> AsyncIterator[Redis]:
        parts = urlsplit(self.made.admin_url)
        plain = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
        client = connect(plain, username=TOPOLOGY.user(bot_id), passwords=lambda: (password,))
        try:
            yield client
        finally:
            await client.aclose()


@pytest.fixture
async def installed(server_files: Path, supervised: Any) -> AsyncIterator[Installation]:
    made = prepare_valkey(server_files / "valkey")
    installation = Installation(made, supervised(made.spec, made.admin_url))
    await installation.admin.ensure_logs()
    yield installation
    await installation.redis.aclose()


async def test_a_bot_publishes_as_soon_as_a_killed_server_is_back(installed: Installation) -> None:
    await installed.admin.ensure_bots({1: [digest("first")], 2: [digest("second")]})
    await installed.crash()
    async with installed.bot(1, "first") as client:
        assert await client.xadd(TOPOLOGY.out(1), {"e": "x"})
        assert await client.xreadgroup("bot", "bot", {TOPOLOGY.mailbox(1): ">"}) is not None
        for stream in (TOPOLOGY.out(2), TOPOLOGY.mailbox(1)):
            with pytest.raises(NoPermissionError):
                await client.xadd(stream, {"e": "x"})
    assert not await installed.may_log_in(1, "second")


async def test_a_removed_bot_does_not_come_back(installed: Installation) -> None:
    await installed.admin.ensure_bots({bot: [digest(f"of {bot}")] for bot in (1, 2, 3)})
    await installed.admin.drop_bot(1)
    assert await installed.admin.drop_user(2)
    await installed.crash()
    assert await installed.admin.known_bots() == {3}
    assert [await installed.may_log_in(bot, f"of {bot}") for bot in (1, 2, 3)] == [False, False, True]


async def test_a_crash_amid_a_rotation_leaves_both_passwords_and_one_after_it_the_new_one(
    installed: Installation,
) -> None:
    await installed.admin.ensure_bot(1, [digest("old")])
    await installed.admin.ensure_bot(1, [digest("new"), digest("old")])
    await installed.crash()
    assert [await installed.may_log_in(1, word) for word in ("new", "old")] == [True, True]
    await installed.admin.ensure_bot(1, [digest("new")])
    await installed.crash()
    assert [await installed.may_log_in(1, word) for word in ("new", "old")] == [True, False]


async def test_the_file_is_its_owner_s_alone_and_holds_no_password(installed: Installation, server_files: Path) -> None:
    password = "in-the-clear-only-here"
    await installed.admin.ensure_bot(1, [digest(password)])
    written = access_list(server_files)
    assert written.stat().st_mode & 0o777 == 0o600
    assert written.parent.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in written.parent.iterdir()] == ["users.acl"]
    text = written.read_text()
    assert digest(password) in text
    assert password not in text
    admins = (server_files / "valkey" / "admin.password").read_text().strip()
    assert digest(admins) in text
    assert admins not in text


async def test_a_new_daemon_begins_with_the_administrator_alone(installed: Installation, server_files: Path) -> None:
    await installed.admin.ensure_bot(1, [digest("x")])
    half = access_list(server_files).with_name("users.acl.tmp-4711-1")
    half.write_text("user t-bot-1 on nopass +@all\n")
    installed.server.kill()
    assert prepare_valkey(server_files / "valkey").admin_url == installed.made.admin_url
    assert not half.exists()
    await asyncio.to_thread(installed.server.start)
    assert await installed.redis.acl_users() == ["default"]


async def test_users_that_could_not_be_written_down_are_as_soon_as_they_can(
    installed: Installation, server_files: Path
) -> None:
    keeper = BusKeeper(installed.admin)
    keeper.load({1: digest("x")})
    folder = access_list(server_files).parent
    folder.chmod(0o500)
    try:
        assert await keeper.settle(5.0), "bots can work all the same"
        assert await installed.may_log_in(1, "x")
        assert installed.admin.unsaved
    finally:
        folder.chmod(0o700)
    assert await keeper.settle(5.0)
    assert not installed.admin.unsaved
    await installed.crash()
    assert await installed.may_log_in(1, "x")


async def test_a_file_that_is_not_ours_is_left_alone(installed: Installation, server_files: Path) -> None:
    before = access_list(server_files).read_text()
    stranger = BusAdmin(installed.redis, TOPOLOGY)
    await stranger.ensure_bot(1, [digest("x")])
    await stranger.drop_user(1)
    await stranger.save_users()
    assert access_list(server_files).read_text() == before
    assert not stranger.unsaved
