"""What `doctor` says of Redis servers, asked on real ones."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from botctl.bus.client import connect
from botctl.cli.findings import Verdict
from botctl.cli.redis_checks import redis_findings
from botctl.embedded.probes import ping_valkey
from botctl.embedded.valkey import prepare_valkey
from integration.conftest import RunningServer, server_folder


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with server_folder() as folder:
        made = prepare_valkey(Path(folder) / "valkey")
        server = RunningServer(made.spec, lambda: ping_valkey(made.admin_url))
        try:
            yield made.admin_url
        finally:
            server.stop()


@pytest.fixture
async def redis(url: str) -> AsyncIterator[Redis]:
    client = connect(url)
    yield client
    await client.aclose()


async def test_the_embedded_server_has_all_limits(redis: Redis) -> None:
    assert await redis_findings(redis, 500) == []


@pytest.mark.parametrize(
    ("name", "value", "verdict"),
    [
        ("maxmemory", "0", Verdict.WARN),
        ("maxmemory-policy", "allkeys-lru", Verdict.FAIL),
        ("maxmemory-clients", "0", Verdict.WARN),
        ("client-output-buffer-limit", "normal 0 0 0", Verdict.WARN),
        ("client-output-buffer-limit", "normal 8mb 0 0", Verdict.WARN),
        ("client-query-buffer-limit", "1gb", Verdict.WARN),
        ("proto-max-bulk-len", "512mb", Verdict.WARN),
        ("maxclients", "100", Verdict.WARN),
        ("appendonly", "no", Verdict.WARN),
    ],
)
async def test_a_limit_that_is_missing_is_told(redis: Redis, name: str, value: str, verdict: Verdict) -> None:
    (before,) = (await redis.config_get(name)).values()
    await redis.config_set(name, value)
    try:
        ((found),) = await redis_findings(redis, 50)
    finally:
        await redis.config_set(name, before)
    assert (found.subject, found.verdict) == (name, verdict)
    assert found.hint


async def test_a_default_user_without_a_password_fails(redis: Redis) -> None:
    password = redis.connection_pool.connection_kwargs["password"]
    await redis.execute_command("ACL", "SETUSER", "default", "nopass")
    try:
        (found,) = await redis_findings(redis, 1)
    finally:
        await redis.execute_command("ACL", "SETUSER", "default", "resetpass", f">{password}")
    assert (found.subject, found.verdict) == ("redis default user", Verdict.FAIL)


async def test_an_administrator_who_may_not_ask_is_told(redis: Redis, url: str) -> None:
    await redis.execute_command("ACL", "SETUSER", "weak", "on", ">weak", "~*", "+@all", "-config", "-client")
    client = connect(url, username="weak", passwords=lambda: ("weak",))
    try:
        found = await redis_findings(client, 1)
    finally:
        await client.aclose()
        await redis.execute_command("ACL", "DELUSER", "weak")
    assert [one.subject for one in found] == ["redis limits", "redis administrator"]
