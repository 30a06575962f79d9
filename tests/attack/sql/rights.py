"""Attacks on rights: becoming somebody else, changing logins, objects and settings, and forging the audit log."""

from __future__ import annotations

import asyncpg

from attack.sql.ground import NO_ROW, NOTHING, Ground, declare, run, several
from botctl.handover import DatabaseLogin
from botctl.storage.engine import connect
from botctl.storage.guard import SUPERUSER_ONLY, inspect
from botctl.storage.guard_rules import OPEN_TABLES

OTHERS = "SELECT quote_ident(rolname) FROM pg_roles WHERE rolname NOT IN ('bots', 'bot_{a}')"
STRONG = ("SHARE UPDATE EXCLUSIVE", "SHARE", "SHARE ROW EXCLUSIVE", "EXCLUSIVE", "ACCESS EXCLUSIVE")
WEAK = ("ACCESS SHARE", "ROW SHARE", "ROW EXCLUSIVE")
NO_FOREIGN = "SELECT * FROM messages WHERE bot_id <> {a}"


@declare("SET ROLE to every other role", weak="GRANT botctl_control TO bots")
async def set_role(ground: Ground) -> str:
    return await ground.each(f"SET ROLE {role}" for role in await ground.names(OTHERS.format(a=ground.a)))


@declare("SET SESSION AUTHORIZATION to every other role")
async def session_authorization(ground: Ground) -> str:
    roles = await ground.names(OTHERS.format(a=ground.a))
    return await ground.each(f"SET SESSION AUTHORIZATION {role}" for role in roles)


@declare(
    "see more as the group it is in (SET ROLE bots)", NO_ROW, weak="CREATE POLICY w ON messages TO bots USING (true)"
)
async def as_group(ground: Ground) -> str:
    await ground.me.execute("SET ROLE bots")
    return await run(ground, NO_FOREIGN)


@declare("log in as B, as control, as the owner, as the administrator, with A's password", "refused")
async def log_in(ground: Ground) -> str:
    for user in (ground.bob.user, ground.control.user, ground.admin.user, "botctl_owner", "botctl_control", "bots"):
        login = DatabaseLogin(target=ground.alice.target, user=user, password=ground.alice.password)
        try:
            (await connect(login)).terminate()
        except (asyncpg.InvalidPasswordError, asyncpg.InvalidAuthorizationSpecificationError):
            continue
        return f"in as {user}"
    return "refused"


@declare("log in for replication, or with a superuser's parameter in the greeting", "refused")
async def greeting(ground: Ground) -> str:
    for name, value in {
        "replication": "true",
        "session_replication_role": "replica",
        "options": "-c session_preload_libraries=x",
        "session_authorization": ground.bob.user,
        "role": "botctl_control",
        "log_statement": "none",
    }.items():
        try:
            await ground.open(ground.alice, **{name: value})
        except (asyncpg.PostgresError, asyncpg.InterfaceError):
            continue
        return f"in with {name}"
    return "refused"


@declare("read with row_security off", weak="ALTER ROLE bot_7101 BYPASSRLS")
async def row_security_off(ground: Ground) -> str:
    await ground.me.execute("SET row_security = off")
    return await run(ground, "SELECT * FROM messages")


@declare(
    "see more by any parameter that A may set, at any of its values",
    NO_ROW,
    weak="ALTER POLICY tenant ON messages USING (bot_id = botctl_bot_id() OR current_setting('work_mem') <> '4MB')",
)
async def settings(ground: Ground) -> str:
    rows = await ground.me.fetch("SELECT * FROM pg_settings WHERE context IN ('user', 'backend', 'superuser')")
    tried = 0
    for row in rows:
        values = {
            "bool": ["on", "off"],
            "enum": row["enumvals"],
            "string": ["", "bots", "bot_7102", "postgres", "public"],
        }
        for value in values.get(row["vartype"]) or [row["min_val"], row["max_val"]]:
            savepoint = ground.me.transaction()
            await savepoint.start()
            try:
                await ground.me.execute("SELECT set_config($1, $2, true)", row["name"], value)
                await ground.me.execute("SET LOCAL statement_timeout = 0; SET LOCAL transaction_read_only = off")
                tried += 1
                seen = await run(ground, NO_FOREIGN)
                if seen != NO_ROW:
                    return f"{row['name']} = {value}: {seen}"
            except asyncpg.PostgresError:
                pass
            finally:
                await savepoint.rollback()
    assert tried > 150, tried
    return NO_ROW


