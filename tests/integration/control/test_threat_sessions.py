"""Who has logged in, whether bots are kept apart, and who floods a bot: looked at on real servers."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from typing import Any

import asyncpg
import pytest

from botctl.control.defence.canary_probe import PROBE_ID, CanaryProbe
from botctl.control.defence.quarantine import Quarantine
from botctl.control.defence.threat_feeds import AclLog
from botctl.control.defence.threat_watch import COUNT_EVERY, ThreatWatch
from botctl.control.ports import BotSight, FleetSight
from botctl.fleet import BotSpec
from botctl.fleet.threats import Mode, Tuning
from botctl.handover import DatabaseLogin
from botctl.security.threat.detection import Detector
from botctl.storage import canaries, logins
from botctl.storage.engine import connect
from integration.conftest import Database
from support.fleet_stage import Stage, bot


class Watched:
    """Two bots and who watches them; the time is the test's, and so is what the supervisor sees."""

    def __init__(self, stage: Stage, tuning: Tuning) -> None:
        self.stage = stage
        self.a, self.b = bot("a", threats=tuning), bot("b", threats=tuning)
        self.at = time.time()
        self.seen: dict[int, dict[str, Any]] = {}
        stage.supervisor.sight = self.sight  # type: ignore[method-assign]
        self.watch = ThreatWatch(
            Detector(),
            acl_log=AclLog(stage.redis, stage.topology),
            engine=stage.engine,
            keeper=stage.keeper,
            supervisor=stage.supervisor,
            quarantine=Quarantine(stage.engine, stage.keeper, stage.supervisor, now=lambda: self.at),
            wake=lambda: None,
            server_port=stage.login.target.port,
            now=lambda: self.at,
        )

    async def begin(self) -> None:
        await self.stage.apply(self.a, self.b)
        self.seen = {one.bot_id: {"pid": 5, "incarnation": 1} for one in (self.a, self.b)}
        await self.look()

    async def sight(self) -> FleetSight:
        names = {self.a.bot_id: "a", self.b.bot_id: "b"}
        bots = [
            BotSight(name=names[bot_id], bot_id=bot_id, state="running", **more) for bot_id, more in self.seen.items()
        ]
        return FleetSight(pid=1, state="running", started_at=0.0, generation=1, bots=tuple(bots))

    async def look(self, after: float = 0.0) -> None:
        self.at += after
        await self.watch.look_at_sessions()
        await self.watch.look()

    async def login(self, spec: BotSpec) -> asyncpg.Connection[Any]:
        password = self.stage.supervisor.passwords[spec.bot_id].database
        return await connect(
            DatabaseLogin(target=self.stage.login.target, user=f"bot_{spec.bot_id}", password=password)
        )

    async def told(self, bot_id: int) -> list[tuple[Any, ...]]:
        return await self.stage.rows(
            "SELECT data->>'rule', data->>'action', data->>'detail' FROM outbox WHERE bot_id = 0"
            f" AND type = 'threat.detected' AND data->>'bot_id' = '{bot_id}' ORDER BY seq"
        )


@pytest.fixture
async def watched(stage: Stage) -> Watched:
    made = Watched(stage, Tuning())
    await made.begin()
    return made


@pytest.fixture
async def enforced(stage: Stage) -> Watched:
    made = Watched(stage, Tuning(soft=Mode.ENFORCE))
    await made.begin()
    return made


async def test_sessions_are_seen_with_where_they_come_from(watched: Watched) -> None:
    session = await watched.login(watched.a)
    try:
        async with watched.stage.engine.connect() as connection:
            found = {one.bot_id: one for one in await logins.sessions(connection)}
    finally:
        await session.close()
    assert found[watched.a.bot_id].address == found[0].address == "127.0.0.1"
    assert 0 <= found[watched.a.bot_id].age < 5
    assert watched.b.bot_id not in found


async def test_a_session_of_its_process_is_nothing_to_tell_even_when_it_outlives_it(watched: Watched) -> None:
    session = await watched.login(watched.a)
    try:
        await watched.look()
        watched.seen[watched.a.bot_id] = {"pid": None, "incarnation": 1}
        for _ in range(3):
            await watched.look(after=1.0)
    finally:
        await session.close()
    assert await watched.told(watched.a.bot_id) == []


async def test_who_logs_in_as_a_bot_that_does_not_run_is_shut_out(enforced: Watched) -> None:
    bot_id = enforced.a.bot_id
    enforced.seen[bot_id] = {"pid": None, "incarnation": 1}
    await enforced.look()
    session = await enforced.login(enforced.a)
    await enforced.look(after=60.0)
    ((rule, action, detail),) = await enforced.told(bot_id)
    assert (rule, action) == ("foreign_login", "block")
    assert "after its process had ended" in detail
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
        await session.fetchval("SELECT 1")
    assert not await enforced.stage.can_log_in(bot_id)
    assert await enforced.told(enforced.b.bot_id) == []


