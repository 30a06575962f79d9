"""Attacks that no weakening within a transaction lets through: logins, the watchdog, limits of the server.

Each weakening is committed, in a database of these tests alone, and undone; A logs in anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from attack.cases import ATTACKS, CASES
from attack.sql import rights, server
from attack.sql.ground import AREA, WEAKENED, Ground
from attack.sql.test_sql import ends_as
from botctl.control.defence import hog_feed
from botctl.control.watching.database_watch import DatabaseWatch
from botctl.storage.engine import connect

A, B = f"bot_{Ground.a}", f"bot_{Ground.b}"
Patch = pytest.MonkeyPatch


@dataclass(frozen=True)
class Weakening:
    """What an administrator would have to do, and how it is undone; `patch` weakens `control` instead."""

    do: str = ""
    undo: str = ""
    patch: Callable[[Patch], None] = lambda _: None
    patience: float = 60.0
    """Seconds; then it is let through and the server waits for more, as COPY does for its rows."""


def no_watchdog(patch: Patch) -> None:
    async def nothing(*_: object, **__: object) -> list[int]:
        return []

    patch.setattr(DatabaseWatch, "check", nothing)
    patch.setattr(server.watched, "__defaults__", (1.5,))


def all_modes(patch: Patch) -> None:
    patch.setattr(rights, "WEAK", (*rights.WEAK, *rights.STRONG))


def no_limit(patch: Patch) -> None:
    patch.setattr(hog_feed, "MOST", 10 * server.HOGGED)


SUPERUSER = Weakening(f"ALTER ROLE {A} SUPERUSER", f"ALTER ROLE {A} NOSUPERUSER")
SAME_PASSWORD = Weakening(
    f"CREATE TABLE kept AS SELECT rolpassword FROM pg_authid WHERE rolname = '{B}';"
    f"UPDATE pg_authid SET rolpassword = (SELECT rolpassword FROM pg_authid WHERE rolname = '{A}')"
    f" WHERE rolname = '{B}'",
    f"UPDATE pg_authid SET rolpassword = (SELECT rolpassword FROM kept) WHERE rolname = '{B}'; DROP TABLE kept",
)
UNWATCHED = Weakening(patch=no_watchdog)
WEAKENINGS = {
    "SET SESSION AUTHORIZATION to every other role": SUPERUSER,
    "log in as B, as control, as the owner, as the administrator, with A's password": SAME_PASSWORD,
    "log in for replication, or with a superuser's parameter in the greeting": SUPERUSER,
    "create any extension that the server has": Weakening(
        f"GRANT CREATE ON DATABASE {{database}} TO {A}; GRANT CREATE ON SCHEMA public TO {A}",
        "DO $$ DECLARE one name; BEGIN FOR one IN SELECT extname FROM pg_extension WHERE extname <> 'plpgsql' LOOP"
        " EXECUTE format('DROP EXTENSION IF EXISTS %I CASCADE', one); END LOOP; END $$;"
        f"REVOKE CREATE ON DATABASE {{database}} FROM {A}; REVOKE CREATE ON SCHEMA public FROM {A}",
    ),
    "write B's rows by COPY": Weakening(
        "ALTER TABLE users DISABLE ROW LEVEL SECURITY",
        "ALTER TABLE users ENABLE ROW LEVEL SECURITY",
        patience=2.0,
    ),
    "call every function without arguments for words of B": Weakening(
        "CREATE FUNCTION leak() RETURNS SETOF text LANGUAGE sql SECURITY DEFINER AS 'SELECT text FROM messages'",
        "DROP FUNCTION leak()",
    ),
    "grant or revoke rights that it has": Weakening(
        f"GRANT SELECT ON messages TO {A} WITH GRANT OPTION", f"REVOKE ALL ON messages FROM {A} CASCADE"
    ),
    "read rows of the fleet, bot_id 0": Weakening(
        "CREATE POLICY w ON audit_log USING (true);INSERT INTO audit_log (bot_id, action, entity) VALUES (0, 'x', 'y')",
        "DROP POLICY w ON audit_log",
    ),
    "LOCK TABLE in every mode that it may": Weakening(
        f"GRANT TRUNCATE ON users TO {A}", f"REVOKE TRUNCATE ON users FROM {A}", all_modes
    ),
    "hold the others up with DROP OWNED BY bots in an open transaction": Weakening(
        "CREATE POLICY w ON users TO bots USING (false)", "DROP POLICY IF EXISTS w ON users"
    ),
    "take every connection of the server": Weakening(
        f"ALTER ROLE {A} CONNECTION LIMIT 30", f"ALTER ROLE {A} CONNECTION LIMIT 6"
    ),
    "take every connection of the server, never logging in": Weakening(patch=no_limit),
    "a query that fills the disk with temporary files": Weakening(
        f"ALTER ROLE {A} SET temp_file_limit = -1", f"ALTER ROLE {A} RESET temp_file_limit"
    ),
    "a statement without an end": UNWATCHED,
    "an open transaction that does nothing": UNWATCHED,
    "change its own password": Weakening(
        f"CREATE TABLE kept AS SELECT rolpassword FROM pg_authid WHERE rolname = '{A}'",
        f"UPDATE pg_authid SET rolpassword = (SELECT rolpassword FROM kept) WHERE rolname = '{A}'; DROP TABLE kept",
        no_watchdog,
    ),
    "change its own settings for the sessions to come": Weakening(
        undo=f"ALTER ROLE {A} RESET default_transaction_read_only", patch=no_watchdog
    ),
}
LIMITS = {
    "a query that eats memory": "the limit is the process's, set before the server is exec'd",
    "prepare a transaction that outlives its session (PREPARE TRANSACTION)": "max_prepared_transactions: a start of it",
}
"""What only another server would let through."""


def test_every_attack_is_shown_to_be_able_to_succeed() -> None:
    of_the_area = {name for name, case in CASES.items() if case.area == AREA}
    succeed = {name for name in of_the_area if CASES[name].must.startswith("succeeds")}
    assert of_the_area == set(WEAKENED) | set(WEAKENINGS) | set(LIMITS) | succeed


@pytest.mark.parametrize("name", list(WEAKENINGS))
async def test_an_attack_on_a_weakened_server_ends_otherwise(
    furnished: Ground, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    weakening = WEAKENINGS[name]
    weakening.patch(monkeypatch)
    administrator = await connect(furnished.admin)
    database = furnished.admin.target.database
    try:
        await administrator.execute(weakening.do.format(database=database) or "SELECT")
        async with furnished.entered():
            try:
                outcome = await asyncio.wait_for(furnished.outcome(ATTACKS[name]), weakening.patience)
            except TimeoutError:
                outcome = "the server waits for more"
        assert not ends_as(outcome, CASES[name].must), outcome
    finally:
        await administrator.execute(weakening.undo.format(database=database) or "SELECT")
        await administrator.close()
