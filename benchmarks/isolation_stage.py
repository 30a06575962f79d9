"""The tables that `isolation.py` compares: the product's own, and copies of them without what is to be measured.

`bench.*` are of the same shape: columns, defaults, checks, partitions, keys and indexes. Those of bots' rows have no
row level security, and a login that owns nothing and may read and write all of them. `bench.bots` has row level
security and no audit triggers. Everything is filled before anything is measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from botctl.handover import DatabaseLogin
from botctl.security.vault import Cipher, DataKey
from botctl.storage import scram
from botctl.storage.bootstrap import prepare
from botctl.storage.conversations import Conversations, StoredMessage
from botctl.storage.engine import bot_engine, connect, login_engine, parse_database_url
from botctl.storage.logins import ensure_login
from botctl.storage.sealing import Sealing

BOT = 1001
PLAIN = "bench_plain"
TEXT = "Could you tell me whether the red bicycle with eight gears is still there, and what it costs? " * 2
PER_CONVERSATION = 100
OWN = 10
"""Conversations of the measured bot, of each kind, with as many messages as others have in one."""
OPENED = "sealed, after a start"
"""As sealed, but nothing is remembered: each message that is read has to be opened."""

_COPIES = """
    CREATE SCHEMA bench;
    DO $$
    DECLARE
        copied text;
    BEGIN
        FOREACH copied IN ARRAY ARRAY['users', 'conversations', 'messages', 'bots'] LOOP
            EXECUTE format('CREATE TABLE bench.%1$I (LIKE public.%1$I INCLUDING ALL) PARTITION BY HASH (bot_id)',
                           copied);
            FOR remainder IN 0..15 LOOP
                EXECUTE format('CREATE TABLE bench.%I PARTITION OF bench.%I FOR VALUES WITH (MODULUS 16, REMAINDER %s)',
                               copied || '_' || to_char(remainder, 'FM00'), copied, remainder);
            END LOOP;
        END LOOP;
    END
    $$;
    ALTER TABLE bench.messages ADD FOREIGN KEY (bot_id, conversation_id)
        REFERENCES bench.conversations (bot_id, conversation_id);
    ALTER TABLE bench.bots ENABLE ROW LEVEL SECURITY;
    ALTER TABLE bench.bots FORCE ROW LEVEL SECURITY;
    CREATE POLICY control ON bench.bots TO botctl_control USING (true) WITH CHECK (true);
    CREATE POLICY tenant ON bench.bots TO PUBLIC USING (bot_id = public.botctl_bot_id());
    GRANT USAGE ON SCHEMA bench TO botctl_control;
    GRANT SELECT, INSERT, UPDATE ON bench.bots TO botctl_control;
    CREATE ROLE bench_plain LOGIN;
    GRANT USAGE ON SCHEMA bench TO bench_plain;
    GRANT SELECT, INSERT ON bench.users, bench.conversations, bench.messages TO bench_plain;
    ALTER ROLE bench_plain SET search_path = bench;
    ALTER ROLE bench_plain SET plan_cache_mode = force_generic_plan;
    ALTER ROLE bench_plain SET jit = off"""

# Rows of other bots, so that indexes have the depth of a fleet that has been in use. Bots' ids begin at 10000.
_OTHERS = """
    INSERT INTO public.conversations (bot_id, conversation_id, chat_id)
    OVERRIDING SYSTEM VALUE
    SELECT 9999 + bot, bot * 1000000 + n, n FROM generate_series(1, $1::int) bot, generate_series(1, $2::int) n"""
_OTHERS_MESSAGES = """
    INSERT INTO public.messages (bot_id, conversation_id, chat_id, direction, role, text, cause)
    SELECT bot_id, conversation_id, chat_id, 'in', 'user', $1::text || n, 'update:' || conversation_id || '/' || n
    FROM public.conversations, generate_series(1, $2::int) n WHERE bot_id <> $3"""


@dataclass
class Way:
    """One way of keeping messages; `conversations` are those of the measured bot, filled."""

    engine: AsyncEngine
    store: Conversations
    chosen: list[int]


@dataclass
class Stage:
    """`ways` by name. `control` and `unaudited` are control's engine, the latter with `bench.bots` for `bots`."""

    ways: dict[str, Way]
    control: AsyncEngine
    unaudited: AsyncEngine
    cipher: Cipher
    triggers: dict[str, int]
    """Audit triggers by table."""

    async def close(self) -> None:
        """End all connections."""
        for engine in {way.engine for way in self.ways.values()} | {self.control, self.unaudited}:
            await engine.dispose()


