"""Real servers for the attacks: those of the integration tests, and two bots with data in a database of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from attack.sql.ground import Ground, furnish
from integration.conftest import (
    Database,
    migrated_database,
    migrated_template,
    new_postgres,
    postgres_admin_url,
    run_async,
)

__all__ = ["migrated_template", "new_postgres", "postgres_admin_url"]


@pytest.fixture(scope="module")
def furnished(postgres_admin_url: str, migrated_template: str) -> Iterator[Ground]:
    """Two bots with rows in every table, and the logins of all."""
    with migrated_database(postgres_admin_url, migrated_template) as database:
        yield run_async(ground_in(database))


async def ground_in(database: Database) -> Ground:
    """The ground in a migrated database: with logins of both bots, and their rows."""
    ground = Ground(
        database.admin, database.control, await database.add_bot(Ground.a), await database.add_bot(Ground.b)
    )
    await furnish(ground)
    return ground


@pytest.fixture
async def ground(furnished: Ground) -> AsyncIterator[Ground]:
    """With a fresh connection of the attacker, and all that the attack opens closed afterwards."""
    async with furnished.entered():
        yield furnished
