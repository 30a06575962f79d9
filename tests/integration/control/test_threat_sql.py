"""What the embedded PostgreSQL's own log says of bots, from a refused statement to the quarantine."""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy import URL, MetaData, NullPool
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.ext.asyncio import create_async_engine

from botctl.control.defence.quarantine import Quarantine
from botctl.control.defence.server_log import ServerLogFeed
from botctl.control.defence.threat_feeds import AclLog
from botctl.control.defence.threat_watch import ThreatWatch
from botctl.fleet import BotSpec
from botctl.fleet.threats import Tuning
from botctl.handover import DatabaseLogin
from botctl.observability.postgres_log import READ_MOST
from botctl.security.threat.detection import Detector
from botctl.storage.engine import connect, parse_database_url
from integration.conftest import Database, run_async
from support.fleet_stage import Stage, bot, eventually


@pytest.fixture(scope="module")
def home(postgres_admin_url: str) -> Path:
    """Folder of the session's server."""
    login = parse_database_url(postgres_admin_url)
    there = type(login.target)(
        host=login.target.host, port=login.target.port, database="postgres", sslmode=login.target.sslmode
    )

    async def ask() -> str:
        connection = await connect(DatabaseLogin(target=there, user=login.user, password=login.password))
        try:
            return str(await connection.fetchval("SHOW data_directory"))
        finally:
            await connection.close()

    found = Path(run_async(ask())).parent
    if not (found / "log").is_dir():
        pytest.skip("the server is not ours")
    return found


class Watched:
    """Two bots, one of them the attacker, and whoever watches them."""

    def __init__(self, stage: Stage, home: Path, logs: Path, tuning: Tuning | None = None) -> None:
        self.stage = stage
        self.attacker, self.victim = bot("attacker", threats=tuning or Tuning()), bot("victim")
        self.feed = ServerLogFeed(home, logs)
        self.watch = ThreatWatch(
            Detector(),
            acl_log=AclLog(stage.redis, stage.topology),
            engine=stage.engine,
            keeper=stage.keeper,
            supervisor=stage.supervisor,
            quarantine=Quarantine(stage.engine, stage.keeper, stage.supervisor),
            wake=lambda: None,
            server_log=self.feed,
        )

    async def begin(self) -> None:
        await self.stage.apply(self.attacker, self.victim)
        while await self.feed.read(0.0):  # what other tests have tried on this server
            pass
        await self.watch.look()

    @property
    def shut(self) -> set[int]:
        return self.stage.keeper.shut.keys() & {self.attacker.bot_id, self.victim.bot_id}

    def login(self, spec: BotSpec) -> DatabaseLogin:
        password = self.stage.supervisor.passwords[spec.bot_id].database
        return DatabaseLogin(target=self.stage.login.target, user=f"bot_{spec.bot_id}", password=password)

    async def attempt(self, *statements: str, by: BotSpec | None = None) -> list[str]:
        """Statements with a bot's login, one after the other; how each was refused, by its SQLSTATE."""
        connection = await connect(self.login(by or self.attacker))
        ends = []
        try:
            for statement in statements:
                try:
                    await connection.execute(statement.format(a=self.attacker.bot_id, b=self.victim.bot_id))
                    ends.append("")
                except asyncpg.PostgresError as error:
                    ends.append(str(error.sqlstate))
        finally:
            connection.terminate()
        return ends

    async def looked(self, *, until: int = 1) -> list[tuple[Any, ...]]:
        """What was told, once there are so many verdicts; the server's collector takes its time."""

        async def enough() -> bool:
            await self.watch.look()
            return len(await self.told()) >= until

        await eventually(enough)
        return await self.told()

    async def told(self, bot_id: int | None = None) -> list[tuple[Any, ...]]:
        wanted = self.attacker.bot_id if bot_id is None else bot_id
        return await self.stage.rows(
            "SELECT data->>'rule', data->>'action', data->>'detail' FROM outbox WHERE bot_id = 0"
            f" AND type = 'threat.detected' AND data->>'bot_id' = '{wanted}' ORDER BY seq"
        )


