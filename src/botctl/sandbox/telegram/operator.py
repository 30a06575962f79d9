"""The operator's side of the Telegram emulator: play the users, watch the bots. JSON over HTTP below `/sandbox`."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from botctl.sandbox.operator_json import OperatorError, query_number, read_json
from botctl.sandbox.telegram import people, people_groups, people_queries
from botctl.sandbox.telegram.bots import Bot
from botctl.sandbox.telegram.limits import change_limits
from botctl.sandbox.telegram.world import World

LONGEST_WAIT = 300.0

Deed = Callable[[Bot, object], dict[str, Any]]
DEEDS: dict[str, Deed] = {
    "albums": people.write_album,
    "edits": people.rewrite,
    "callback": people.press,
    "reactions": people_queries.react,
    "votes": people_queries.vote,
    "inline_queries": people_queries.ask_inline,
    "payments": people_queries.pay,
    "members": people_groups.set_member,
    "migrations": people_groups.migrate,
}
"""What people do, by its place below a bot's address."""


def add_operator_routes(app: web.Application, world: World) -> None:
    """Add everything about bots below `/sandbox` of an app."""
    operator = Operator(world)
    router = app.router
    router.add_get("/sandbox/bots", operator.list_bots)
    router.add_post("/sandbox/bots", operator.register)
    router.add_get("/sandbox/bots/{bot_id}", operator.show)
    router.add_delete("/sandbox/bots/{bot_id}", operator.remove)
    router.add_post("/sandbox/bots/{bot_id}/updates", operator.inject)
    router.add_post("/sandbox/bots/{bot_id}/messages", operator.write)
    for place, deed in DEEDS.items():
        router.add_post(f"/sandbox/bots/{{bot_id}}/{place}", operator.performing(deed))
    router.add_post("/sandbox/bots/{bot_id}/chats", operator.set_chat)
    router.add_get("/sandbox/bots/{bot_id}/chats", operator.list_chats)
    router.add_get("/sandbox/bots/{bot_id}/chats/{chat_id}/messages", operator.transcript)
    router.add_get("/sandbox/bots/{bot_id}/events", operator.events)
    router.add_get("/sandbox/bots/{bot_id}/stats", operator.stats)
    router.add_get("/sandbox/stats", operator.all_stats)
    router.add_put("/sandbox/limits", operator.set_limits)


