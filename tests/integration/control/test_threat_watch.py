"""Threat detection against real servers: what a bot tries with its own credentials, and what becomes of it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError

from botctl.bus.client import connect as connect_redis
from botctl.bus.routing.batch import Rejected
from botctl.control.defence.quarantine import Quarantine
from botctl.control.defence.threat_feeds import AclLog
from botctl.control.defence.threat_watch import ThreatWatch
from botctl.control.fleet.wanted import without_userinfo
from botctl.fleet import BotSpec
from botctl.fleet.threats import Mode, Tuning
from botctl.security.threat.detection import Detector
from botctl.security.threat.observations import DeniedRedis, Target
from support.fleet_stage import Stage, bot, eventually


class Watched:
    """Two bots, one of them the attacker, and whoever watches them."""

    def __init__(self, stage: Stage, tuning: Tuning | None = None) -> None:
        self.stage = stage
        self.attacker, self.victim = bot("attacker", threats=tuning or Tuning()), bot("victim")
        self.quarantine = Quarantine(stage.engine, stage.keeper, stage.supervisor)
        self.watch = ThreatWatch(
            Detector(),
            acl_log=AclLog(stage.redis, stage.topology),
            engine=stage.engine,
            keeper=stage.keeper,
            supervisor=stage.supervisor,
            quarantine=self.quarantine,
            wake=lambda: None,
        )

    async def begin(self) -> None:
        await self.stage.apply(self.attacker, self.victim)
        await self.watch.look()

    def client(self, spec: BotSpec) -> Redis:
        password = self.stage.supervisor.passwords[spec.bot_id].redis
        user = self.stage.topology.user(spec.bot_id)
        return connect_redis(without_userinfo(self.stage.redis_url), username=user, passwords=lambda: (password,))

    async def told(self) -> list[tuple[Any, ...]]:
        return await self.stage.rows(
            "SELECT data->>'rule', data->>'action', data->>'detail' FROM outbox WHERE bot_id = 0"
            f" AND type = 'threat.detected' AND data->>'bot_id' = '{self.attacker.bot_id}' ORDER BY seq"
        )


@pytest.fixture
async def watched(stage: Stage) -> Watched:
    made = Watched(stage)
    await made.begin()
    return made


Attempt = Callable[[Redis, Watched], Awaitable[Any]]


async def _write_to_the_victim(redis: Redis, watched: Watched) -> None:
    await redis.xadd(watched.stage.topology.out(watched.victim.bot_id), {"e": "x"})


async def _read_the_victims_mailbox(redis: Redis, watched: Watched) -> None:
    own = watched.stage.topology.mailbox(watched.attacker.bot_id)
    foreign = watched.stage.topology.mailbox(watched.victim.bot_id)
    await redis.xreadgroup("bot", "me", {own: ">", foreign: ">"})


async def _log_in_as_the_victim(redis: Redis, watched: Watched) -> None:
    await redis.execute_command("AUTH", watched.stage.topology.user(watched.victim.bot_id), "guess")


@pytest.mark.parametrize("attempt", [_write_to_the_victim, _read_the_victims_mailbox, _log_in_as_the_victim])
async def test_reaching_for_another_bot_ends_in_quarantine_within_a_second(watched: Watched, attempt: Attempt) -> None:
    stage, attacker = watched.stage, watched.attacker
    redis = watched.client(attacker)
    running = asyncio.create_task(watched.watch.run())
    try:
        await redis.ping()
        began = time.monotonic()
        with pytest.raises((NoPermissionError, AuthenticationError)):
            await attempt(redis, watched)

        async def gone() -> bool:
            if ("quarantine", "attacker") not in stage.supervisor.commands:
                return False
            return not (await stage.has_redis_user(attacker.bot_id) or await stage.can_log_in(attacker.bot_id))

        await eventually(gone)
        assert time.monotonic() - began < 1.0
        assert stage.keeper.shut.keys() & {attacker.bot_id, watched.victim.bot_id} == {attacker.bot_id}

        async def told() -> bool:
            return bool(await watched.told())

        await eventually(told)
        ((rule, action, detail),) = await watched.told()
        assert (rule, action) == ("cross_bot_redis", "quarantine")
        assert "is not its own" in detail
        audited = await stage.rows(
            f"SELECT after->>'action' FROM audit_log WHERE bot_id = {attacker.bot_id} AND action = 'threat.detected'"
        )
        assert audited == [("quarantine",)]
    finally:
        running.cancel()
        await redis.aclose()


async def test_nobody_has_another_shut_away_by_failing_to_log_in_as_him(watched: Watched) -> None:
    stage = watched.stage
    stranger = connect_redis(
        without_userinfo(stage.redis_url),
        username=stage.topology.user(watched.victim.bot_id),
        passwords=lambda: ("guess",),
    )
    for _ in range(3):
        with contextlib.suppress(RedisError):
            await stranger.ping()
    await stranger.aclose()
    await watched.watch.look()
    assert watched.victim.bot_id not in stage.keeper.shut
    assert await stage.has_redis_user(watched.victim.bot_id)


async def test_no_name_of_a_client_library_blinds_the_watch(watched: Watched) -> None:
    redis = watched.client(watched.attacker)
    with contextlib.suppress(RedisError):  # only where the server knows it
        await redis.execute_command("CLIENT", "SETINFO", "LIB-NAME", "a=b=user=nobody")
    with pytest.raises(NoPermissionError):
        await _write_to_the_victim(redis, watched)
    await redis.aclose()
    await watched.watch.look()
    assert watched.attacker.bot_id in watched.stage.keeper.shut


@pytest.mark.parametrize("own", [True, False])
async def test_an_attempt_cant_be_pushed_out_of_the_log_unseen(watched: Watched, own: bool) -> None:
    stage = watched.stage
    log = AclLog(stage.redis, stage.topology, own=own)
    await log.read(1.0)
    redis = watched.client(watched.attacker)
    with pytest.raises(NoPermissionError):
        await _write_to_the_victim(redis, watched)
    for command in await _every_command(stage.redis):
        with contextlib.suppress(RedisError):
            await redis.execute_command(*command)
    await redis.aclose()
    told = [one for one in await log.read(2.0) if isinstance(one, DeniedRedis)]
    assert not [one for one in told if one.target is Target.FOREIGN], "it was not pushed out"
    assert [one.bot_id for one in told if one.target is Target.FORGOTTEN] == [watched.attacker.bot_id, 0]
    assert await log.read(3.0) == []


@pytest.mark.parametrize("own", [True, False])
async def test_who_pushes_an_attempt_out_without_a_login_is_told_of_as_nobody(watched: Watched, own: bool) -> None:
    stage = watched.stage
    log = AclLog(stage.redis, stage.topology, own=own)
    await log.read(1.0)
    await _invent_logins(stage.redis_url, 40)
    assert await log.read(2.0) == [], "nothing was lost"
    redis = watched.client(watched.attacker)
    with pytest.raises(NoPermissionError):
        await _write_to_the_victim(redis, watched)
    await redis.aclose()
    await _invent_logins(stage.redis_url, 140)
    told = await log.read(3.0)
    assert told == [DeniedRedis(at=3.0, bot_id=0, command="", target=Target.FORGOTTEN, count=141 - 128)]
    assert await log.read(4.0) == []


async def test_entries_that_were_pushed_out_are_told_of_no_bot_once(watched: Watched) -> None:
    for _ in range(2):
        await _invent_logins(watched.stage.redis_url, 140)
        await watched.watch.look()
    told = await watched.stage.rows(
        "SELECT data->>'rule', data->>'action', data->>'detail' FROM outbox WHERE type = 'threat.detected'"
        " AND data->>'bot_id' = '0'"
    )
    assert [(rule, action) for rule, action, _ in told] == [("cross_bot_redis", "told")]
    assert "pushed 12 refusals out of Redis's log" in told[0][2]
    assert not watched.stage.keeper.shut.keys() & {watched.attacker.bot_id, watched.victim.bot_id}


async def _invent_logins(url: str, count: int) -> None:
    """On a connection that nobody has logged in on."""
    target = urlsplit(url)
    reader, writer = await asyncio.open_connection(target.hostname, target.port)
    try:
        writer.write(b"".join(b"AUTH invented-%d-%d guess\r\n" % (id(writer), one) for one in range(count)))
        for _ in range(count):
            assert (await asyncio.wait_for(reader.readline(), 10)).startswith(b"-WRONGPASS")
    finally:
        writer.close()


async def _every_command(redis: Redis) -> list[list[str]]:
    """Each with as many arguments as it wants; without a bot's own, and those that a connection doesn't survive."""
    known: dict[str, dict[str, Any]] = await redis.execute_command("COMMAND")
    return [
        [name, *["x"] * max(abs(told["arity"]) - 1, 0)]
        for name, told in known.items()
        if name.lower() not in ("quit", "reset", "hello", "auth", "xadd", "xlen", "xreadgroup", "xack")
    ]


async def test_what_no_bot_may_use_is_told_and_nothing_is_done(watched: Watched) -> None:
    redis = watched.client(watched.attacker)
    for command in ("CONFIG GET *", "KEYS *", "FLUSHALL", "ACL LIST", "CLIENT LIST", "MONITOR"):
        with contextlib.suppress(NoPermissionError):
            await redis.execute_command(*command.split())
    await redis.aclose()
    await watched.watch.look()
    ((rule, action, _),) = await watched.told()
    assert (rule, action) == ("denied_redis", "none (shadow)")
    assert watched.attacker.bot_id not in watched.stage.keeper.shut


async def test_what_was_there_before_the_first_look_is_nobodys_fault_any_more(watched: Watched) -> None:
    redis = watched.client(watched.attacker)
    with pytest.raises(NoPermissionError):
        await _write_to_the_victim(redis, watched)
    await redis.aclose()
    log = AclLog(watched.stage.redis, watched.stage.topology)
    assert await log.read(1.0) == []
    assert await log.read(2.0) == []


async def test_enforced_soft_rules_block_for_a_time(stage: Stage) -> None:
    watched = Watched(stage, Tuning(soft=Mode.ENFORCE))
    await watched.begin()
    for _ in range(500):
        watched.watch.rejected(Rejected(watched.attacker.bot_id, "0-1", "no event", b""))
    await watched.watch.look()
    assert watched.attacker.bot_id not in stage.keeper.shut
    watched.watch.mended([watched.attacker.bot_id])
    await watched.watch.look()
    told = stage.keeper.shut[watched.attacker.bot_id]
    assert told.until is not None
    assert told.until - told.at == pytest.approx(900)
    assert [action for _, action, _ in await watched.told()] == ["watch", "block"]


async def test_a_rule_that_is_silenced_for_a_bot_says_nothing_of_it(stage: Stage) -> None:
    watched = Watched(stage, Tuning.model_validate({"rules": {"cross_bot_redis": {"mode": "off"}}}))
    await watched.begin()
    redis = watched.client(watched.attacker)
    with pytest.raises(NoPermissionError):
        await _write_to_the_victim(redis, watched)
    await redis.aclose()
    await watched.watch.look()
    assert await watched.told() == []
    assert watched.attacker.bot_id not in stage.keeper.shut