@pytest.fixture
async def watched(stage: Stage, home: Path, tmp_path: Path) -> Watched:
    made = Watched(stage, home, tmp_path)
    await made.begin()
    return made


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO users (bot_id, user_id) VALUES ({b}, 1)",
        "INSERT INTO users (bot_id, user_id) VALUES ({a}, 1) ON CONFLICT (bot_id, user_id) DO NOTHING;"
        " INSERT INTO messages (bot_id, conversation_id, chat_id, direction, role, cause)"
        " VALUES ({b}, 1, 1, 'in', 'user', 'x')",
        "SELECT * FROM bot_credentials",
        "SET ROLE bot_{b}",
        "SET SESSION AUTHORIZATION bot_{b}",
        "SELECT rolpassword FROM pg_authid",
        "SELECT pg_read_file('/etc/hostname')",
    ],
)
async def test_reaching_for_what_is_not_its_own_ends_in_quarantine_within_a_second(
    watched: Watched, statement: str
) -> None:
    running = asyncio.create_task(watched.watch.run())
    try:
        began = time.monotonic()
        assert await watched.attempt(statement) == ["42501"]

        async def gone() -> bool:
            return not await watched.stage.can_log_in(watched.attacker.bot_id)

        await eventually(gone)
        assert time.monotonic() - began < 1.0
        assert ("quarantine", "attacker") in watched.stage.supervisor.commands
        assert watched.shut == {watched.attacker.bot_id}

        async def told() -> bool:
            return bool(await watched.told())

        await eventually(told)
        ((rule, action, detail),) = await watched.told()
        assert (rule, action) == ("cross_bot_sql", "quarantine")
        assert "not its own" in detail
    finally:
        running.cancel()


async def test_a_developers_mistakes_are_told_and_nothing_is_done(watched: Watched) -> None:
    mistakes = (
        "TRUNCATE users",
        "CREATE TABLE notes (text text)",
        "DELETE FROM messages",
        "UPDATE messages SET text = ''",
        "DO $$ BEGIN NULL; END $$",
        "ALTER TABLE users ADD note text",
    )
    assert set(await watched.attempt(*mistakes)) == {"42501"}
    ((rule, action, detail),) = await watched.looked()
    assert (rule, action) == ("denied_sql", "none (shadow)")
    assert "was refused a statement" in detail
    assert not watched.shut


async def test_a_statement_without_a_bot_id_is_the_bots_own_and_no_attempt(watched: Watched) -> None:
    assert await watched.attempt("INSERT INTO users (user_id) VALUES (5)") == [""]
    rows = await watched.stage.rows("SELECT bot_id FROM users WHERE user_id = 5")
    assert rows == [(watched.attacker.bot_id,)]


async def test_an_orm_that_knows_no_bot_id_is_told_of_its_mistake_and_accused_of_nothing(watched: Watched) -> None:
    ends = await watched.attempt("INSERT INTO users (bot_id, user_id) VALUES (NULL, 6)", *["TRUNCATE users"] * 4)
    assert ends == ["23502", *["42501"] * 4]
    assert [rule for rule, _, _ in await watched.looked()] == ["denied_sql"]
    assert not watched.shut


async def test_who_reflects_the_tables_or_asks_for_their_sizes_is_not_shut_away(watched: Watched) -> None:
    """All of it ordinary code; the server refuses it by the names of partitions."""
    login = watched.login(watched.attacker)
    where = login.target
    url = URL.create("postgresql+asyncpg", login.user, login.password, where.host, where.port, where.database)
    engine = create_async_engine(url, poolclass=NullPool)
    try:
        async with engine.connect() as connection:
            with pytest.raises(ProgrammingError, match="permission denied for schema botctl_internal"):
                await connection.run_sync(MetaData().reflect)
            await connection.rollback()
            await connection.run_sync(lambda sync: MetaData().reflect(sync, only=["users"], resolve_fks=False))
    finally:
        await engine.dispose()
    sizes = "SELECT pg_total_relation_size(schemaname || '.' || tablename) FROM pg_tables"
    assert await watched.attempt(sizes, "SELECT to_regclass('botctl_internal.x')") == ["42501", "42501"]
    assert await watched.attempt("SELECT 1 FROM botctl_admin.logins", "TRUNCATE users") == ["42501", "42501"]
    ((rule, action, detail),) = await watched.looked()
    assert (rule, action) == ("denied_sql", "none (shadow)")
    assert "schema botctl_" in detail
    assert not watched.shut


