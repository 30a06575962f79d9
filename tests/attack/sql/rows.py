"""Attacks on the rows of other bots: read, write, and what keys, plans and errors tell of them."""

from __future__ import annotations

from attack.sql.ground import MARK, NO_ROW, Ground, declare, run, several, statement
from botctl.storage.guard_rules import OPEN_TABLES

TABLES = sorted(OPEN_TABLES)
CLOSED = ("bot_credentials", "bot_keys", "bot_secrets", "forgotten", "alembic_version", "botctl_admin.logins")
WRITTEN = (
    *("attempts", "chat_states", "completions", "conversations", "inbox", "jobs", "kept_data", "messages"),
    *("once_keys", "outbox", "requests", "sends", "users"),
)
OPEN_WIDE = "CREATE POLICY wide ON {} USING (true) WITH CHECK (true)"
WIDE = tuple(OPEN_WIDE.format(table) for table in TABLES)
ALL_RIGHTS = tuple(f"GRANT ALL ON {table} TO bots" for table in TABLES)

several(
    "read rows of other bots, without a bot_id",
    [f"SELECT * FROM {table} WHERE bot_id <> {{a}}" for table in TABLES],
    NO_ROW,
    weak=WIDE,
)
several("read rows of B by its bot_id", [f"SELECT * FROM {t} WHERE bot_id = {{b}}" for t in TABLES], NO_ROW, weak=WIDE)
several("read rows of the fleet, bot_id 0", [f"SELECT * FROM {t} WHERE bot_id = 0" for t in TABLES], NO_ROW)
several(
    "read tables that only control may",
    [f"SELECT * FROM {table}" for table in CLOSED],
    weak="GRANT SELECT ON bot_keys TO bots",
)
several(
    "read B's rows in XML, in a full text statistic, through a subquery, by MERGE",
    [
        f"SELECT x FROM query_to_xml('SELECT * FROM messages WHERE text = ''{MARK}''', false, true, '') x"
        " WHERE x::text LIKE '%victim%'",
        "SELECT * FROM ts_stat('SELECT to_tsvector(''simple'', text) FROM messages') WHERE word = 'victim'",
        "SELECT * FROM (SELECT lower(text) AS t FROM messages) q WHERE t LIKE '%victim%'",
        f"MERGE INTO messages m USING (VALUES ({{b}})) v (b) ON m.bot_id = v.b AND m.text = '{MARK}'"
        " WHEN MATCHED THEN UPDATE SET telegram_message_id = 1",
    ],
    NO_ROW,
    weak=OPEN_WIDE.format("messages"),
)
several(
    "have a leaky condition called on rows of B (division by zero, a failing cast)",
    [
        "SELECT * FROM messages WHERE 1 / (bot_id - {b}) > 100",
        f"SELECT * FROM messages WHERE CASE WHEN text = '{MARK}' THEN text::int END = 1",
    ],
    NO_ROW,
    weak=OPEN_WIDE.format("messages"),
)


@declare(
    "read and write every partition directly",
    weak="GRANT USAGE ON SCHEMA botctl_internal TO bots;GRANT SELECT ON ALL TABLES IN SCHEMA botctl_internal TO bots",
)
async def partitions(ground: Ground) -> str:
    found = await ground.names("SELECT c.oid::regclass FROM pg_class c WHERE relispartition AND relkind = 'r'")
    assert len(found) > 160
    return await ground.each(
        sql
        for name in found
        for sql in (
            f"SELECT * FROM {name}",
            f"DELETE FROM {name}",
            f"INSERT INTO {name} (bot_id) VALUES ({{b}})",
            f"TRUNCATE {name}",
            f"LOCK TABLE {name}",
        )
    )


