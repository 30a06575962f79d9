"""What is wrong with the database, in words for an operator."""

from __future__ import annotations

import asyncpg
import pytest
from sqlalchemy.exc import OperationalError

from botctl.control.advice import advice_in_trouble
from botctl.control.trouble import database_reason, is_hopeless


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError("refused"), "not reachable"),
        (TimeoutError(), "no answer in time"),
        (asyncpg.DiskFullError("could not extend file"), "its disk is full: could not extend file"),
        (asyncpg.OutOfMemoryError("out of memory"), "out of memory"),
    ],
)
def test_reason_of_a_database_error(error: Exception, words: str) -> None:
    wrapped = RuntimeError("of the driver")
    wrapped.__cause__ = error
    assert database_reason(error) == words
    assert database_reason(OperationalError("INSERT", {}, wrapped)) == words


@pytest.mark.parametrize(
    ("error", "hopeless"),
    [
        (asyncpg.DataError("bad"), True),
        (asyncpg.CheckViolationError("broken"), True),
        (asyncpg.ProgramLimitExceededError("too large"), True),
        (asyncpg.DiskFullError("full"), False),
        (asyncpg.InsufficientPrivilegeError("not yours"), False),
        (TimeoutError(), False),
    ],
)
def test_only_data_that_is_refused_is_hopeless(error: Exception, hopeless: bool) -> None:
    assert is_hopeless(error) is hopeless


@pytest.mark.parametrize(
    "reason", ["the database's disk is full", "redis can't write to its disk: No space left on device; events wait"]
)
def test_a_full_disk_is_what_there_is_to_do_something_about(reason: str) -> None:
    assert advice_in_trouble(reason)[0].startswith("Make room on the disk")