@declare(
    "set a parameter that is a superuser's, for itself, its role or the server",
    "refused",
    weak="GRANT SET ON PARAMETER session_replication_role TO bots",
)
async def superusers_settings(ground: Ground) -> str:
    names = await ground.names("SELECT name FROM pg_settings WHERE context <> 'user'")
    ends = {
        await ground.outcome(lambda g, sql=sql: run(g, sql))
        for name in names
        for sql in (f"SELECT set_config('{name}', reset_val, false) FROM pg_settings WHERE name = '{name}'",)
    }
    ends |= {
        await ground.outcome(lambda g, sql=sql: run(g, sql))
        for sql in (
            "ALTER SYSTEM SET work_mem = '1GB'",
            f"ALTER DATABASE {ground.alice.target.database} SET work_mem = '1GB'",
            "ALTER ROLE bot_{b} SET work_mem = '1GB'",
            "ALTER ROLE ALL SET work_mem = '1GB'",
            "ALTER ROLE bot_{a} SET session_replication_role = replica",
        )
    }
    return "refused" if ends <= {"refused (42501)", "refused (55P02)"} else str(ends)


several(
    "change its role: attributes, name, limits, membership",
    [
        "ALTER ROLE bot_{a} SUPERUSER",
        "ALTER ROLE bot_{a} CREATEROLE",
        "ALTER ROLE bot_{a} BYPASSRLS",
        "ALTER ROLE bot_{a} REPLICATION",
        "ALTER ROLE bot_{a} CONNECTION LIMIT 100",
        "ALTER ROLE bot_{a} VALID UNTIL 'infinity'",
        "COMMENT ON ROLE bot_{a} IS 'x'",
        "GRANT bots TO bot_{b} WITH ADMIN OPTION",
        "GRANT bot_{b} TO bot_{a}",
        "GRANT pg_read_all_data TO bot_{a}",
        "CREATE ROLE mine",
        "DROP ROLE bot_{b}",
        "ALTER ROLE bot_{b} PASSWORD 'x'",
        "ALTER ROLE bot_{b} NOLOGIN",
        "REVOKE bots FROM bot_{b}",
    ],
    weak="ALTER ROLE bot_7101 CREATEROLE",
)


@declare(
    "take the group out of rights and policies (DROP OWNED BY bots)",
    NOTHING,
    weak="ALTER POLICY tenant ON users TO bots, bots_ro",
)
async def drop_owned(ground: Ground) -> str:
    await ground.me.execute("DROP OWNED BY bots CASCADE")
    await ground.me.execute("REASSIGN OWNED BY bots TO bots")
    inside = ground.me.transaction()
    await inside.start()
    await ground.me.execute("INSERT INTO users (bot_id, user_id) VALUES (7101, 5)")
    await ground.me.execute("UPDATE users SET first_name = 'x' WHERE bot_id = 7101 AND user_id = 5")
    assert await ground.me.fetchval("SELECT count(*) FROM messages") > 0
    await inside.rollback()
    left = [breach for breach in await inspect(ground.me) if breach.rule not in SUPERUSER_ONLY]
    return "bots are out" if left else NOTHING


@declare("hold the others up with DROP OWNED BY bots in an open transaction", NOTHING)
async def drop_owned_open(ground: Ground) -> str:
    await ground.me.execute("BEGIN")
    await ground.me.execute("DROP OWNED BY bots")
    return await others_work(ground)


async def others_work(ground: Ground) -> str:
    """Whether B writes and reads meanwhile."""
    bob = await ground.open(ground.bob, lock_timeout="1s")
    try:
        await bob.execute(
            f"INSERT INTO users (bot_id, user_id) VALUES ({ground.b}, 6) ON CONFLICT DO NOTHING;"
            f"UPDATE users SET last_name = 'x' WHERE bot_id = {ground.b} AND user_id = 6; SELECT * FROM messages"
        )
        return NOTHING
    except asyncpg.LockNotAvailableError:
        return "B waits"


several(
    "create an object in any schema, or one of its own",
    [
        f"CREATE {what}"
        for what in (
            "TABLE public.x (i int)",
            "TABLE botctl_internal.x (i int)",
            "TABLE botctl_admin.x (i int)",
            "SCHEMA mine",
            "VIEW public.x AS SELECT 1",
            "FUNCTION public.x() RETURNS int LANGUAGE sql RETURN 1",
            "FUNCTION pg_temp.x() RETURNS int LANGUAGE sql RETURN 1",
            "TEMP TABLE x (i int)",
            "TEMP VIEW x AS SELECT 1",
            "TEMP SEQUENCE x",
            "TYPE public.x AS (i int)",
            "DOMAIN public.x AS int",
            "OPERATOR public.=== (leftarg = int, rightarg = int, function = int4eq)",
            "SEQUENCE public.x",
            "AGGREGATE public.x (int) (sfunc = int4pl, stype = int)",
            'COLLATION public.x FROM "C"',
            "TEXT SEARCH CONFIGURATION public.x (copy = simple)",
            "DATABASE x",
            "TABLESPACE x LOCATION '/tmp'",
            "FOREIGN DATA WRAPPER x",
            "EVENT TRIGGER x ON ddl_command_end EXECUTE FUNCTION pg_event_trigger_ddl_commands()",
            "PUBLICATION x FOR ALL TABLES",
            "SUBSCRIPTION x CONNECTION 'host=/tmp' PUBLICATION y",
            "STATISTICS public.x ON user_id, username FROM users",
            "INDEX ON messages (text)",
            "CAST (int AS text) WITH INOUT",
            "RULE x AS ON INSERT TO messages DO NOTHING",
            "POLICY x ON messages USING (true)",
            "TRIGGER x AFTER INSERT ON messages EXECUTE FUNCTION tsvector_update_trigger()",
            "LANGUAGE x HANDLER plpgsql_call_handler",
            "ACCESS METHOD x TYPE INDEX HANDLER bthandler",
        )
    ],
    weak="GRANT CREATE ON SCHEMA public TO PUBLIC",
)