async def test_a_pool_of_the_handlers_own_is_refused_nothing(watched: Watched) -> None:
    login = watched.login(watched.attacker)
    where = login.target
    async with asyncpg.create_pool(
        host=where.host, port=where.port, database=where.database, user=login.user, password=login.password, min_size=1
    ) as pool:
        for _ in range(3):
            assert await pool.fetchval("SELECT botctl_bot_id()") == watched.attacker.bot_id


@pytest.mark.parametrize("size", [70_000, 20_000_000])
async def test_a_long_statement_hides_nothing_that_was_reached_for(watched: Watched, size: int) -> None:
    """The server writes it whole into the context of the refusal."""
    connection = await connect(watched.login(watched.attacker))
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.fetchval(
                "SELECT query_to_xml($1, false, true, '')", f"SELECT * FROM bot_secrets /* {'x' * size} */"
            )
    finally:
        connection.terminate()
    ((rule, action, detail),) = await watched.looked()
    assert (rule, action) == ("cross_bot_sql", "quarantine")
    assert "bot_secrets" in detail
    if size > READ_MOST:

        async def told() -> bool:
            await watched.watch.look()
            return "were not read" in str(watched.watch.problem)

        await eventually(told)


async def test_errors_of_every_day_are_none_of_its_business(watched: Watched) -> None:
    ends = await watched.attempt("SELECT 1/0", "SELECT * FROM nowhere", "INSERT INTO users (bot_id) VALUES ({a})")
    assert ends == ["22012", "42P01", "23502"]
    assert await watched.attempt(*["TRUNCATE users"] * 6) == ["42501"] * 6
    ((rule, _, detail),) = await watched.looked()
    assert rule == "denied_sql"
    assert "permission denied for table users" in detail


async def test_no_words_of_a_bot_accuse_another(watched: Watched) -> None:
    """In names, literals, aliases, the application's name: whatever a bot can have the server write."""
    line = (
        '"}}\\n{{"timestamp":"x","user":"bot_{b}","state_code":"42501","message":"new row violates row-level security'
    )
    forged = line.format(b=watched.victim.bot_id)
    connection = await connect(watched.login(watched.attacker), {"application_name": forged[:60]})
    try:
        for statement in (
            f"SELECT '{forged}'::int",
            f"SELECT E'{forged}'::int",
            f'SELECT * FROM "{forged.replace(chr(34), chr(34) * 2)}"',
            "SELECT '" + "x" * 20000 + f"'::int, '{forged}'",
        ):
            with contextlib.suppress(asyncpg.PostgresError):
                await connection.execute(statement)
        for _ in range(6):
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="bot_"):
                await connection.execute(f"ALTER SYSTEM SET x.bot_{watched.victim.bot_id} = '1'")
    finally:
        connection.terminate()
    await watched.looked()
    assert await watched.told(watched.victim.bot_id) == []
    assert not watched.shut


async def test_a_flood_of_one_bot_hides_nothing_of_another(watched: Watched) -> None:
    """6 connections refuse as fast as they can; meanwhile another bot reaches for what is not its own."""
    stage, stop = watched.stage, asyncio.Event()
    running = asyncio.create_task(watched.watch.run())
    refused = 0

    async def flood() -> None:
        nonlocal refused
        connection = await connect(watched.login(watched.victim))
        try:
            while not stop.is_set():
                with contextlib.suppress(asyncpg.PostgresError):
                    await connection.execute("TRUNCATE users")
                refused += 1
        finally:
            connection.terminate()

    floods = [asyncio.create_task(flood()) for _ in range(5)]
    try:

        async def many() -> bool:
            return refused > 2000

        await eventually(many)
        began = time.monotonic()
        assert await watched.attempt("SET ROLE bot_{b}") == ["42501"]

        async def gone() -> bool:
            return watched.attacker.bot_id in stage.keeper.shut

        await eventually(gone)
        assert time.monotonic() - began < 3.0
    finally:
        stop.set()
        await asyncio.gather(*floods, return_exceptions=True)
        running.cancel()
    assert watched.victim.bot_id not in stage.keeper.shut


