"""Commits that are stopped at the moment when they would become true: deferred triggers that wait for a lock.

They are the superuser's, in a schema of their own; what a bot does is not changed, only when it is through.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import asyncpg

_SQL = """
CREATE SCHEMA chaos;
CREATE TABLE chaos.stops (chat_id bigint PRIMARY KEY, point text NOT NULL, n int NOT NULL);
CREATE FUNCTION chaos.stop() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog SET lock_timeout = 0 AS $$
DECLARE
    chat bigint;
    here text;
BEGIN
    IF TG_ARGV[0] = 'inbox' THEN
        IF NEW.state <> 'done' OR OLD.state = 'done' THEN RETURN NULL; END IF;
        chat := substring(NEW.lane FROM '^chat:(\\d+)$')::bigint;
        PERFORM FROM chaos.stops WHERE chat_id = chat AND point = 'done';
    ELSE
        here := CASE WHEN TG_OP = 'INSERT' THEN 'plan' WHEN NEW.state = 'sent' AND OLD.state <> 'sent' THEN 'sent' END;
        chat := NEW.chat_id;
        PERFORM FROM chaos.stops WHERE chat_id = chat AND point = here AND n = NEW.n;
    END IF;
    IF FOUND THEN PERFORM pg_advisory_xact_lock_shared(chat); END IF;
    RETURN NULL;
END $$;
"""
_TRIGGER = """
CREATE CONSTRAINT TRIGGER chaos_stop AFTER INSERT OR UPDATE ON {table}
DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION chaos.stop('{kind}')
"""
_PARTITIONS = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = $1::text::regclass"
_WAITING = """
SELECT (classid::bigint << 32) | objid::bigint FROM pg_locks
WHERE locktype = 'advisory' AND objsubid = 1 AND NOT granted
"""


class Stops:
    """One connection of the superuser, which has all the locks. A stop is named by its chat."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection
        self._alone = asyncio.Lock()

    async def install(self) -> None:
        """Put the triggers on the journal and the inbox. Once for a database."""
        async with self._connection.transaction():
            await self._connection.execute(_SQL)
            for table in ("sends", "inbox"):
                for partition in await self._connection.fetch(_PARTITIONS, table):
                    await self._connection.execute(_TRIGGER.format(table=partition[0], kind=table))

    async def arm(self, chat: int, point: str, n: int) -> None:
        """Stop the commit of `plan` or `sent` of part n, or of the update's `done`."""
        async with self._alone:
            await self._connection.execute("SELECT pg_advisory_lock($1)", chat)
            await self._connection.execute("INSERT INTO chaos.stops VALUES ($1, $2, $3)", chat, point, n)

    async def stopped(self) -> set[int]:
        """Chats whose commits wait now."""
        async with self._alone:
            return {row[0] for row in await self._connection.fetch(_WAITING)}

    async def disarm(self, chats: Iterable[int]) -> None:
        """Nobody is stopped there any more; who is, stays so."""
        async with self._alone:
            await self._connection.execute("DELETE FROM chaos.stops WHERE chat_id = ANY($1::bigint[])", list(chats))

    async def let_go(self, chats: Iterable[int]) -> None:
        """Let those go on who still wait."""
        async with self._alone:
            for chat in chats:
                await self._connection.execute("SELECT pg_advisory_unlock($1)", chat)
