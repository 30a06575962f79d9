"""Under an administrator who is no superuser, and what then can't be had; all else holds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from attack.cases import ATTACKS, CASES
from attack.sql.conftest import ground_in
from attack.sql.ground import Ground
from attack.sql.test_sql import NAMES, ends_as
from botctl.embedded.postgres import prepare_postgres
from botctl.embedded.probes import ping_postgres
from botctl.handover import DatabaseLogin
from botctl.storage.bootstrap import prepare
from botctl.storage.engine import connect, parse_database_url
from botctl.storage.guard import SUPERUSER_ONLY, inspect
from botctl.storage.url import format_database_url
from integration.conftest import Database, RunningServer, run_async, server_folder


@pytest.fixture(scope="module")
def managed() -> Iterator[Ground]:
    """A cluster whose group roles are made by a login with CREATEROLE, which owns the database."""
    with server_folder() as folder:
        made = prepare_postgres(folder / "postgres", max_connections=60)
        server = RunningServer(made.spec, lambda: ping_postgres(made.admin_url), "-c", "fsync=off")
        try:
            yield run_async(_prepared(parse_database_url(made.admin_url)))
        finally:
            server.stop()


async def _prepared(superuser: DatabaseLogin) -> Ground:
    target = superuser.target
    first = type(target)(host=target.host, port=target.port, database="postgres", sslmode=target.sslmode)
    connection = await connect(DatabaseLogin(target=first, user=superuser.user, password=superuser.password))
    await connection.execute("CREATE ROLE manager LOGIN CREATEROLE CREATEDB PASSWORD 'manager'")
    await connection.close()
    manager = DatabaseLogin(target=target, user="manager", password="manager")
    return await ground_in(Database(manager, (await prepare(format_database_url(manager))).control))


@pytest.fixture
async def ground(managed: Ground) -> AsyncIterator[Ground]:
    async with managed.entered():
        yield managed


async def test_only_what_a_superuser_alone_can_take_away_breaks_a_rule(ground: Ground) -> None:
    found = await inspect(await ground.open(ground.admin))
    assert {breach.rule for breach in found} == SUPERUSER_ONLY, [str(breach) for breach in found]


@pytest.mark.parametrize("name", NAMES)
async def test_an_attack_ends_as_declared_for_such_an_administrator(ground: Ground, name: str) -> None:
    case = CASES[name]
    outcome = await ground.outcome(ATTACKS[name])
    assert ends_as(outcome, case.managed or case.must), outcome