async def test_the_operator_finds_the_servers_words_without_statements(
    watched: Watched, home: Path, tmp_path: Path
) -> None:
    await watched.attempt("SELECT 'words of a user' FROM nowhere", *["TRUNCATE users"] * 60)

    def raw() -> str:
        return "".join(file.read_text() for file in (home / "log").glob("*.json"))

    async def written() -> bool:
        return raw().count(f'"user":"bot_{watched.attacker.bot_id}"') >= 61

    await eventually(written)
    assert "words of a user" not in raw()
    await watched.looked()
    shown = (tmp_path / "postgres-messages.log").read_text()
    assert (
        f'bot_{watched.attacker.bot_id}@{watched.stage.login.target.database} ERROR 42P01: relation "nowhere"' in shown
    )
    assert "words of a user" not in shown
    assert shown.count("TRUNCATE") == 0
    assert shown.count(f"bot_{watched.attacker.bot_id}@") < 20
    assert " more of bot_" in shown


async def test_somebody_who_tries_passwords_is_told_and_accuses_nobody(watched: Watched) -> None:
    login = watched.login(watched.victim)
    words = f"as bot {watched.victim.bot_id} failed, from 127.0.0.1"

    async def told() -> list[tuple[Any, ...]]:
        return [one for one in await watched.told(0) if words in one[2]]

    async def seen() -> bool:
        for _ in range(12):
            with pytest.raises(asyncpg.InvalidPasswordError):
                await connect(DatabaseLogin(target=login.target, user=login.user, password="guess"))
        await watched.watch.look()
        return bool(await told())

    await eventually(seen)
    assert [(rule, action) for rule, action, _ in await told()] == [("failed_logins", "told")]
    assert not watched.shut
    assert await watched.told(watched.victim.bot_id) == []


async def test_an_operators_reader_does_not_speak_for_the_bot(watched: Watched) -> None:
    from botctl.control.service import READER_VALID
    from botctl.storage import logins
    from botctl.storage.scram import new_password

    password = new_password()
    async with watched.stage.engine.begin() as connection:
        user, _ = await logins.open_reader(connection, watched.attacker.bot_id, password, READER_VALID)
    reader = await connect(DatabaseLogin(target=watched.stage.login.target, user=user, password=password))
    for _ in range(6):
        with contextlib.suppress(asyncpg.PostgresError):
            await reader.execute("SELECT * FROM bot_secrets")
    reader.terminate()
    assert await watched.attempt(*["TRUNCATE users"] * 6, by=watched.victim) == ["42501"] * 6

    async def told() -> bool:
        await watched.watch.look()
        return bool(await watched.told(watched.victim.bot_id))

    await eventually(told)
    assert await watched.told() == []


async def test_without_its_folder_the_feed_says_so_and_the_watch_goes_on(watched: Watched, tmp_path: Path) -> None:
    feed = ServerLogFeed(tmp_path / "nowhere", tmp_path)
    assert await feed.read(1.0) == []
    assert feed.problem is not None
    assert "refused statements are not seen" in feed.problem


async def test_canaries_are_the_administrators_as_all_rows_are(watched: Watched, database: Database) -> None:
    admin = await connect(database.admin)
    try:
        for table, column in (("users", "last_name"), ("completions", "duration_ms")):
            assert await admin.fetchval(f"SELECT count(*) FROM {table} WHERE bot_id = -1") == 1
            await admin.execute(f"UPDATE {table} SET {column} = NULL")
    finally:
        await admin.close()


async def test_canaries_stay_alone(watched: Watched, database: Database) -> None:
    """Were row security gone, a change of a canary would be refused and told as what it is."""
    admin = await connect(database.admin)
    try:
        await admin.execute("ALTER TABLE users DISABLE ROW LEVEL SECURITY")
        ends = await watched.attempt("UPDATE users SET first_name = ''", by=watched.attacker)
    finally:
        await admin.execute("ALTER TABLE users ENABLE ROW LEVEL SECURITY")
        await admin.close()
    assert ends == ["42501"]
    ((rule, action, detail),) = await watched.looked()
    assert (rule, action) == ("canary", "quarantine")
    assert "a canary row was touched in users" in detail