def _row(table: str, bot: str) -> str:
    columns = {
        "attempts": ("inbox_id, attempt, outcome", "9, 1, 'failed'"),
        "chat_states": ("chat_id, moved_to", "9, 8"),
        "completions": ("cause, step, response", "'x', 9, '{{}}'"),
        "conversations": ("chat_id", "9"),
        "inbox": ("cause, kind, lane, payload", "'x', 'x', 'x', '{{}}'"),
        "jobs": ("name, state, due_at", "'x', 'waiting', now()"),
        "kept_data": ("kind, owner, value", "'user', '9', 'x'"),
        "messages": ("conversation_id, chat_id, direction, role, cause", "1, 9, 'in', 'user', 'x'"),
        "once_keys": ("key, cause, state", "'x', 'x', 'held'"),
        "outbox": ("event_id, type", "'x', 'x'"),
        "requests": ("request_id, cause, target, type, state, deadline", "'x', 'x', 'x', 'x', 'waiting', now()"),
        "sends": ("cause, n, mode, method, payload, state", "'x', 9, 'inline', 'x', '{{}}', 'sent'"),
        "users": ("user_id", "9"),
    }[table]
    return f"INSERT INTO {table} (bot_id, {columns[0]}) VALUES ({bot}, {columns[1]})"


several("insert rows for B", [_row(table, "{b}") for table in WRITTEN], weak=WIDE)
several("insert rows for the fleet", [_row(table, "0") for table in WRITTEN], weak=WIDE)
several(
    "update rows of B",
    [
        "UPDATE users SET first_name = 'x' WHERE bot_id = {b}",
        "UPDATE conversations SET closed_at = now() WHERE bot_id = {b}",
        "UPDATE conversations SET chat_id = 9 WHERE bot_id = {b}",
        "UPDATE chat_states SET moved_to = 9 WHERE bot_id = {b}",
        "UPDATE jobs SET due_at = now() WHERE bot_id = {b}",
        "UPDATE messages SET telegram_message_id = 1 WHERE bot_id = {b}",
        "UPDATE inbox SET state = 'dead' WHERE bot_id = {b}",
        "UPDATE kept_data SET value = 'x' WHERE bot_id = {b}",
        "UPDATE sends SET state = 'sent' WHERE bot_id = {b}",
        "UPDATE outbox SET relayed_at = now() WHERE bot_id = {b}",
        "UPDATE once_keys SET state = 'free' WHERE bot_id = {b}",
        "UPDATE requests SET state = 'void' WHERE bot_id = {b}",
    ],
    NO_ROW,
    weak=WIDE,
)
several("delete rows, of B or its own", [f"DELETE FROM {t} WHERE bot_id = {{b}}" for t in TABLES], weak=ALL_RIGHTS)
several(
    "give rows of its own to B (change bot_id)",
    [f"UPDATE {t} SET bot_id = {{b}}" for t in TABLES],
    weak=(*ALL_RIGHTS, *WIDE),
)
several(
    "TRUNCATE any table", [f"TRUNCATE {t} CASCADE" for t in (*TABLES, *CLOSED)], weak="GRANT TRUNCATE ON outbox TO bots"
)
several(
    "write what it may only read",
    [
        "UPDATE bots SET config = '{{}}'",
        "UPDATE messages SET text = 'x'",
        "INSERT INTO bots (bot_id, name) VALUES (1, 'x')",
        "INSERT INTO bot_runs (bot_id, incarnation) VALUES ({a}, 2)",
        "INSERT INTO bot_keys SELECT * FROM bot_keys",
    ],
    weak="GRANT UPDATE (text) ON messages TO bots",
)
statement(
    "insert a row of B by ON CONFLICT, updating the one that is there",
    "INSERT INTO users (bot_id, user_id) VALUES ({b}, 71020003) ON CONFLICT (bot_id, user_id)"
    " DO UPDATE SET first_name = users.first_name RETURNING first_name",
    weak=OPEN_WIDE.format("users"),
)


async def _words(ground: Ground, sql: str) -> str:
    """The error's every word, numbers apart."""
    import asyncpg

    try:
        return await run(ground, sql)
    except asyncpg.PostgresError as error:
        return f"{error.sqlstate} {error.as_dict()}".replace("71020003", "N").replace("71020004", "N")


@declare(
    "find out by a duplicate key whether B has a row",
    "tells nothing",
    weak="DROP POLICY tenant ON users; CREATE POLICY tenant ON users USING (bot_id = botctl_bot_id())"
    " WITH CHECK (true)",
)
async def duplicate_oracle(ground: Ground) -> str:
    known, unknown = [
        [
            await _words(ground, f"INSERT INTO users (bot_id, user_id) VALUES ({{b}}, {key}) {rest}")
            for rest in ("", "ON CONFLICT DO NOTHING", "ON CONFLICT (bot_id, user_id) DO UPDATE SET first_name = 'x'")
        ]
        for key in ("71020003", "71020004")
    ]
    own = await run(
        ground, "INSERT INTO users (bot_id, user_id) VALUES ({a}, 71020003) ON CONFLICT DO NOTHING RETURNING 1"
    )
    return "tells nothing" if known == unknown and own in ("1 rows", NO_ROW) else f"{known} {unknown} {own}"