class Operator:
    """The handlers; each one reads, acts on the world, and answers."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def list_bots(self, request: web.Request) -> web.Response:
        """All bots."""
        return web.json_response({"bots": [self._about(bot) for bot in self._world.bots.values()]})

    async def register(self, request: web.Request) -> web.Response:
        """Make a bot of a token, or give a known bot a new token."""
        raw = await read_json(request)
        if not isinstance(raw, dict) or not isinstance(raw.get("token"), str):
            raise OperatorError("token is required and is a string")
        try:
            bot = self._world.register(raw["token"], first_name=raw.get("first_name"), username=raw.get("username"))
        except ValueError as error:
            raise OperatorError(str(error)) from error
        return web.json_response(self._about(bot))

    async def show(self, request: web.Request) -> web.Response:
        """One bot."""
        return web.json_response(self._about(self._bot(request)))

    async def remove(self, request: web.Request) -> web.Response:
        """Revoke a bot: its token is 401 from now on."""
        return web.json_response({"removed": self._world.remove(self._bot(request).bot_id)})

    async def inject(self, request: web.Request) -> web.Response:
        """Queue raw updates, one or a list, whatever is in them; only the update_id is given by the emulator."""
        bot = self._bot(request)
        raw = await read_json(request)
        items = raw if isinstance(raw, list) else [raw]
        if not all(isinstance(item, dict) for item in items):
            raise OperatorError("an update is a JSON object")
        ids = [bot.updates.push_raw(item) for item in items]
        return web.json_response({"update_id": ids[-1] if ids else None, "update_ids": ids})

    async def write(self, request: web.Request) -> web.Response:
        """A user writes; a list of messages is written in its order."""
        bot = self._bot(request)
        raw = await read_json(request)
        if isinstance(raw, list):
            return web.json_response({"messages": [people.write(bot, item) for item in raw]})
        return web.json_response(people.write(bot, raw))

    def performing(self, deed: Deed) -> Callable[[web.Request], Awaitable[web.Response]]:
        """The handler of one of `DEEDS`."""

        async def perform(request: web.Request) -> web.Response:
            return web.json_response(deed(self._bot(request), await read_json(request)))

        return perform

    async def set_chat(self, request: web.Request) -> web.Response:
        """Make a chat known, or block the bot in it."""
        chat = people.set_chat(self._bot(request), await read_json(request))
        return web.json_response({"chat": chat.body, "blocked": chat.blocked})

    async def list_chats(self, request: web.Request) -> web.Response:
        """All chats of a bot."""
        bot = self._bot(request)
        chats = [
            {"chat": chat.body, "blocked": chat.blocked, "messages": len(chat.messages)} for chat in bot.chats.values()
        ]
        return web.json_response({"chats": chats})

    async def transcript(self, request: web.Request) -> web.Response:
        """Every message of a chat, both directions, oldest first, and the drafts that are shown now."""
        bot = self._bot(request)
        try:
            chat = bot.chats.get(int(request.match_info["chat_id"]))
        except ValueError as error:
            raise OperatorError("a chat id is a whole number") from error
        if chat is None:
            return web.json_response({"messages": [], "drafts": []})
        messages = [message.as_json() for message in chat.messages.values()]
        drafts = [draft.as_json() for draft in chat.live_drafts(time.time()).values()]
        return web.json_response({"messages": messages, "drafts": drafts})

    async def events(self, request: web.Request) -> web.Response:
        """What the bot did after event `after`; waits up to `wait` seconds when there is nothing yet."""
        bot = self._bot(request)
        after = int(query_number(request, "after", 0))
        deadline = time.monotonic() + min(query_number(request, "wait", 0), LONGEST_WAIT)
        found = bot.events_after(after)
        while not found and (left := deadline - time.monotonic()) > 0:
            await bot.happened.wait(left)
            found = bot.events_after(after)
        return web.json_response({"events": found, "last": found[-1]["seq"] if found else after})

    async def stats(self, request: web.Request) -> web.Response:
        """Counts of one bot."""
        return web.json_response(self._stats(self._bot(request)))

    async def all_stats(self, request: web.Request) -> web.Response:
        """Counts of all bots; calls with tokens of no bot are under `unknown`."""
        return web.json_response(
            {
                "bots": {str(bot.bot_id): self._stats(bot) for bot in self._world.bots.values()},
                "unknown": dict(self._world.calls.counts.get(None, {})),
                "calls_kept": len(self._world.calls),
            }
        )

    async def set_limits(self, request: web.Request) -> web.Response:
        """Change flood control and other limits; answers all of them as they are now."""
        return web.json_response(change_limits(self._world, await read_json(request)))

    def _bot(self, request: web.Request) -> Bot:
        try:
            bot = self._world.bots.get(int(request.match_info["bot_id"]))
        except ValueError:
            bot = None
        if bot is None:
            raise OperatorError(f"no bot {request.match_info['bot_id']}", 404)
        return bot

    def _about(self, bot: Bot) -> dict[str, Any]:
        return {
            **bot.user,
            "pending": len(bot.updates),
            "polled": bot.updates.polled,
            "webhook": bot.webhook.url if bot.webhook is not None else "",
            "last_poll_at": bot.updates.last_poll_at,
            "next_update_id": bot.updates.next_id,
            "chats": len(bot.chats),
            "commands": next(iter(bot.commands.values()), []),
        }

    def _stats(self, bot: Bot) -> dict[str, Any]:
        calls = self._world.calls
        return {
            "calls": dict(calls.counts.get(bot.bot_id, {})),
            "errors": {str(code): count for code, count in calls.errors.get(bot.bot_id, {}).items()},
            "pending": len(bot.updates),
            "confirmed": bot.updates.confirmed,
            "polled": bot.updates.polled,
            "events": bot.last_event,
            "duplicates": bot.duplicates(),
        }