_LOG_IN = """
import asyncio, ctypes, sys
from botctl.handover import DatabaseLogin, DatabaseTarget
from botctl.storage.engine import connect
async def main():
    host, port, database, user, password, uid = sys.stdin.readline().split()
    ctypes.CDLL(None).setfsuid(int(uid))  # the sockets that are made from here on are this uid's
    target = DatabaseTarget(host=host, port=int(port), database=database, sslmode="disable")
    connection = await connect(DatabaseLogin(target=target, user=user, password=password))
    ctypes.CDLL(None).setfsuid(0)
    print("in", flush=True)
    await asyncio.to_thread(sys.stdin.read)
asyncio.run(main())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
async def test_a_bot_whose_process_is_logged_in_as_another_is_shut_away_and_not_the_other(watched: Watched) -> None:
    """The kernel says whose the connection is; the password is the victim's, and right."""
    uid, thief, victim = 1879099001, watched.a.bot_id, watched.b
    watched.seen[thief]["uid"], watched.seen[victim.bot_id]["uid"] = uid, uid + 1
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _LOG_IN),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        target = watched.stage.login.target
        password = watched.stage.supervisor.passwords[victim.bot_id].database
        words = (target.host, target.port, target.database, f"bot_{victim.bot_id}", password, uid)
        process.stdin.write(" ".join(map(str, words)).encode() + b"\n")
        assert (await process.stdout.readline()).strip() == b"in"
        await watched.look()
        assert await watched.told(thief) == []
        await watched.look(after=5.0)
        ((rule, action, detail),) = await watched.told(thief)
        assert (rule, action) == ("stolen_login", "quarantine")
        assert f"as bot {victim.bot_id}" in detail
        assert watched.stage.keeper.shut.keys() & {thief, victim.bot_id} == {thief}
        assert await watched.told(victim.bot_id) == []
    finally:
        process.kill()
        await process.wait()


