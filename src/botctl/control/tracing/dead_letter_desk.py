"""What the API asks about dead letters, those of the inboxes and those of the bus: list, show, retry, drop.

Each is called `<bot>/<number>`, or `bus/<id>`. A retried one is handled at its place of arrival, before later ones of
its chat that still wait; its journal remains, so that what was sent isn't sent twice.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from botctl.bus.client import AWAY, reason
from botctl.bus.reading.dead_letters import DeadLetter, DeadLetters
from botctl.control.tracing.contents import update_content
from botctl.control.tracing.letters import BUS, GONE, bus_letter_view, is_of_bus, letter_view, number_of, only_one
from botctl.control.tracing.masking import masked
from botctl.control.tracing.room import DeskRoom, while_it_answers
from botctl.control.tracing.tree import attempt_view, send_view
from botctl.control.tracing.views import DeadLetterBody, DeadLettersBody, DeadLettersDone
from botctl.errors import BotctlError, UsageError
from botctl.storage import dead_letters, deliveries, tracing
from botctl.storage.traced import TracedRow

_PAGE = 500
"""Of the bus, so many are read at a time."""


class DeadLetterDesk:
    """`bus` are those of the bus; `wake` has a bot look into its inbox; `changed` is called when there are fewer."""

    def __init__(
        self,
        room: DeskRoom,
        bus: DeadLetters,
        wake: Callable[[int], None],
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._room = room
        self._bus = bus
        self._wake = wake
        self._changed = changed

    @while_it_answers
    async def list(
        self, bot: str | None, since: float | None, kind: str | None, dropped: bool, limit: int
    ) -> DeadLettersBody:
        """The newest first. Raises NoSuchBotError."""
        body = DeadLettersBody()
        async with self._room.view() as connection:
            names = await self._room.names(connection)
            only = None if bot is None else [self._room.find(names, bot)]
            if kind != BUS:
                rows = await dead_letters.listed(
                    connection, bot_ids=only, since=since, kind=kind, dropped=dropped, limit=limit
                )
                opener = self._room.opener(text=False)
                body.letters = [letter_view(row, names, opener(row.bot_id)) for row in rows]
            waiting = await deliveries.dead_letters(connection)
            body.waiting = {names.get(bot_id, str(bot_id)): count for bot_id, count in waiting.items()}
        if kind in (None, BUS) and not dropped:
            try:
                wanted = await self._of_bus(only, since or 0.0, limit)
                if count := await self._bus.count():
                    body.waiting[BUS] = count
            except AWAY as error:
                body.notes.append(f"those of the bus can't be read: {reason(error)}")
                wanted = []
            body.letters += [bus_letter_view(one, names) for one in wanted]
            body.letters.sort(key=lambda one: one.at, reverse=True)
            del body.letters[limit:]
        return body

    @while_it_answers
    async def show(self, letter_id: str, *, text: bool, operator: str) -> DeadLetterBody:
        """One with all that is kept of it. Raises BotctlError when there is none."""
        place, _, number = letter_id.rpartition("/")
        if is_of_bus(letter_id):
            return await self._show_of_bus(number, letter_id, text=text, operator=operator)
        async with self._room.view(text=text) as connection:
            names = await self._room.names(connection)
            bots = [self._room.find(names, place)] if place else list(names)
            row = await _found(connection, bots, letter_id, names)
            attempts = await tracing.attempts_of(connection, row.bot_id, [row.inbox_id])
            sends = await tracing.sends_of(connection, row.bot_id, [row.cause])
        opener = self._room.opener(text=text)(row.bot_id)
        content, _ = update_content(opener, row.kind, row.payload)
        value, _ = opener.json("inbox", "payload", row.payload)
        body = DeadLetterBody(letter=letter_view(row, names, opener), content=content)
        if value is not None:
            body.payload = json.dumps(value if text else masked(value), ensure_ascii=False, indent=2)
        for one in attempts:
            view = attempt_view(one, opener)
            view.traceback = opener.traceback(one.traceback)
            body.history.append(view)
        body.sends = [send_view(one, opener) for one in sends]
        if text:
            self._room.note(
                operator, "read.text", f"dead letter {letter_id}", body.letter.bot, {"texts": opener.opened}
            )
        return body

    @while_it_answers
    async def retry(self, ids: Sequence[str], bot: str | None, *, operator: str) -> DeadLettersDone:
        """Have them handled again: these, or all of a bot. Raises NoSuchBotError, UsageError."""
        return await self._each(ids, bot, "retry", operator)

    @while_it_answers
    async def drop(self, ids: Sequence[str], bot: str | None, *, operator: str) -> DeadLettersDone:
        """Set them aside for good: these, or all of a bot. Those of the bus are deleted. Raises as `retry`."""
        return await self._each(ids, bot, "drop", operator)

    async def _each(self, ids: Sequence[str], bot: str | None, verb: str, operator: str) -> DeadLettersDone:
        done = DeadLettersDone()
        by: dict[int, dict[int, str]] = {}
        async with self._room.view() as connection:
            names = await self._room.names(connection)
            if not ids:
                bot_id = self._room.find(names, bot or "")
                by[bot_id] = {n: f"{names[bot_id]}/{n}" for n in await dead_letters.all_of(connection, bot_id)}
            for letter_id in dict.fromkeys(ids):
                if is_of_bus(letter_id):
                    continue
                place = letter_id.rpartition("/")[0]
                try:
                    where = place or bot
                    bots = [self._room.find(names, where)] if where else list(names)
                    row = await _found(connection, bots, letter_id, names)
                except BotctlError as error:
                    done.left[letter_id] = error.message
                else:
                    by.setdefault(row.bot_id, {})[row.inbox_id] = letter_id
        change = dead_letters.retry if verb == "retry" else dead_letters.drop
        for bot_id, numbers in by.items():
            async with self._room.change() as connection:
                changed = await change(connection, bot_id, list(numbers), f"by {operator or 'an operator'}")
            if verb == "retry" and changed:
                self._wake(bot_id)
            done.done += [numbers[number] for number in changed]
            done.left |= {
                letter_id: "it is no dead letter any more" for n, letter_id in numbers.items() if n not in changed
            }
            if changed:
                self._changed()
                entity = f"inbox of bot {names[bot_id]}"
                self._room.note(operator, f"dead-letter.{verb}", entity, names[bot_id], {"inbox_ids": changed[:1000]})
        for letter_id in dict.fromkeys(ids):
            if is_of_bus(letter_id):
                await self._one_of_bus(letter_id, verb, done, operator)
        return done

    async def _one_of_bus(self, letter_id: str, verb: str, done: DeadLettersDone, operator: str) -> None:
        number = letter_id.rpartition("/")[2]
        try:
            if verb == "retry":
                await self._bus.retry(number)
            elif not await self._bus.drop(number):
                raise UsageError(f"there is no dead letter {letter_id}")
        except BotctlError as error:
            done.left[letter_id] = error.message
        except AWAY as error:
            done.left[letter_id] = f"Redis can't be used: {reason(error)}"
        else:
            done.done.append(letter_id)
            self._room.note(operator, f"dead-letter.{verb}", "bus", None, {"id": number})

    async def _of_bus(self, only: Container[int] | None, since: float, limit: int) -> Sequence[DeadLetter]:
        """The newest so many, `only` those of some bots."""
        found: list[DeadLetter] = []
        after = None
        while True:
            page = await self._bus.list(_PAGE, after)
            found += [one for one in page if one.at >= since and (only is None or one.bot_id in only)]
            if len(found) >= limit or len(page) < _PAGE or page[-1].at < since:
                return found[:limit]
            after = page[-1].id

    async def _show_of_bus(self, number: str, letter_id: str, *, text: bool, operator: str) -> DeadLetterBody:
        try:
            found = await self._bus.show(number)
        except AWAY as error:
            raise BotctlError(f"those of the bus can't be read: {reason(error)}") from error
        if found is None:
            raise BotctlError(f"there is no dead letter {letter_id}", hint=GONE)
        async with self._room.view() as connection:
            names = await self._room.names(connection)
        body = DeadLetterBody(letter=bus_letter_view(found, names))
        written = found.body.decode("utf-8", "replace")
        try:
            value: Any = json.loads(written)
        except ValueError:
            value = {"raw": written}
        body.payload = json.dumps(value if text else masked(value), ensure_ascii=False, indent=2)
        if text:
            self._room.note(operator, "read.text", f"dead letter {letter_id}", None, {"texts": 1})
        return body


async def _found(
    connection: AsyncConnection, bots: Sequence[int], letter_id: str, names: Mapping[int, str]
) -> TracedRow:
    """The dead letter of this id, at one of these bots. Raises BotctlError."""
    number = number_of(letter_id.rpartition("/")[2], letter_id)
    rows = await dead_letters.found(connection, bots, number)
    retried = await dead_letters.retried(connection, bots, number) if not rows else None
    return only_one(rows, letter_id, names, retried)
