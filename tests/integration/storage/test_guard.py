"""A freshly migrated database breaks no rule of isolation, and the guard sees every rule broken."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from botctl.cli.database_checks import isolation_of
from botctl.cli.findings import Verdict
from botctl.storage.engine import connect
from botctl.storage.guard import RULES, inspect

Connection = asyncpg.Connection

TABLE = (
    "CREATE TABLE public.notes (bot_id bigint NOT NULL, note text NOT NULL); ALTER TABLE notes OWNER TO botctl_owner"
)
CLOSED = f"{TABLE}; ALTER TABLE notes ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY"
FUNCTION = "CREATE FUNCTION public.helps() RETURNS int LANGUAGE sql SECURITY DEFINER"

BREACHES = [
    ("row security", TABLE),
    ("row security", f"{TABLE}; ALTER TABLE notes ENABLE ROW LEVEL SECURITY"),
    ("row security", "ALTER TABLE messages DISABLE ROW LEVEL SECURITY"),
    ("row security", "ALTER TABLE messages NO FORCE ROW LEVEL SECURITY"),
    ("row security", "CREATE TABLE botctl_internal.notes (note text, bot_id bigint NOT NULL)"),
    ("policies", CLOSED),
    ("policies", "DROP POLICY tenant ON messages"),
    ("policies", "DROP POLICY owner ON messages"),
    ("policies", "CREATE POLICY more ON messages FOR SELECT TO bots USING (true)"),
    ("policies", "CREATE POLICY more ON messages FOR INSERT TO bots WITH CHECK (bot_id > 0)"),
    ("policies", "CREATE POLICY more ON messages USING (bot_id > 0)"),
    ("policies", "ALTER POLICY tenant ON messages USING (bot_id = current_setting('app.bot_id')::bigint)"),
    ("policies", "ALTER POLICY tenant ON messages WITH CHECK (true)"),
    ("policies", "ALTER POLICY tenant ON messages WITH CHECK (coalesce(bot_id, 0) = botctl_bot_id())"),
    ("policies", "ALTER POLICY tenant ON messages USING (bot_id IS NULL OR bot_id = botctl_bot_id())"),
    ("policies", "ALTER POLICY control ON messages TO botctl_control, bots"),
    (
        "policies",
        "CREATE OR REPLACE FUNCTION botctl_bot_id() RETURNS bigint LANGUAGE sql STABLE"
        " RETURN current_setting('app.bot_id')::bigint",
    ),
    (
        "policies",
        "CREATE OR REPLACE FUNCTION botctl_bot_id() RETURNS bigint LANGUAGE sql STABLE"
        " RETURN split_part(current_user::text, '_', 2)::bigint",
    ),
    ("policies", "ALTER POLICY tenant ON messages TO bots, bots_ro"),
    ("policies", "CREATE POLICY more ON audit_log AS RESTRICTIVE USING (entity <> 'x')"),
    ("policies", "CREATE POLICY more ON audit_log AS RESTRICTIVE FOR SELECT TO botctl_control USING (entity <> 'x')"),
    ("policies", "CREATE POLICY more ON messages AS RESTRICTIVE TO botctl_owner USING (false)"),
    ("policies", "ALTER POLICY control ON audit_log USING (entity <> 'x')"),
    ("policies", "ALTER POLICY owner ON audit_seals WITH CHECK (false)"),
    ("policies", "CREATE POLICY more ON messages TO botctl_control USING (true)"),
    ("policies", "DROP POLICY control ON audit_log"),
    ("policies", "CREATE POLICY more ON botctl_internal.messages_03 TO botctl_owner USING (true)"),
    ("statistics", CLOSED),
    ("statistics", "ALTER TABLE messages ALTER COLUMN chat_id SET STATISTICS 100"),
    ("statistics", "ALTER TABLE botctl_internal.users_07 ALTER COLUMN user_id SET STATISTICS -1"),
    ("keys", f"{CLOSED}; ALTER TABLE notes ADD PRIMARY KEY (note, bot_id)"),
    ("keys", f"{CLOSED}; CREATE UNIQUE INDEX ON notes (note)"),
    ("keys", f"{CLOSED}; CREATE UNIQUE INDEX ON notes ((bot_id % 2), note)"),
    ("keys", f"{CLOSED}; ALTER TABLE notes ADD EXCLUDE (note WITH =)"),
    (
        "keys",
        f"{CLOSED}; CREATE UNIQUE INDEX ON notes (bot_id, note); CREATE TABLE more (bot_id bigint, note text,"
        " FOREIGN KEY (note, bot_id) REFERENCES notes (note, bot_id))",
    ),
    ("rights on tables", "GRANT UPDATE ON messages TO bots"),
    ("rights on tables", "GRANT DELETE ON messages TO bots"),
    ("rights on tables", "GRANT TRUNCATE ON outbox TO botctl_control"),
    ("rights on tables", "GRANT UPDATE (bot_id) ON messages TO bots"),
    ("rights on tables", "GRANT REFERENCES (bot_id) ON messages TO bots"),
    ("rights on tables", "GRANT TRIGGER ON messages TO bots"),
    ("rights on tables", "GRANT SELECT ON messages TO PUBLIC"),
    ("rights on tables", "GRANT SELECT (bot_id) ON messages TO PUBLIC"),
    ("rights on tables", "GRANT SELECT ON messages TO bots WITH GRANT OPTION"),
    ("rights on tables", "GRANT SELECT ON messages TO pg_monitor"),
    ("rights on tables", "GRANT INSERT ON messages TO bots_ro"),
    ("rights on tables", "GRANT SELECT ON bot_keys TO bots"),
    ("rights on tables", "GRANT SELECT (sealed) ON bot_secrets TO bots_ro"),
    ("rights on tables", "GRANT SELECT ON alembic_version TO bots"),
    ("rights on tables", "GRANT SELECT ON botctl_admin.logins TO botctl_control"),
    ("rights on tables", f"{CLOSED}; GRANT SELECT ON notes TO bots"),
    ("partitions", "GRANT SELECT ON botctl_internal.messages_03 TO bots"),
    ("partitions", "GRANT UPDATE (text) ON botctl_internal.messages_03 TO botctl_control"),
    ("partitions", "ALTER TABLE botctl_internal.messages_03 SET SCHEMA public"),
    ("partitions", "ALTER TABLE botctl_internal.messages_03 FORCE ROW LEVEL SECURITY"),
    ("views", "CREATE VIEW public.everything AS SELECT * FROM messages"),
    ("views", "CREATE VIEW public.everything WITH (security_invoker = false) AS SELECT * FROM messages"),
    ("views", "CREATE VIEW public.everything WITH (security_barrier) AS SELECT * FROM messages"),
    ("views", "CREATE MATERIALIZED VIEW public.everything AS SELECT * FROM messages"),
    ("functions", f"{FUNCTION} RETURN 1; REVOKE ALL ON FUNCTION helps FROM PUBLIC"),
    ("functions", f"{FUNCTION} SET search_path = public RETURN 1; REVOKE ALL ON FUNCTION helps FROM PUBLIC"),
    ("functions", f"{FUNCTION} SET search_path = pg_catalog, pg_temp RETURN 1"),
    (
        "functions",
        f"{FUNCTION} SET search_path = pg_catalog, pg_temp RETURN 1; REVOKE ALL ON FUNCTION helps FROM PUBLIC;"
        " GRANT EXECUTE ON FUNCTION helps TO bots",
    ),
    ("functions", "CREATE FUNCTION public.helps() RETURNS int LANGUAGE sql RETURN 1"),
    ("functions", "GRANT EXECUTE ON FUNCTION botctl_internal.record_audit TO bots"),
    ("functions", "GRANT EXECUTE ON FUNCTION botctl_admin.drop_bot TO bots_ro"),
    ("functions", "CREATE FUNCTION public.helps() RETURNS float LANGUAGE internal AS 'drandom'"),
    ("functions", "ALTER FUNCTION botctl_bot_id LEAKPROOF"),
    ("functions of the server", "GRANT EXECUTE ON FUNCTION pg_advisory_lock(bigint) TO bots"),
    (
        "functions of the server",
        "DO $$ BEGIN EXECUTE (SELECT string_agg('GRANT EXECUTE ON FUNCTION ' || oid::regprocedure || ' TO bots', ';')"
        " FROM pg_proc WHERE proname = 'pg_logical_emit_message'); END $$",
    ),
    ("functions of the server", "GRANT EXECUTE ON FUNCTION lo_create(oid) TO PUBLIC"),
    ("functions that read or write files", "GRANT EXECUTE ON FUNCTION pg_read_file(text) TO bots"),
    ("functions that read or write files", "GRANT EXECUTE ON FUNCTION pg_reload_conf() TO botctl_control"),
    ("functions that read or write files", "GRANT pg_read_server_files, pg_monitor TO bots"),
    ("sequences and types", "GRANT SELECT ON SEQUENCE messages_message_id_seq TO bots"),
    ("sequences and types", "CREATE DOMAIN public.words AS text"),
    ("schemas", "GRANT CREATE ON SCHEMA public TO PUBLIC"),
    ("schemas", "GRANT CREATE ON SCHEMA public TO bots"),
    ("schemas", "GRANT USAGE ON SCHEMA botctl_internal TO bots"),
    ("schemas", "GRANT USAGE ON SCHEMA botctl_admin TO PUBLIC"),
    ("schemas", "CREATE SCHEMA other; GRANT USAGE ON SCHEMA other TO PUBLIC"),
    ("default rights", "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO bots"),
    ("default rights", "ALTER DEFAULT PRIVILEGES FOR ROLE botctl_owner GRANT SELECT ON TABLES TO PUBLIC"),
    ("owners", "CREATE TABLE public.notes (bot_id bigint NOT NULL)"),
    ("owners", "ALTER FUNCTION botctl_admin.drop_bot OWNER TO botctl_owner"),
    ("owners", "ALTER FUNCTION botctl_internal.record_audit OWNER TO postgres"),
    ("owners", "ALTER SCHEMA botctl_internal OWNER TO postgres"),
    ("owners", "ALTER TABLE messages OWNER TO bots"),
    ("roles", "ALTER ROLE bots BYPASSRLS"),
    ("roles", "ALTER ROLE botctl_control CREATEROLE"),
    ("roles", "GRANT pg_read_all_data TO bots"),
    ("roles", "GRANT botctl_control TO bots_ro"),
    ("roles", "GRANT SET ON PARAMETER session_replication_role TO bots"),
    ("audit triggers", "DROP TRIGGER audit_update ON bots"),
    ("audit triggers", "ALTER TABLE bot_keys DISABLE TRIGGER audit_delete"),
    ("audit triggers", "ALTER TABLE bot_keys ENABLE TRIGGER audit_delete"),
    ("audit triggers", "ALTER TABLE bots ENABLE REPLICA TRIGGER audit_update"),
    ("audit triggers", "ALTER TABLE users DISABLE TRIGGER canary"),
    ("audit triggers", "ALTER TABLE botctl_internal.users_03 DISABLE TRIGGER canary"),
    ("audit triggers", "DROP TRIGGER canary ON completions"),
    (
        "audit triggers",
        "CREATE FUNCTION botctl_internal.hush() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
        "CREATE TRIGGER hush BEFORE INSERT ON audit_log FOR EACH ROW EXECUTE FUNCTION botctl_internal.hush();"
        "ALTER TABLE audit_log ENABLE ALWAYS TRIGGER hush",
    ),
    ("extensions and rules", "CREATE RULE tell AS ON INSERT TO messages DO ALSO SELECT 1"),
    (
        "extensions and rules",
        "CREATE FUNCTION public.told() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';"
        " CREATE EVENT TRIGGER told ON ddl_command_end EXECUTE FUNCTION told()",
    ),
    ("extensions and rules", "UPDATE pg_extension SET extname = 'other' WHERE extname = 'plpgsql'"),
    ("extensions and rules", "UPDATE pg_language SET lanpltrusted = false WHERE lanname = 'plpgsql'"),
]


@pytest.fixture
async def admin(database: Any) -> AsyncIterator[Connection[Any]]:
    connection = await connect(database.admin)
    yield connection
    await connection.close()


async def test_a_fresh_database_breaks_no_rule(database: Any, admin: Connection[Any]) -> None:
    await database.add_bot(4001)
    assert [str(breach) for breach in await inspect(admin)] == []


@pytest.mark.parametrize(("rule", "statement"), BREACHES, ids=lambda value: value[:70])
async def test_a_broken_rule_is_seen(admin: Connection[Any], rule: str, statement: str) -> None:
    transaction = admin.transaction()
    await transaction.start()
    try:
        await admin.execute(statement)
        assert rule in {breach.rule for breach in await inspect(admin)}
    finally:
        await transaction.rollback()


def test_every_rule_has_been_seen_broken() -> None:
    assert {rule for rule, _ in BREACHES} == set(RULES)


async def test_doctor_tells_what_breaks_a_rule(admin: Connection[Any]) -> None:
    found = [one async for one in isolation_of(admin)]
    assert [(one.verdict, one.subject) for one in found] == [(Verdict.OK, "row security")]
    transaction = admin.transaction()
    await transaction.start()
    await admin.execute("ALTER TABLE messages DISABLE ROW LEVEL SECURITY; SET LOCAL temp_file_limit = -1")
    await admin.execute("SET LOCAL log_min_error_statement = error")
    found = [one async for one in isolation_of(admin)]
    await transaction.rollback()
    assert [(one.verdict, one.subject) for one in found] == [
        (Verdict.WARN, "row security"),
        (Verdict.WARN, "temp_file_limit"),
        (Verdict.WARN, "the server's log"),
    ]
    assert "messages: row level security is not enabled" in found[0].text
