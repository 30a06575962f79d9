"""What `doctor` finds of a database's isolation: rules that are broken, and limits that the server doesn't set."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from botctl.cli.findings import Finding, Verdict

if TYPE_CHECKING:
    import asyncpg

_SHOWN = 3

_WRITES_STATEMENTS = """
    SELECT current_setting('log_min_error_statement') NOT IN ('panic', 'fatal', 'log')
        OR current_setting('log_statement') NOT IN ('none', 'ddl')
        OR current_setting('log_min_duration_statement') <> '-1'"""
"""Of settings that everybody may read; a server's default writes those that fail."""


async def isolation_of(connection: asyncpg.Connection[Any]) -> AsyncIterator[Finding]:
    """Of the connection's database; nothing of its rules when it has not been set up yet."""
    from botctl.storage.guard import SUPERUSER_ONLY, inspect

    if await connection.fetchval("SELECT to_regnamespace('botctl_admin') IS NOT NULL"):
        broken = [breach for breach in await inspect(connection) if breach.rule not in SUPERUSER_ONLY]
        if broken:
            more = f"; and {len(broken) - _SHOWN} more" if len(broken) > _SHOWN else ""
            yield Finding(
                Verdict.WARN,
                "row security",
                "; ".join(map(str, broken[:_SHOWN])) + more,
                "`botctl db migrate` brings an older database up to date; what is left, somebody else has changed.",
            )
        else:
            yield Finding(Verdict.OK, "row security", "every table, key, right and function keeps the rules")
    if await connection.fetchval("SELECT current_setting('temp_file_limit') = '-1'"):
        yield Finding(
            Verdict.WARN,
            "temp_file_limit",
            "none: a bot's query can fill the server's disk",
            "Set it in the server's configuration, for example to 1GB.",
        )
    if await connection.fetchval("SELECT current_setting('authentication_timeout')::interval > interval '10 s'"):
        yield Finding(
            Verdict.WARN,
            "authentication_timeout",
            "long: connections that never log in, and are counted for no login, can take every slot until then",
            "Set it to some seconds, and give max_connections a hundred more than the fleet needs.",
        )
    if await connection.fetchval(_WRITES_STATEMENTS):
        yield Finding(
            Verdict.WARN,
            "the server's log",
            "holds statements of bots, with what people say in those that handlers write themselves",
            "Set log_min_error_statement to panic, log_statement to none or ddl, log_min_duration_statement to -1.",
        )
    if await connection.fetchval("SELECT current_setting('max_prepared_transactions')::int > 0"):
        yield Finding(
            Verdict.WARN,
            "max_prepared_transactions",
            "more than 0: a bot can leave transactions behind that no watchdog ends",
            "Set it to 0 unless somebody else needs it.",
        )
