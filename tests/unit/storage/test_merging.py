"""Statements that are joined to one, and those that may not be."""

from __future__ import annotations

from typing import Any

import pytest

from botctl.storage.merging import merged

SENT = "\n    UPDATE sends SET result = $2 WHERE cause = $1"
MESSAGE = "INSERT INTO messages (cause, text) VALUES ($1, $2) ON CONFLICT DO NOTHING"
EVENT = "INSERT INTO outbox (data) SELECT one FROM unnest($1::text[]) AS row (one)"


def test_statements_of_several_tables_are_one_with_all_their_parameters() -> None:
    ((sql, parameters),) = merged([(SENT, [("u:1", "{}")]), (MESSAGE, [("u:1", "hi")]), (EVENT, [(["e"],)])])
    assert " ".join(sql.split()) == (
        "WITH part_0 AS ( UPDATE sends SET result = $2 WHERE cause = $1),"
        " part_1 AS (INSERT INTO messages (cause, text) VALUES ($3, $4) ON CONFLICT DO NOTHING)"
        " INSERT INTO outbox (data) SELECT one FROM unnest($5::text[]) AS row (one)"
    )
    assert parameters == [("u:1", "{}", "u:1", "hi", ["e"])]


@pytest.mark.parametrize(
    "waiting",
    [
        pytest.param([(SENT, [(1, 2)])], id="one alone"),
        pytest.param([(SENT, [(1, 2)]), (MESSAGE, [(1, 2), (3, 4)])], id="one is done twice"),
        pytest.param([(MESSAGE, [(1, 2)]), ("UPDATE messages SET text = $1", [(1,)])], id="the same table twice"),
        pytest.param([(SENT, [(1, 2)]), ("WITH kept AS (SELECT 1) UPDATE inbox SET a = 1", [()])], id="no plain one"),
        pytest.param([(SENT, [(1, 2)]), ("SELECT $1", [(1,)])], id="it writes nothing"),
    ],
)
def test_what_may_not_be_joined_stays_as_it_is(waiting: list[tuple[str, list[tuple[Any, ...]]]]) -> None:
    assert merged(waiting) == waiting
