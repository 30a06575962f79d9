"""What the API asks about one message's way, answered. Reads; and writes into the audit log who was shown texts."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy.ext.asyncio import AsyncConnection

from botctl.control.prices import Prices
from botctl.control.tracing.contents import update_content
from botctl.control.tracing.gathering import Found, Place, deliveries, gather
from botctl.control.tracing.room import DeskRoom, while_it_answers
from botctl.control.tracing.tree import Teller
from botctl.control.tracing.views import ChatBody, ChatLineView, TraceBody
from botctl.control.tracing.words import address, own_error
from botctl.errors import BotctlError
from botctl.storage import trace_search, tracing
from botctl.storage.traced import TracedEvent, TracedRow

_NOT_WHOLE = "older rows were not searched for more of this trace; with --bot NAME all of its inbox is"
_APART = (
    "some stand by themselves, for the events that led to them are kept no more: an outbox keeps them for some hours "
    "(outbox_keep)"
)


class TraceDesk:
    """`prices` are the operator's, by model."""

    def __init__(self, room: DeskRoom, prices: Prices) -> None:
        self._room = room
        self._prices = prices

    @while_it_answers
    async def trace(self, asked: str, bot: str | None, *, text: bool, operator: str) -> TraceBody:
        """The way of a cause or of a trace. Raises NoSuchBotError, UsageError, and BotctlError for what is unknown."""
        wanted = address(asked)
        sight = await self._room.sight()
        opener = self._room.opener(text=text)
        notes: list[str] = []
        async with self._room.view(text=text) as connection:
            names = await self._room.names(connection)
            among = [self._room.find(names, bot)] if bot is not None else list(names)
            found, event = Found(), None
            if wanted.trace_id:
                searched = await trace_search.search(connection, among, wanted.trace_id)
                roots = await self._of_trace(connection, wanted.trace_id, searched.rows, among, names)
                notes += [] if searched.whole else [_NOT_WHOLE]
                rest = searched.rows
            else:
                roots, event = await self._of_cause(connection, found, wanted.cause, among, names)
                rest = []
            found = await gather(connection, roots, list(names), found)
            if not wanted.trace_id and event is None:
                rest = await self._after(connection, found, roots, list(names))
            if late := [row for row in sorted(rest, key=_arrival) if (row.bot_id, row.cause) not in found.rows]:
                notes += [_APART] if any(row.kind == "event" for row in late) else []
                places = [(row.bot_id, row.cause) for row in late]
                found = await gather(connection, places, list(names), found)
                roots = roots + places
            now = await tracing.clock(connection)
        body = TraceBody(asked=asked, now=now, trace_id=wanted.trace_id, notes=notes)
        teller = Teller(found, names, self._prices, opener, sight, body.now)
        known = [place for place in roots if found.knows(place)]
        if event is not None:
            body.event = teller.event(event)
            body.trace_id = event.correlation_id
        else:
            body.roots = [teller.handling(place) for place in known if not teller.has_told(place)]
            body.trace_id = body.trace_id or next((one.trace_id for one in body.roots if one.trace_id), "")
        if event is None and not known:
            raise self._unknown(asked, bot, wanted.cause)
        teller.sum_up(body)
        if text:
            opened = sum(opener(bot_id).opened for bot_id in names)
            self._room.note(operator, "read.text", f"trace {asked}", bot, {"texts": opened})
        return body

    @while_it_answers
    async def chat(self, bot: str, chat_id: int, limit: int, *, text: bool, operator: str) -> ChatBody:
        """The latest messages of a chat, the newest first. Raises NoSuchBotError."""
        async with self._room.view(text=text) as connection:
            names = await self._room.names(connection)
            bot_id = self._room.find(names, bot)
            rows = await tracing.rows_of_chat(connection, bot_id, chat_id, limit)
            causes = [row.cause for row in rows]
            sends = await tracing.sends_of(connection, bot_id, causes) if rows else []
            completions = await tracing.completions_of(connection, bot_id, causes) if rows else []
            now = await tracing.clock(connection)
        opener = self._room.opener(text=text)(bot_id)
        body = ChatBody(bot=names[bot_id], chat_id=chat_id, now=now)
        for row in rows:
            content, _ = update_content(opener, row.kind, row.payload)
            mine = [one for one in completions if one.cause == row.cause]
            body.messages.append(
                ChatLineView(
                    bot=body.bot,
                    cause=row.cause,
                    kind=row.kind,
                    state=row.state,
                    trace_id=row.trace_id,
                    received_at=row.received_at,
                    ended_at=row.done_at,
                    attempts=row.attempts,
                    sends=sum(one.cause == row.cause and one.state == "sent" for one in sends),
                    tokens=sum((one.input_tokens or 0) + (one.output_tokens or 0) for one in mine),
                    error=opener.error("inbox", "last_error", own_error(row.last_error)),
                    content=content,
                )
            )
        if text:
            self._room.note(operator, "read.text", f"chat {chat_id}", bot, {"texts": opener.opened})
        return body

    async def _after(
        self, connection: AsyncConnection, found: Found, roots: list[Place], bots: list[int]
    ) -> list[TracedRow]:
        """What is of the same trace and came afterwards, also where the events that led to it are kept no more."""
        rows: list[TracedRow] = []
        for place in roots:
            if (root := found.rows.get(place)) is not None and root.trace_id:
                rows += await trace_search.after(connection, bots, root.trace_id, root.inbox_id)
        return rows

    async def _of_trace(
        self,
        connection: AsyncConnection,
        trace_id: str,
        rows: list[TracedRow],
        among: list[int],
        names: Mapping[int, str],
    ) -> list[Place]:
        """Where a trace began: rows of inboxes that no event of the same trace has led to, or a lone operation."""
        begun = [row for row in rows if row.kind != "event"]
        if begun or not rows:
            places = [(row.bot_id, row.cause) for row in sorted(begun, key=lambda one: one.received_at)]
            return places or [(bot_id, f"op:{trace_id}") for bot_id in among]
        ids = [row.cause.removeprefix("event:").partition("@")[0] for row in rows]
        events = await tracing.events_of_ids(connection, [0, *names], ids)
        causes = {(event.bot_id, event.causation_id) for event in events if event.causation_id}
        inside = {(row.bot_id, row.cause) for row in rows}
        first = sorted(causes - inside)
        told = {f"event:{event.event_id}" for event in events if (event.bot_id, event.causation_id) in causes}
        return first + [(row.bot_id, row.cause) for row in rows if row.cause not in told]

    async def _of_cause(
        self, connection: AsyncConnection, found: Found, cause: str, among: list[int], names: Mapping[int, str]
    ) -> tuple[list[Place], TracedEvent | None]:
        """Where this cause is; for an event, who has published it besides."""
        kind, _, rest = cause.partition(":")
        if kind == "event":
            event_id = rest.partition("@")[0]
            events = await tracing.events_of_ids(connection, [0, *among], [event_id])
            if events and "@" not in rest:
                return await deliveries(connection, found, [event_id], list(names)), events[0]
        rows = await tracing.rows_of_causes(connection, among, [cause])
        return [(row.bot_id, row.cause) for row in rows] or [(bot_id, cause) for bot_id in among], None

    def _unknown(self, asked: str, bot: str | None, cause: str) -> BotctlError:
        where = f"bot {bot} has" if bot is not None else "no bot has"
        nothing = "nothing" if bot is not None else "anything"
        hint = "`botctl trace --chat ID --bot NAME` lists what came last from a chat; `botctl logs NAME` has trace ids."
        if cause.startswith("update:") and bot is None:
            hint = f"Ids of updates are a bot's own: name it with --bot. {hint}"
        return BotctlError(f"{where} {nothing} of {asked}", hint=hint)


def _arrival(row: TracedRow) -> int:
    return row.inbox_id