async def set_up(admin_url: str, bots: int, messages: int) -> Stage:
    """A migrated database with `messages` messages of each of `bots` bots, and the measured bot's besides."""
    prepared = (await prepare(admin_url)).control
    admin: Any = await connect(parse_database_url(admin_url))
    password = scram.new_password()
    try:
        await admin.execute(_COPIES)
        await admin.execute(f"ALTER ROLE {PLAIN} PASSWORD '{scram.random_verifier(password)}'")
        await admin.execute("SET session_replication_role = replica")  # rows that fit anyway need no check of keys
        await admin.execute(_OTHERS, bots, messages // PER_CONVERSATION)
        await admin.execute(_OTHERS_MESSAGES, TEXT, PER_CONVERSATION, BOT)
        await admin.execute("SET session_replication_role = origin")
        for table in ("conversations", "messages"):
            await admin.execute(f"INSERT INTO bench.{table} OVERRIDING SYSTEM VALUE SELECT * FROM public.{table}")
            await admin.execute(f"SELECT setval(pg_get_serial_sequence('bench.{table}', attname), 1000000000)"
                                " FROM pg_attribute WHERE attidentity <> '' AND attrelid = $1::text::regclass",
                                f"bench.{table}")  # fmt: skip
        stage = await _stage(prepared, password)
        await admin.execute("VACUUM ANALYZE")
        await admin.execute("CHECKPOINT")
        rows = await admin.fetch(
            "SELECT c.relname, count(*) FILTER (WHERE t.tgfoid = 'botctl_internal.audit_change'::regproc)"
            " FROM pg_class c LEFT JOIN pg_trigger t ON t.tgrelid = c.oid WHERE c.relnamespace = 'public'::regnamespace"
            " AND c.relkind = 'p' GROUP BY 1 ORDER BY 1"
        )
        stage.triggers = {row[0]: row[1] for row in rows}
    finally:
        await admin.close()
    return stage


async def _stage(prepared: DatabaseLogin, plain_password: str) -> Stage:
    control, unaudited = login_engine(prepared), login_engine(prepared)
    password = scram.new_password()
    async with control.begin() as connection:
        await ensure_login(connection, BOT, password)
    cipher = Cipher(BOT, [DataKey.new(BOT, 1)])
    own = bot_engine(prepared.target, BOT, lambda: (password,), pool_size=3)
    plain = login_engine(DatabaseLogin(target=prepared.target, user=PLAIN, password=plain_password))
    sealing = Sealing(cipher, seals=True)
    ways = {
        "no RLS": Way(plain, Conversations(BOT), []),
        "RLS and own role": Way(own, Conversations(BOT), []),
        "sealed": Way(own, Conversations(BOT, sealing), []),
        OPENED: Way(own, Conversations(BOT, sealing), []),
    }
    for number, way in enumerate(ways.values()):
        async with way.engine.begin() as connection:
            for n in range(OWN):
                conversation, _ = await way.store.open(connection, 1000 * number + n + 1, 0)
                way.chosen.append(conversation)
                lines = [message(conversation, f"{number}:{n}:{line}") for line in range(PER_CONVERSATION)]
                await way.store.add(connection, lines)
    return Stage(ways, control, unaudited, cipher, {})


def message(conversation: int, cause: str) -> StoredMessage:
    """A message of a user."""
    return StoredMessage(conversation, 7, 0, "in", "user", TEXT, cause)
