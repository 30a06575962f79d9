"""What must hold when everything is over: nothing lost, doubles counted, order kept, events once, nothing dead."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import AsyncIterator

from chaos.kills.doubles import Excuse, Excuses, Row, doubles, excuses
from chaos.kills.load import SORRY, Load
from chaos.kills.messages import Kind, disorder
from chaos.watch import Watch
from support.stack import Stack

_METRIC = re.compile(r'^botctl_sends_uncertain_total\{bot="([^"]+)"\} (\S+)$', re.MULTILINE)
_ROWS = """
SELECT bot_id, cause, n, chat_id, payload->>'text' AS text, uncertain,
       CASE WHEN jsonb_typeof(result) = 'object' THEN (result->>'message_id')::bigint END AS message_id
FROM sends WHERE payload ? 'text' AND ($1::text IS NULL OR payload->>'text' = $1)
"""
_LEFT = """
SELECT 'inbox: ' || state AS what, count(*) FROM inbox WHERE state <> 'done' GROUP BY 1
UNION ALL SELECT 'sends: ' || state, count(*) FROM sends WHERE state NOT IN ('sent') GROUP BY 1
UNION ALL SELECT 'outbox: waiting', count(*) FROM outbox WHERE relayed_at IS NULL HAVING count(*) > 0
"""
_STORY = """
SELECT 'inbox ' || cause || ' is ' || state || ', attempts ' || attempts || coalesce(', ' || last_error, '') AS line
FROM inbox WHERE bot_id = $1 AND (cause = $2 OR payload::text LIKE $3)
UNION ALL
SELECT 'send ' || cause || ' ' || n || ' ' || method || ' (' || mode || ') is ' || state || ', attempts ' || attempts
       || ', uncertain ' || uncertain || coalesce(', ' || error, '')
FROM sends WHERE bot_id = $1 AND (cause = $2 OR payload->>'text' LIKE $3)
"""
STORIES = 5

STALLED = 90.0
"""Seconds without any change after which what isn't over will never be."""
PEACE_WITHIN = 900.0

_EVENTS = "SELECT payload->'data'->>'mark' AS mark FROM inbox WHERE kind = 'event' AND payload->>'type' LIKE 'load.%'"


class Verdict:
    """`names` and `ids` of the bots by index."""

    def __init__(self, stack: Stack, watch: Watch, load: Load, names: list[str], ids: list[int]) -> None:
        self.uncertain: dict[int, int] = {}
        """By index: what the database has counted."""
        self.excuses = Excuses({}, Counter(), [])
        self._stack = stack
        self._watch = watch
        self._load = load
        self._names = names
        self._ids = ids

    async def unfinished(self) -> list[str]:
        """What isn't over yet; empty when all is at rest."""
        body = await self._watch.get("/v1/status")
        if body is None:
            return ["control does not answer"]
        wrong = [
            f"{bot['name']} is {bot['state']}: {bot['reason']}" for bot in body["bots"] if bot["state"] != "running"
        ]
        if wrong:
            return wrong
        await self._link_excuses()
        if waiting := self._load.waiting():
            first = waiting[0]
            wrong.append(
                f"{len(waiting)} messages have no answer; the first is {first.mark} ({first.kind.value[0]}) to "
                f"{self._names[first.bot]}, chat {first.chat}, update {first.update_id}"
            )
        rows = await self._stack.rows(_LEFT)
        return wrong + [f"{row['what']}: {row['count']}" for row in rows]

    async def peace(self) -> list[str]:
        """Wait until all is at rest; what is not, when nothing changes any more."""
        began = since = time.monotonic()
        before: list[str] = []
        while wrong := await self.unfinished():
            now = time.monotonic()
            if wrong != before:
                before, since = wrong, now
            elif now - since > STALLED or now - began > PEACE_WITHIN:
                return wrong + await self._stories()
            await asyncio.sleep(0.5)
        return []

    async def _stories(self) -> list[str]:
        """What stands in the database of the first messages without an answer."""
        found = []
        for one in self._load.waiting()[:STORIES]:
            where = f"{one.mark} ({one.kind.value[0]}) to {self._names[one.bot]}, chat {one.chat}"
            lines = [f"{where}, parts seen: {[len(times) for times in one.seen]}"]
            for bot in dict.fromkeys((one.bot, one.answers_in[0])):
                rows = await self._stack.rows(_STORY, self._ids[bot], f"update:{one.update_id}", f"%{one.mark}%")
                lines += [f"{self._names[bot]}: {row['line'][:200]}" for row in rows]
            found.append("; ".join(lines))
        return found

    async def violations(self) -> AsyncIterator[str]:
        """All that is not as demanded, once nothing changes any more."""
        rows = await self._stack.rows("SELECT bot_id, sum(uncertain)::bigint AS n FROM sends GROUP BY 1")
        by_id = {row["bot_id"]: int(row["n"]) for row in rows}
        self.uncertain = {bot: by_id.get(bot_id, 0) for bot, bot_id in enumerate(self._ids)}
        journal = await self._rows()
        for what in doubles(self._load.messages, journal, self._names):
            yield what
        for what in self._excuses_in([row for row in journal if row.text == SORRY]).wrong:
            yield what
        metric = {name: int(float(value)) for name, value in _METRIC.findall(self._stack.metrics())}
        if {name: metric.get(name, 0) for name in self._names} != dict(
            zip(self._names, self.uncertain.values(), strict=True)
        ):
            yield f"botctl_sends_uncertain_total says {metric}, the database {self.uncertain}"
        for what in disorder(self._load.messages, self._load.order):
            yield what
        for text in self._load.unknown[:10]:
            yield f"an answer to nothing: {text}"
        marks = Counter(row["mark"] for row in await self._stack.rows(_EVENTS))
        passed = [one.mark for one in self._load.messages.values() if one.kind is Kind.PASS]
        if lost := [mark for mark in passed if not marks[mark]]:
            yield f"{len(lost)} events were lost, the first that of {lost[0]}"
        if twice := [mark for mark, number in marks.items() if number > 1]:
            yield f"{len(twice)} events came into an inbox twice, the first that of {twice[0]}"

    async def _link_excuses(self) -> None:
        """Note which messages the assistant has answered with its excuse."""
        self.excuses = self._excuses_in(await self._rows(SORRY))
        for number, at in self.excuses.of.items():
            self._load.messages[number].apology = at

    def _excuses_in(self, rows: list[Row]) -> Excuses:
        seen = [
            Excuse(bot, event.chat_id or 0, event.message_id or 0, event.at) for bot, event in self._load.apologies_of()
        ]
        return excuses(seen, rows, self._load.messages, self._names)

    async def _rows(self, text: str | None = None) -> list[Row]:
        """What was to be sent: all of it, or only what reads so."""
        index = {bot_id: bot for bot, bot_id in enumerate(self._ids)}
        rows = await self._stack.rows(_ROWS, text)
        return [Row(index[bot_id], cause, n, chat, *rest) for bot_id, cause, n, chat, *rest in rows]
