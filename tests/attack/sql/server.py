"""Attacks on the server: its functions and views, files, memory, disk, time, connections, what it tells of others."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import timedelta

import asyncpg

from attack.sql.ground import MARK, NO_ROW, NOTHING, Ground, declare, run, several, statement
from attack.sql.rights import others_work
from botctl.control.defence.hog_feed import HogFeed
from botctl.control.defence.socket_owners import socket_counts
from botctl.control.ports import BotSight, FleetSight
from botctl.control.watching.database_watch import DatabaseWatch
from botctl.security.threat.detection import Detector
from botctl.storage.engine import login_engine

SHORT = timedelta(seconds=1)
HOGGED = 60
NOT_ZERO = 1
"""In the place of root's uid, which no bot has."""


async def watched(ground: Ground, is_over: Callable[[], Awaitable[bool]], limit: float = 10.0) -> bool:
    """Whether the watchdog of `control`, with a limit of one second, brings it about."""
    engine = login_engine(ground.control)
    try:
        watch = DatabaseWatch(engine, longest=SHORT)
        deadline = time.monotonic() + limit
        while time.monotonic() < deadline:
            await watch.check(tidy=False, blindly=True)
            if await is_over():
                return True
            await asyncio.sleep(0.1)
        return False
    finally:
        await engine.dispose()


several(
    "read, list or write files of the server",
    [
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT pg_read_binary_file('/etc/passwd')",
        "SELECT pg_ls_dir('/')",
        "SELECT pg_stat_file('/etc/passwd')",
        "SELECT * FROM pg_ls_logdir()",
        "SELECT * FROM pg_ls_waldir()",
        "SELECT * FROM pg_ls_tmpdir()",
        "SELECT pg_current_logfile()",
        "SELECT lo_import('/etc/passwd')",
        "SELECT lo_export(1, '/tmp/x')",
        "COPY messages TO '/tmp/x'",
        "COPY users FROM '/etc/passwd'",
        "COPY messages TO PROGRAM 'cat'",
        "COPY users FROM PROGRAM 'id'",
        "COPY (SELECT 1) TO PROGRAM 'id'",
        "LOAD 'auto_explain'",
        "SHOW data_directory",
        "SHOW hba_file",
        "SELECT pg_config() FROM pg_config()",
    ],
    weak="GRANT pg_execute_server_program, pg_read_server_files TO bots",
)
several(
    "command the server: reload, rotate, checkpoint, reset, replicate, restore statistics",
    [
        "SELECT pg_reload_conf()",
        "SELECT pg_rotate_logfile()",
        "SELECT pg_switch_wal()",
        "SELECT pg_promote()",
        "SELECT pg_create_restore_point('x')",
        "SELECT pg_backup_start('x')",
        "SELECT pg_wal_replay_pause()",
        "SELECT pg_stat_reset()",
        "SELECT pg_stat_reset_shared('wal')",
        "SELECT pg_replication_origin_create('x')",
        "SELECT pg_create_physical_replication_slot('x')",
        "SELECT pg_create_logical_replication_slot('x', 'pgoutput')",
        "SELECT pg_drop_replication_slot('x')",
        "SELECT pg_log_backend_memory_contexts(1)",
        "CHECKPOINT",
        "SELECT pg_import_system_collations('public')",
        "SELECT pg_nextoid('pg_class', 'oid', 'pg_class_oid_index')",
    ],
    weak="GRANT EXECUTE ON FUNCTION pg_reload_conf() TO bots",
)


@declare("end or cancel another's session", weak="GRANT pg_signal_backend TO bots")
async def signal_others(ground: Ground) -> str:
    bob = await ground.open(ground.bob)
    control = await ground.open(ground.control)
    pids = [connection.get_server_pid() for connection in (bob, control)]
    return await ground.each(f"SELECT pg_{verb}_backend({pid})" for pid in pids for verb in ("cancel", "terminate"))