_HOG = """
import ctypes, socket, struct, sys
host, port, user, uid = sys.stdin.readline().split()
"x".encode("idna")  # its module can't be read afterwards
ctypes.CDLL(None).setfsuid(int(uid))
words = f"user\\0{user}\\0database\\0botctl\\0\\0".encode()
held = []
for _ in range(60):
    one = socket.create_connection((host, int(port)))
    one.sendall(struct.pack(">ii", len(words) + 8, 196608) + words)
    held.append(one)
print("in", flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
async def test_a_bot_that_takes_the_databases_connections_without_logging_in_is_shut_away(watched: Watched) -> None:
    uid, hog = 1879099003, watched.a.bot_id
    watched.seen[hog]["uid"], watched.seen[watched.b.bot_id]["uid"] = uid, uid + 1
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _HOG), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        target = watched.stage.login.target
        process.stdin.write(f"{target.host} {target.port} bot_{hog} {uid}\n".encode())
        assert (await process.stdout.readline()).strip() == b"in"
        for _ in range(2):
            assert await watched.told(hog) == []
            await watched.watch.look_at_sockets()
            await watched.watch.look()
        ((rule, action, detail),) = await watched.told(hog)
        assert (rule, action) == ("connection_hog", "quarantine")
        assert "holds 60 connections" in detail
        assert watched.stage.keeper.shut.keys() & {hog, watched.b.bot_id} == {hog}
    finally:
        process.kill()
        await process.wait()


def _flood(minute: int, user: int = 42) -> dict[str, Any]:
    gauges = {f"user:{user}": 200.0, "user_updates": 210.0, "user_minute": float(minute)}
    return {"pid": 5, "incarnation": 1, "gauges": gauges}


async def test_a_user_who_floods_is_set_aside_by_his_bot_for_a_time_without_a_restart(enforced: Watched) -> None:
    stage, bot_id = enforced.stage, enforced.a.bot_id
    before = {one.bot_id: one for one in stage.supervisor.desired[-1].bots}
    for minute in (1, 2, 3):
        enforced.seen[bot_id] = _flood(minute)
        await enforced.look(after=COUNT_EVERY)
    assert [(rule, action) for rule, action, _ in await enforced.told(bot_id)] == [
        ("user_flood", "watch user"),
        ("user_flood", "block user"),
    ]
    after = {one.bot_id: one for one in stage.supervisor.desired[-1].bots}
    until = after[bot_id].live["ignored"]["42"]
    assert until == pytest.approx(enforced.at + 900, abs=70)
    assert after[bot_id].digest == before[bot_id].digest
    assert after[enforced.b.bot_id].live["ignored"] == {}
    assert not stage.keeper.shut.keys() & {bot_id, enforced.b.bot_id}
    assert enforced.watch.score(bot_id) == 0
    audited = await stage.rows(
        f"SELECT after->>'action' FROM audit_log WHERE bot_id = {bot_id} AND action = 'threat.detected'"
        " ORDER BY audit_id"
    )
    assert audited == [("watch user",), ("block user",)]
    enforced.stage.keeper.ignored = enforced.stage.keeper.ignored_now(until + 1)
    assert enforced.stage.keeper.ignored == {}


async def test_in_shadow_a_user_who_floods_is_told_of_and_heard_on(watched: Watched) -> None:
    bot_id = watched.a.bot_id
    for minute in (1, 2, 3):
        watched.seen[bot_id] = _flood(minute)
        await watched.look(after=COUNT_EVERY)
    assert {action for _, action, _ in await watched.told(bot_id)} == {"none (shadow)"}
    assert watched.stage.keeper.ignored == {}


async def test_users_set_aside_are_handed_on_to_the_next_control(enforced: Watched) -> None:
    from botctl.control.fleet.keeper import FleetKeeper
    from support.fleet_stage import around

    stage = enforced.stage
    until = time.time() + 500
    await stage.keeper.ignore(enforced.a.bot_id, 42, until)
    after = FleetKeeper(stage.engine, stage.bus, stage.supervisor, around(stage.login.target, stage.redis_url))
    after.resume(stage.supervisor.desired[-1].applied, {})
    assert after.ignored == {enforced.a.bot_id: {42: until}}


class Probed:
    def __init__(self, stage: Stage) -> None:
        self.found: list[str] = []
        self.words: list[str] = []
        self.probe = CanaryProbe(stage.engine, stage.login.target, self.found.append, self.take)

    async def take(self, word: str) -> None:
        self.words.append(word)


async def test_a_database_that_keeps_bots_apart_shows_the_probe_nothing(stage: Stage, database: Database) -> None:
    probed = Probed(stage)
    await probed.probe.look()
    await probed.probe.look()
    assert (probed.found, probed.probe.problem) == ([], None)
    assert len(probed.words[0]) == 64
    admin = await connect(database.admin)
    try:
        for table in ("users", "completions"):
            assert await admin.fetchval(f"SELECT count(*) FROM {table} WHERE bot_id = {canaries.CANARY_ID}") == 1
        # It is made once, and stays.
        made = f"SELECT count(*) FROM audit_log WHERE action = 'login.created' AND bot_id = {PROBE_ID}"
        assert await admin.fetchval(made) == 1
    finally:
        await admin.close()


@pytest.mark.parametrize(
    ("weaken", "mend", "words"),
    [
        (
            "CREATE POLICY open ON completions USING (true)",
            "DROP POLICY open ON completions",
            "a bot's login reads rows of others in completions",
        ),
        (
            "ALTER TABLE users DISABLE ROW LEVEL SECURITY",
            "ALTER TABLE users ENABLE ROW LEVEL SECURITY",
            "a bot's login reads rows of others in users",
        ),
        (
            "GRANT UPDATE ON sends TO bots",
            "REVOKE UPDATE ON sends FROM bots;"
            "GRANT UPDATE (state, result, error, attempts, uncertain, sent_at) ON sends TO bots",
            "rights on tables: sends: UPDATE",
        ),
    ],
)
async def test_a_database_that_does_not_is_told_of_at_once_and_once(
    stage: Stage, database: Database, watched: Watched, weaken: str, mend: str, words: str
) -> None:
    probed = Probed(stage)
    probed.probe._on_found = watched.watch.not_apart
    admin = await connect(database.admin)
    told = len(await watched.told(0))
    try:
        await admin.execute(weaken)
        await probed.probe.look()
        await probed.probe.look()
        assert probed.probe.problem is not None
        assert words in probed.probe.problem
        await watched.look()
        new = (await watched.told(0))[told:]
        assert [(rule, action) for rule, action, _ in new] == [("canary_readable", "told")]
        assert words in new[0][2]
        await admin.execute(mend)
        await probed.probe.look()
        assert probed.probe.problem is None
    finally:
        await admin.execute(mend.replace("DROP POLICY", "DROP POLICY IF EXISTS"))
        await admin.close()


async def test_canaries_that_are_gone_are_missed_and_a_probe_whose_password_was_changed_gets_another(
    stage: Stage, database: Database
) -> None:
    probed = Probed(stage)
    await probed.probe.look()
    admin = await connect(database.admin)
    try:
        await admin.execute(f"ALTER ROLE bot_{PROBE_ID} PASSWORD 'other'")
        await probed.probe.look()
        assert probed.probe.problem is None
        await admin.execute("ALTER TABLE users DISABLE TRIGGER canary")
        await admin.execute(f"UPDATE users SET username = NULL WHERE bot_id = {canaries.CANARY_ID}")
        await probed.probe.look()
        assert probed.probe.problem == "the canaries are gone"
    finally:
        await admin.execute(f"UPDATE users SET username = 'x' WHERE bot_id = {canaries.CANARY_ID}")
        await admin.execute("ALTER TABLE users ENABLE TRIGGER canary")
        await admin.close()