@declare("create any extension that the server has", "refused")
async def extensions(ground: Ground) -> str:
    names = await ground.names("SELECT quote_ident(name) FROM pg_available_extensions WHERE installed_version IS NULL")
    ends = [await ground.outcome(lambda g, name=name: run(g, f"CREATE EXTENSION {name}")) for name in names]
    return "refused" if all(end.startswith("refused") for end in ends) else str(ends)


several(
    "alter, drop or comment on a table, a policy, a trigger, a function",
    [
        "ALTER TABLE messages DISABLE ROW LEVEL SECURITY",
        "ALTER TABLE messages NO FORCE ROW LEVEL SECURITY",
        "ALTER TABLE bots DISABLE TRIGGER ALL",
        "ALTER TABLE messages OWNER TO bot_{a}",
        "DROP TABLE messages",
        "DROP POLICY tenant ON messages",
        "ALTER POLICY tenant ON messages USING (true)",
        "DROP TRIGGER audit_update ON bots",
        "COMMENT ON TABLE messages IS 'x'",
        "DROP FUNCTION botctl_bot_id()",
        "ALTER FUNCTION botctl_bot_id() OWNER TO bot_{a}",
        "ALTER TABLE messages ALTER chat_id SET STATISTICS 100",
        "REINDEX TABLE messages",
        "REFRESH MATERIALIZED VIEW messages",
    ],
    weak="ALTER TABLE messages OWNER TO bots",
)


@declare("grant or revoke rights that it has", NOTHING)
async def grants(ground: Ground) -> str:
    """Without the option to grant, PostgreSQL warns and says `GRANT` all the same: what counts is what comes of it."""
    rights = (
        "SELECT array_agg((relname, relacl)::text ORDER BY relname) FROM pg_class UNION ALL"
        " SELECT array_agg((nspname, nspacl)::text ORDER BY nspname) FROM pg_namespace"
    )
    before = await ground.me.fetch(rights)
    for sql in (
        "GRANT SELECT ON messages TO PUBLIC",
        "REVOKE ALL ON SCHEMA public FROM bots",
        "REVOKE SELECT ON bots FROM bots",
    ):
        await ground.outcome(lambda g, sql=sql: run(g, sql))
    return NOTHING if await ground.me.fetch(rights) == before else "rights are changed"


several(
    "LOCK TABLE in a mode that holds others up",
    [f"LOCK TABLE {t} IN {m} MODE NOWAIT" for t in sorted(OPEN_TABLES) for m in STRONG],
    weak=("GRANT TRUNCATE ON messages TO bots",),
)


@declare("LOCK TABLE in every mode that it may", NOTHING)
async def weak_locks(ground: Ground) -> str:
    await ground.me.execute("BEGIN")
    for table in sorted(OPEN_TABLES):
        for mode in WEAK:
            await ground.outcome(lambda g, sql=f"LOCK TABLE {table} IN {mode} MODE NOWAIT": savepointed(g, sql))
    return await others_work(ground)


async def savepointed(ground: Ground, sql: str) -> str:
    await ground.me.execute("SAVEPOINT s")
    try:
        return await ground.me.execute(sql)
    except asyncpg.PostgresError:
        await ground.me.execute("ROLLBACK TO s")
        raise


several(
    "forge, change or delete an entry of the audit log",
    [
        "INSERT INTO audit_log (bot_id, action, entity) VALUES ({a}, 'x', 'y')",
        "INSERT INTO audit_log (bot_id, actor, action, entity) VALUES ({a}, 'control', 'x', 'y')",
        "UPDATE audit_log SET action = 'nothing'",
        "DELETE FROM audit_log",
        "TRUNCATE audit_log",
        "SELECT botctl_internal.record_audit({a}, 'x', 'y', NULL, NULL)",
        "ALTER TABLE audit_log DISABLE TRIGGER ALL",
        "ALTER TABLE audit_log DETACH PARTITION botctl_internal.audit_log_default",
    ],
    weak="GRANT DELETE ON audit_log TO bots",
)


@declare(
    "write to the audit log under another actor's name",
    weak=(
        "GRANT USAGE ON SCHEMA botctl_internal TO bots; GRANT EXECUTE ON FUNCTION botctl_internal.record_audit TO bots"
    ),
)
async def forged_actor(ground: Ground) -> str:
    await ground.me.execute("SET application_name = 'control'; SET ROLE bots")
    return await run(ground, "SELECT botctl_internal.record_audit({a}, 'x', 'y', NULL, NULL)")