@declare(
    "large objects: every function",
    weak="GRANT EXECUTE ON FUNCTION lo_create(oid) TO bots",
    managed="succeeds; its own objects, without a quota",
)
async def large_objects(ground: Ground) -> str:
    return await ground.each(
        [
            "SELECT lo_create(0)",
            "SELECT lo_from_bytea(0, 'x')",
            "SELECT lo_put(1, 0, 'x')",
            "SELECT lo_open(1, 131072)",
            "SELECT lo_get(1)",
            "SELECT lo_unlink(1)",
            "SELECT lo_creat(1)",
            "SELECT loread(0, 1)",
            "SELECT lowrite(0, 'x')",
            "SELECT * FROM pg_largeobject",
        ]
    )


@declare(
    "advisory locks: every function but the one that gives up all",
    weak="GRANT EXECUTE ON FUNCTION pg_try_advisory_lock(bigint) TO bots",
    managed="succeeds; it can hold up migrations and changes of logins while it is connected",
)
async def advisory(ground: Ground) -> str:
    found = await ground.me.fetch(
        "SELECT proname, pronargs FROM pg_proc WHERE proname ~ 'advisory' AND proname <> 'pg_advisory_unlock_all'"
    )
    assert len(found) > 15
    return await ground.each(f"SELECT {r[0]}({', '.join(['1'] * r[1])})" for r in found)


several(
    "write to the write-ahead log without a row",
    [
        "SELECT pg_logical_emit_message(false, 'x', repeat('x', 100000))",
    ],
    weak="DO $$ BEGIN EXECUTE (SELECT string_agg('GRANT EXECUTE ON FUNCTION ' || oid::regprocedure || ' TO bots', ';')"
    " FROM pg_proc WHERE proname = 'pg_logical_emit_message'); END $$",
    managed="succeeds; without a quota",
)


@declare(
    "read all views and catalogues for words of B",
    NO_ROW,
    weak="CREATE VIEW public.all_of_it AS SELECT * FROM messages;GRANT SELECT ON all_of_it TO bots",
)
async def views(ground: Ground) -> str:
    bob = await ground.open(ground.bob)
    await bob.fetch(f"SELECT 'in a query: {MARK}', * FROM messages")
    found = await ground.names(
        "SELECT c.oid::regclass FROM pg_class c WHERE relkind IN ('v', 'm', 'r', 'f')"
        " AND has_table_privilege(c.oid, 'SELECT')"
    )
    assert len(found) > 100
    for name in found:
        end = await ground.outcome(lambda g, name=name: run(g, f"SELECT * FROM {name}"))
        if end == "words of B":
            return f"{name} shows words of B"
    return NO_ROW


@declare("call every function without arguments for words of B", NO_ROW)
async def functions(ground: Ground) -> str:
    found = await ground.names(
        "SELECT oid::regproc FROM pg_proc WHERE pronargs = 0 AND prokind = 'f' AND prorettype NOT IN"
        " ('trigger'::regtype, 'event_trigger'::regtype) AND has_function_privilege(oid, 'EXECUTE')"
    )
    assert len(found) > 80
    for name in found:
        end = await ground.outcome(lambda g, name=name: run(g, f"SELECT * FROM {name}()"))
        if end == "words of B":
            return f"{name} shows words of B"
    return NO_ROW


several(
    "execute functions of control and of the administrator",
    [
        "SELECT botctl_admin.ensure_bot({a}, 100)",
        "SELECT botctl_admin.set_bot_password({b}, 'x')",
        "SELECT botctl_admin.drop_bot({b})",
        "SELECT botctl_admin.terminate_bot({b})",
        "SELECT botctl_admin.harden()",
        "SELECT botctl_admin.suspend_bot({b})",
        "SELECT botctl_internal.ensure_audit_partitions(1)",
        "SELECT botctl_internal.prune_runs(1, 1)",
    ],
    weak="GRANT USAGE ON SCHEMA botctl_admin TO bots; GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA botctl_admin TO bots",
)


@declare(
    "find a function of ours that is on no list",
    NOTHING,
    weak="CREATE FUNCTION public.helps() RETURNS int LANGUAGE sql RETURN 1",
)
async def our_functions(ground: Ground) -> str:
    found = set(
        await ground.names(
            "SELECT oid::regprocedure FROM pg_proc WHERE pronamespace NOT IN ('pg_catalog'::regnamespace,"
            " 'information_schema'::regnamespace) AND has_function_privilege(oid, 'EXECUTE')"
        )
    )
    return NOTHING if found == {"botctl_bot_id()", "botctl_end_my_others()"} else str(found)


