"""Applying fleets against real servers, with a double in the supervisor's place."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path

import msgspec
import pytest
from redis.exceptions import NoPermissionError

from botctl.bus.client import connect as connect_redis
from botctl.control.assembly import Assembly
from botctl.control.fleet.applied import FleetSource
from botctl.control.fleet.wanted import without_userinfo
from botctl.control.trouble import DatabaseAwayError
from botctl.errors import InvalidFileError
from botctl.fleet import Fleet
from botctl.fleet.model import Group
from botctl.handover import ControlConfig, DatabaseLogin
from support.fleet_stage import NOWHERE, Stage, SupervisorDouble, bot, eventually, new_ids


async def test_a_new_fleet_gets_rows_logins_and_users_and_reaches_the_supervisor(stage: Stage) -> None:
    one, two = bot("one", subscribe=["bot.*"]), bot("two")
    applied = await stage.apply(one, two)
    assert (applied.added, applied.failed) == (["one", "two"], {})
    (desired,) = stage.supervisor.desired
    assert [wanted.name for wanted in desired.bots] == ["one", "two"]
    for spec in (one, two):
        assert await stage.can_log_in(spec.bot_id)
        assert await stage.has_redis_user(spec.bot_id)
    heard = {bot_id: [entry.type for entry in bot.subscribe] for bot_id, bot in stage.keeper.roster().bots.items()}
    assert heard == {one.bot_id: ["bot.*"], two.bot_id: []}
    assert stage.keeper.roster() is stage.keeper.roster()
    found = await stage.rows(f"SELECT name, removed_at FROM bots WHERE bot_id IN ({one.bot_id}, {two.bot_id})")
    assert sorted(found) == [("one", None), ("two", None)]


async def test_applying_again_hands_out_no_new_credentials_and_changes_no_digest(stage: Stage) -> None:
    one = bot("one")
    await stage.apply(one)
    applied = await stage.apply(one)
    assert applied.unchanged == ["one"]
    first, second = stage.supervisor.desired
    assert second.bots[0].passwords is None
    assert second.bots[0].digest == first.bots[0].digest
    assert second.generation > first.generation
    assert await stage.can_log_in(one.bot_id)


async def test_a_change_of_what_is_live_keeps_the_digest_and_sends_the_new_value(stage: Stage) -> None:
    one = bot("one")
    await stage.apply(one)
    applied = await stage.apply(bot("one", one.bot_id, log_level="debug"))
    assert applied.changed == ["one"]
    first, second = (fleet.bots[0] for fleet in stage.supervisor.desired)
    assert second.digest == first.digest
    limits = {"concurrent_chats": 32, "attempts": 5}
    assert second.live == {"log_level": "DEBUG", **limits, "ignored": {}, "canary": "", "webhook": None}


async def test_a_bot_has_rights_on_its_groups_streams_as_long_as_it_belongs_to_them(stage: Stage) -> None:
    one, desk = bot("one", groups=["desk"]), {"desk": Group(subscribe=("ticket.*",))}
    other = bot("other", groups=["desk"])
    await stage.keeper.apply(Fleet(bots=(one, other), groups=desk), FleetSource())
    stream = stage.topology.group("desk")

    async def may_read() -> bool:
        passwords = stage.supervisor.passwords[one.bot_id]
        client = connect_redis(
            without_userinfo(stage.redis_url),
            username=stage.topology.user(one.bot_id),
            passwords=lambda: (passwords.redis,),
        )
        try:
            await client.xreadgroup("bot", "bot-1", {stream: ">"}, count=1)
        except NoPermissionError:
            return False
        finally:
            await client.aclose()
        return True

    assert await may_read()
    assert stage.keeper.roster().members("desk") == {one.bot_id, other.bot_id}
    left = bot("one", one.bot_id)
    applied = await stage.keeper.apply(Fleet(bots=(left, other), groups=desk), FleetSource())
    assert applied.changed == ["one"]
    assert not await may_read()
    await stage.keeper.apply(Fleet(bots=(left, bot("other", other.bot_id))), FleetSource())
    assert not await stage.redis.exists(stream)


async def test_a_removed_bot_keeps_its_row_and_loses_its_login_once_it_has_ended(stage: Stage) -> None:
    one, two = bot("one"), bot("two")
    await stage.apply(one, two)
    stage.supervisor.lingering = {two.bot_id}
    running = asyncio.create_task(stage.keeper.run())
    try:
        await stage.apply(one)
        assert [wanted.name for wanted in stage.supervisor.desired[-1].bots] == ["one"]
        assert await stage.can_log_in(two.bot_id), "it may still be draining"
        assert two.bot_id in stage.keeper.roster().bots, "what it still publishes is routed"
        stage.supervisor.lingering = set()

        async def gone() -> bool:
            return not await stage.can_log_in(two.bot_id) and not await stage.has_redis_user(two.bot_id)

        await eventually(gone)
    finally:
        running.cancel()
    assert await stage.can_log_in(one.bot_id)
    (row,) = await stage.rows(f"SELECT name, removed_at IS NOT NULL FROM bots WHERE bot_id = {two.bot_id}")
    assert row == ("two", True)


async def test_a_dry_run_tells_and_does_nothing(stage: Stage) -> None:
    one = bot("one")
    told = await stage.keeper.apply(Fleet(bots=(one,)), FleetSource(), dry_run=True)
    assert (told.dry_run, told.added) == (True, ["one"])
    assert stage.supervisor.desired == []
    assert await stage.rows(f"SELECT 1 FROM bots WHERE bot_id = {one.bot_id}") == []


async def test_with_the_database_away_nothing_is_changed_and_the_error_says_so(valkey_admin_url: str) -> None:
    away = DatabaseLogin(target=NOWHERE, user="nobody", password="secret")
    stage = Stage(away, valkey_admin_url, f"t{uuid.uuid4().hex[:8]}")
    try:
        with pytest.raises(DatabaseAwayError) as caught:
            await stage.apply(bot("one"))
        assert "secret" not in str(caught.value)
        assert stage.keeper.fleet is None
        assert stage.supervisor.desired == []
    finally:
        await stage.close()


async def test_a_reload_reads_the_file_again_with_the_variables_given(stage: Stage, tmp_path: Path) -> None:
    number = next(new_ids)
    file = tmp_path / "fleet.yaml"
    file.write_text("bots:\n  - name: one\n    token: ${TOKEN}\n")
    source = FleetSource(str(file), {"TOKEN": f"{number}:abc"})
    await stage.keeper.apply(Fleet(), source)
    assert (await stage.keeper.reload()).added == ["one"]
    file.write_text("bots:\n  - name: one\n    token: ${OTHER}\n")
    with pytest.raises(InvalidFileError, match="OTHER"):
        await stage.keeper.reload()
    assert [wanted.name for wanted in stage.supervisor.desired[-1].bots] == ["one"]
    assert len(stage.supervisor.desired) == 2


async def test_concurrent_applies_end_as_one_of_them(stage: Stage) -> None:
    one, two = bot("one"), bot("two")
    await asyncio.gather(stage.apply(one), stage.apply(two), stage.apply(one, two))
    wanted = {spec.name for spec in stage.keeper.fleet.bots} if stage.keeper.fleet else set()
    assert {wanted_bot.name for wanted_bot in stage.supervisor.desired[-1].bots} == wanted
    generations = [fleet.generation for fleet in stage.supervisor.desired]
    assert generations == sorted(set(generations))


async def test_an_assembly_lives_and_answers_with_neither_server(tmp_path: Path) -> None:
    config = ControlConfig(
        database=DatabaseLogin(target=NOWHERE, user="nobody", password="secret"),
        redis_url="redis://127.0.0.1:1/0",
        namespace="botctl",
        data_dir=str(tmp_path),
        socket=str(tmp_path / "api.sock"),
        version="0",
    )
    assembly = Assembly(config, SupervisorDouble())
    assembly.start()
    try:

        async def told() -> bool:
            return {problem.split(":")[0] for problem in assembly.problems()} == {"database", "redis is not reachable"}

        await eventually(told)
        assert (await assembly.service.status()).daemon.pid == 1
        assert not (await assembly.service.health()).ok
        assert b"botctl_build_info" in await assembly.service.metrics()
    finally:
        await assembly.close(1.0)


async def test_a_fleet_that_waits_for_the_database_is_in_the_status_already(tmp_path: Path) -> None:
    config = ControlConfig(
        database=DatabaseLogin(target=NOWHERE, user="nobody", password="secret"),
        redis_url="redis://127.0.0.1:1/0",
        namespace="botctl",
        data_dir=str(tmp_path),
        socket=str(tmp_path / "api.sock"),
        version="0",
        fleet=msgspec.Raw(Fleet(bots=(bot("one"), bot("two"))).model_dump_json().encode()),
    )
    assembly = Assembly(config, SupervisorDouble())
    try:
        shown = (await assembly.service.status()).bots
        assert [(one.name, one.state, one.reason) for one in shown] == [
            (name, "configured", "being prepared") for name in ("one", "two")
        ]
    finally:
        await assembly.close(1.0)
