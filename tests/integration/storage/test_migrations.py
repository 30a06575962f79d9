"""The schema: from empty to head, again, and by several at once."""

from __future__ import annotations

from botctl.storage.bootstrap import prepare
from botctl.storage.engine import parse_database_url
from botctl.storage.migrate import current_of, head


async def test_an_empty_server_gets_its_database_and_schema(empty_database_url: str) -> None:
    first = await prepare(empty_database_url)
    assert (first.migrated_from, first.migrated_to) == (None, head())
    second = await prepare(empty_database_url)
    assert (second.migrated_from, second.migrated_to) == (head(), head())
    assert second.control.user == first.control.user
    assert second.control.password != first.control.password
    assert await current_of(parse_database_url(empty_database_url)) == head()