@declare("read what other sessions are doing", NO_ROW, weak="GRANT pg_read_all_stats TO bots")
async def activity(ground: Ground) -> str:
    bob = await ground.open(ground.bob)
    await bob.fetch(f"SELECT '{MARK}'")
    return await run(
        ground,
        "SELECT query FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
        " AND query NOT IN ('', '<insufficient privilege>')",
    )


statement(
    "read sequences as counters of what others write",
    "SELECT last_value FROM pg_sequences WHERE last_value IS NOT NULL",
    NO_ROW,
    weak="GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO bots",
)
several(
    "move or read a sequence",
    [
        "SELECT nextval('messages_message_id_seq')",
        "SELECT setval('messages_message_id_seq', 1)",
        "SELECT * FROM messages_message_id_seq",
    ],
    weak="GRANT ALL ON SEQUENCE messages_message_id_seq TO bots",
)


@declare(
    "count what the fleet writes by the numbers its own rows get, by sizes of tables and of the log",
    "succeeds; numbers of all bots together or of a partition, no content",
)
async def counters(ground: Ground) -> str:
    sizes = await ground.me.fetch("SELECT pg_relation_size(oid), reltuples FROM pg_class WHERE relispartition")
    return "succeeds" if len(sizes) > 160 else "hidden"


@declare(
    "learn which bots there are (pg_roles, pg_stat_activity)",
    "succeeds; ids, names of applications, and who is connected",
)
async def roster(ground: Ground) -> str:
    return "succeeds" if ground.bob.user in await ground.names("SELECT rolname FROM pg_roles") else "hidden"


@declare("NOTIFY and LISTEN: talk to another bot", "succeeds; both must want it, and nobody of botctl listens")
async def notify(ground: Ground) -> str:
    heard: list[str] = []
    bob = await ground.open(ground.bob)
    await bob.add_listener("x", lambda *words: heard.append(str(words[-1])))
    await ground.me.execute("NOTIFY x, 'hello'")
    deadline = time.monotonic() + 5
    while not heard and time.monotonic() < deadline:
        await bob.fetchval("SELECT 1")
    return "succeeds" if heard else "refused"


@declare("a statement without an end", "ended; 62 s after it began, at the latest")
async def endless(ground: Ground) -> str:
    await ground.me.execute("SET statement_timeout = 0")
    task = asyncio.ensure_future(ground.me.execute("SELECT count(*) FROM generate_series(1, 1000000000000)"))

    async def is_over() -> bool:
        return task.done()

    over = await watched(ground, is_over)
    await asyncio.gather(task, return_exceptions=True) if over else task.cancel()
    return "ended" if over else "runs on"


@declare("an open transaction that does nothing", "ended; 62 s after it began, at the latest")
async def idle(ground: Ground) -> str:
    await ground.me.execute("SET idle_in_transaction_session_timeout = 0")
    await ground.me.execute("BEGIN")
    await ground.me.execute("SELECT * FROM messages FOR UPDATE")

    async def is_over() -> bool:
        return ground.me.is_closed()

    return "ended" if await watched(ground, is_over) else "stays open"


@declare(
    "keep rows in a cursor WITH HOLD, beyond its transaction", NO_ROW, weak="CREATE POLICY w ON messages USING (true)"
)
async def cursor_with_hold(ground: Ground) -> str:
    async with ground.me.transaction():
        await ground.me.execute(f"DECLARE kept CURSOR WITH HOLD FOR SELECT * FROM messages WHERE bot_id <> {ground.a}")
    return await run(ground, "FETCH ALL FROM kept")


@declare("prepare a transaction that outlives its session (PREPARE TRANSACTION)", "refused (55000)")
async def prepared(ground: Ground) -> str:
    await ground.me.execute("BEGIN")
    await ground.me.execute("INSERT INTO users (bot_id, user_id) VALUES (7101, 9)")
    await ground.me.execute("PREPARE TRANSACTION 'mine'")
    return "prepared"