@declare(
    "find out by a foreign key whether B has a conversation",
    "tells nothing",
    weak="CREATE UNIQUE INDEX c ON botctl_internal.conversations_00 (bot_id, conversation_id, chat_id);"
    "ALTER TABLE messages DROP CONSTRAINT messages_bot_id_conversation_id_fkey",
)
async def foreign_key_oracle(ground: Ground) -> str:
    ends = []
    for number in (f"(SELECT {ground.conversation})", "71020003"):
        ends.append(
            await _words(
                ground,
                f"INSERT INTO messages (bot_id, conversation_id, chat_id, direction, role, cause)"
                f" VALUES ({{a}}, {number}, 1, 'in', 'user', 'x{number[0]}')",
            )
        )
    same = ends[0].replace(f", {ground.conversation})", ", N)") == ends[1]
    return "tells nothing" if same and ends[0].startswith("23503") else str(ends)


@declare(
    "find out by EXPLAIN's estimates which ids and names B's users have",
    "tells nothing",
    weak=(
        "ALTER TABLE users ALTER user_id SET STATISTICS 100, ALTER username SET STATISTICS 100,"
        "ALTER bot_id SET STATISTICS 100; ANALYZE users"
    ),
)
async def estimates(ground: Ground) -> str:
    told = set()
    for column, values in {
        "user_id": ("71020003", "71022000", "71026000"),
        "username": ("'a'", "'words of the victim 5'", "'z'"),
        "first_seen_at": ("'2000-01-01'", "now()", "'3000-01-01'"),
    }.items():
        estimated = set()
        for value in values:
            plan = await ground.me.fetch(
                f"EXPLAIN SELECT * FROM users WHERE bot_id = {ground.b} AND {column} < {value}"
            )
            estimated.add(str(plan).split("rows=")[1].split()[0])
        told |= {column} if len(estimated) > 1 else set()
    return f"tells of {sorted(told)}" if told else "tells nothing"


several(
    "read the planner's statistics of any row",
    [
        "SELECT * FROM pg_stats WHERE schemaname !~ '^(pg_c|info)' AND tablename <> 'alembic_version'",
        "SELECT * FROM pg_stats_ext",
        "SELECT * FROM pg_stats_ext_exprs",
    ],
    NO_ROW,
    weak="ALTER TABLE users DISABLE ROW LEVEL SECURITY;"
    "ALTER TABLE botctl_internal.users_15 DISABLE ROW LEVEL SECURITY;"
    "GRANT USAGE ON SCHEMA botctl_internal TO bots; GRANT SELECT ON ALL TABLES IN SCHEMA botctl_internal TO bots;"
    "ALTER TABLE users ALTER username SET STATISTICS 100; ANALYZE users",
)
several(
    "read the catalogues that hold passwords, statistics' values and other secrets",
    [
        f"SELECT * FROM {t}"
        for t in (
            "pg_authid",
            "pg_shadow",
            "pg_statistic",
            "pg_statistic_ext_data",
            "pg_user_mapping",
            "pg_subscription",
            "pg_largeobject",
            "pg_hba_file_rules",
            "pg_file_settings",
            "pg_ident_file_mappings",
            "pg_backend_memory_contexts",
            "pg_shmem_allocations",
        )
    ],
    weak="GRANT SELECT ON pg_authid TO bots",
)


@declare("read B's rows by COPY", NO_ROW, weak=OPEN_WIDE.format("messages"))
async def copy(ground: Ground) -> str:
    copied: list[bytes] = []

    async def keep(data: bytes) -> None:
        copied.append(data)

    await ground.me.copy_from_query(f"SELECT * FROM messages WHERE bot_id <> {ground.a}", output=keep)
    await ground.me.copy_from_query("TABLE messages", output=keep)
    return "words of B" if MARK.encode() in b"".join(copied) else NO_ROW


several(
    "write B's rows by COPY",
    ["COPY users FROM STDIN", "COPY outbox (bot_id, event_id, type) FROM STDIN"],
    "refused (0A000)",
)