@declare("a query that eats memory", "refused (53200); others go on (a limit of the embedded server)")
async def memory(ground: Ground) -> str:
    await ground.me.execute("SET work_mem = '1GB'; SET statement_timeout = 0")
    try:
        return await run(
            ground, "SELECT array_length(array_agg(repeat('x', 200000000) || g), 1) FROM generate_series(1, 12) g"
        )
    finally:
        assert await others_work(ground) == NOTHING


@declare(
    "a query that fills the disk with temporary files",
    "refused (53400); 1 GiB a session (a limit of the embedded server)",
)
async def temporary_files(ground: Ground) -> str:
    await ground.me.execute("SET statement_timeout = 0; SET work_mem = '64kB'; SET enable_hashagg = off")
    return await run(
        ground,
        "SELECT count(*) FROM (SELECT md5(g::text) || repeat('x', 1000) AS t FROM generate_series(1, 1300000) g"
        " ORDER BY 1 OFFSET 0) q",
    )


@declare(
    "fill the disk, and the write-ahead log, with rows of its own",
    "succeeds; PostgreSQL has no quota",
)
async def own_rows(ground: Ground) -> str:
    end = await run(
        ground,
        "INSERT INTO outbox (bot_id, event_id, type, data) SELECT {a}, 'flood' || g, 'x', '{{}}'"
        " FROM generate_series(1, 1000) g",
    )
    return "succeeds" if end == "1000 rows changed" else end


@declare("take every connection of the server", "refused (53300); 6 a bot, others get in")
async def connections(ground: Ground) -> str:
    try:
        for _ in range(20):
            await ground.open(ground.alice)
    except asyncpg.TooManyConnectionsError:
        assert await others_work(ground) == NOTHING
        raise
    return "20 connections"


@declare(
    "take every connection of the server, never logging in",
    "quarantine; within 3 s, from a uid of its own (embedded server); else others wait for as long as it goes on",
    managed="succeeds; for as long as it goes on: connections to another server are not counted",
)
async def unauthenticated(ground: Ground) -> str:
    """This process is the bot, by its uid. The slots are freed when its process is killed, as a quarantine does."""
    address = ground.alice.target.host, ground.alice.target.port
    held = [socket.create_connection(address, 5.0) for _ in range(HOGGED)]
    try:
        words = f"user\0{ground.alice.user}\0database\0{ground.alice.target.database}\0\0".encode()
        for one in held:
            one.sendall(struct.pack(">ii", len(words) + 8, 196608) + words)
        bot = BotSight(name="alice", bot_id=ground.a, state="running", pid=os.getpid(), uid=os.geteuid() or NOT_ZERO)
        sight = FleetSight(pid=1, state="running", started_at=0.0, generation=1, bots=(bot,))
        feed, detector = HogFeed(), Detector()
        for at in (1.0, 2.0):
            counts = socket_counts(address[1])
            counts = Counter({uid or NOT_ZERO: count for uid, count in counts.items()})
            seen = feed.read(counts, sight, at) if feed.suspicious(counts) else []
            for verdict in detector.tick(seen, at):
                return verdict.level.name.lower()
        return f"{HOGGED} connections"
    finally:
        for one in held:
            one.close()


@declare(
    "change its own password", "put back; within 2 s, and told", managed="put back; within 5 minutes, and not told"
)
async def own_password(ground: Ground) -> str:
    await ground.me.execute("ALTER ROLE bot_7101 PASSWORD 'mine'")
    return await _put_back(ground)


@declare("change its own settings for the sessions to come", "put back; within 2 s, and told")
async def own_settings(ground: Ground) -> str:
    await ground.me.execute("ALTER ROLE bot_7101 SET default_transaction_read_only = on")
    return await _put_back(ground)


async def _put_back(ground: Ground) -> str:
    async def is_over() -> bool:
        try:
            fresh = await ground.open(ground.alice)
        except asyncpg.InvalidPasswordError:
            return False
        return bool(await fresh.fetchval("SHOW default_transaction_read_only") == "off")

    assert not await is_over()
    return "put back" if await watched(ground, is_over) else "stays"
