"""A client of the operator's side: speak as a user, watch what bots do, arrange faults.

Works against both emulators (faults, calls and health are the same in both).
"""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp

MARGIN = 10.0
"""Seconds an answer may take beyond the time it was asked to wait."""


class SandboxError(Exception):
    """The emulator refused a request; the message is its own."""


@dataclass(frozen=True, slots=True)
class Said:
    """A message of a user as the emulator took it. `update_id` is None when the bot doesn't want messages."""

    update_id: int | None
    message_id: int


@dataclass(frozen=True, slots=True)
class BotEvent:
    """Something a bot did: send, edit, delete, draft, pin, reaction, chat_action, callback_answer …"""

    seq: int
    at: float
    type: str
    chat_id: int | None
    message_id: int | None
    text: str
    raw: Mapping[str, Any]


class SandboxClient:
    """One emulator by its URL. Use as `async with`, or call `close`."""

    def __init__(self, base_url: str) -> None:
        self._root = base_url.rstrip("/").removesuffix("/v1") + "/sandbox"
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> SandboxClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def health(self) -> bool:
        """Whether the emulator serves."""
        try:
            return bool((await self._call("GET", "/health"))["ok"])
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def register_bot(self, token: str, *, first_name: str | None = None, username: str | None = None) -> int:
        """Make a bot; its id. A new token of a known bot replaces the old one."""
        body = {"token": token, "first_name": first_name, "username": username}
        return int((await self._call("POST", "/bots", body))["id"])

    async def remove_bot(self, bot_id: int) -> None:
        """Revoke a bot: its token is 401 from now on."""
        await self._call("DELETE", f"/bots/{bot_id}")

    async def bots(self) -> list[dict[str, Any]]:
        """All bots, with what waits for them and whether they are polling."""
        return _list(await self._call("GET", "/bots"), "bots")

    async def say(
        self,
        bot_id: int,
        chat_id: int,
        text: str,
        user: Mapping[str, Any] | None = None,
        *,
        chat_type: str | None = None,
        reply_to_message_id: int | None = None,
        message_thread_id: int | None = None,
        document: tuple[str, bytes] | None = None,
        **content: Any,
    ) -> Said:
        """Write to a bot as a user; `content` are other fields of the operator's API: `photo={}`, `location={…}`."""
        body: dict[str, Any] = {
            "chat_id": chat_id,
            "text": text,
            "user": dict(user or {}),
            "chat_type": chat_type,
            "reply_to_message_id": reply_to_message_id,
            "message_thread_id": message_thread_id,
            **content,
        }
        if document is not None:
            name, data = document
            body["document"] = {"file_name": name, "content_base64": base64.b64encode(data).decode()}
        return _said(await self._call("POST", f"/bots/{bot_id}/messages", body))

    async def say_many(self, bot_id: int, messages: Sequence[tuple[int, str]]) -> list[Said]:
        """Write many messages, (chat_id, text), in their order, in one call."""
        body = [{"chat_id": chat_id, "text": text} for chat_id, text in messages]
        return [_said(item) for item in _list(await self._call("POST", f"/bots/{bot_id}/messages", body), "messages")]

    async def edit(self, bot_id: int, chat_id: int, message_id: int, text: str) -> Said:
        """Edit a user's message."""
        body = {"chat_id": chat_id, "message_id": message_id, "text": text}
        return _said(await self._call("POST", f"/bots/{bot_id}/edits", body))

    async def press(
        self, bot_id: int, chat_id: int, message_id: int, data: str, user: Mapping[str, Any] | None = None
    ) -> str:
        """Press a button under a message; the id of the callback query."""
        body = {"chat_id": chat_id, "message_id": message_id, "data": data, "user": dict(user or {})}
        return str((await self._call("POST", f"/bots/{bot_id}/callback", body))["callback_query_id"])

    async def act(self, bot_id: int, deed: str, **fields: Any) -> dict[str, Any]:
        """What people do besides: albums, reactions, votes, inline_queries, payments, members, migrations.

        Fields and answer are those of the operator's API (docs/sandbox.md).
        """
        return await self._call("POST", f"/bots/{bot_id}/{deed}", fields)

    async def inject(self, bot_id: int, update: Mapping[str, Any]) -> int:
        """Queue a raw update, well-formed or not; its update_id."""
        return int((await self._call("POST", f"/bots/{bot_id}/updates", dict(update)))["update_id"])

    async def set_chat(self, bot_id: int, chat_id: int, *, blocked: bool | None = None) -> None:
        """Make a chat known to a bot; with `blocked` let its user block or unblock the bot."""
        body: dict[str, Any] = {"chat_id": chat_id}
        if blocked is not None:
            body["blocked"] = blocked
        await self._call("POST", f"/bots/{bot_id}/chats", body)

    async def events(self, bot_id: int, after: int = 0, wait: float = 0.0) -> list[BotEvent]:
        """What a bot did after that event, waiting up to `wait` seconds when there is nothing yet."""
        path = f"/bots/{bot_id}/events?after={after}&wait={wait}"
        return [_event(raw) for raw in _list(await self._call("GET", path, wait=wait), "events")]

    async def wait_for_reply(self, bot_id: int, chat_id: int, after: int = 0, wait: float = 10.0) -> BotEvent | None:
        """The next message a bot sends into a chat after that event; None when the time ran out."""
        deadline = time.monotonic() + wait
        while (left := deadline - time.monotonic()) > 0:
            for event in await self.events(bot_id, after, left):
                after = event.seq
                if event.type == "send" and event.chat_id == chat_id:
                    return event
        return None

    async def transcript(self, bot_id: int, chat_id: int) -> list[dict[str, Any]]:
        """Every message of a chat, both directions, oldest first."""
        return _list(await self._call("GET", f"/bots/{bot_id}/chats/{chat_id}/messages"), "messages")

    async def drafts(self, bot_id: int, chat_id: int) -> list[dict[str, Any]]:
        """The drafts that are shown in a chat now."""
        return _list(await self._call("GET", f"/bots/{bot_id}/chats/{chat_id}/messages"), "drafts")

    async def stats(self, bot_id: int | None = None) -> dict[str, Any]:
        """Counts of one bot, or of all."""
        return await self._call("GET", "/stats" if bot_id is None else f"/bots/{bot_id}/stats")

    async def inject_fault(self, method: str = "*", **fault: Any) -> int:
        """Arrange a fault (fields as in docs/sandbox.md); its id."""
        answer = await self._call("POST", "/faults", {"method": method, **fault})
        return int(answer["faults"][0]["fault_id"])

    async def clear_faults(self, fault_id: int | None = None) -> int:
        """Drop one fault, or all; how many."""
        suffix = "" if fault_id is None else f"?fault_id={fault_id}"
        return int((await self._call("DELETE", f"/faults{suffix}"))["dropped"])

    async def held(self, fault_id: int, count: int = 0, wait: float = 0.0) -> list[dict[str, Any]]:
        """The calls that a fault holds now; waits up to `wait` seconds until there are `count` of them."""
        path = f"/faults/{fault_id}?held={count}&wait={wait}"
        return _list(await self._call("GET", path, wait=wait), "held")

    async def release(self, fault_id: int, *, hold_id: int | None = None, drop: bool = False) -> int:
        """Let held calls go on, or with `drop` be lost with their connection; how many there were."""
        body: dict[str, Any] = {"drop": drop}
        if hold_id is not None:
            body["hold_id"] = hold_id
        return int((await self._call("POST", f"/faults/{fault_id}/release", body))["released"])

    async def calls(
        self, *, method: str | None = None, bot_id: int | None = None, after: int = 0, limit: int = 1000
    ) -> list[dict[str, Any]]:
        """The newest calls that match, oldest first."""
        path = f"/calls?after={after}&limit={limit}"
        if method is not None:
            path += f"&method={method}"
        if bot_id is not None:
            path += f"&bot_id={bot_id}"
        return _list(await self._call("GET", path), "calls")

    async def set_limits(self, **limits: float | str) -> None:
        """Change `flood` (telegram, off), `chat_burst`, `chat_rate`, `callback_lifetime` … (docs/sandbox.md)."""
        await self._call("PUT", "/limits", limits)

    async def _call(self, verb: str, path: str, body: Any = None, wait: float = 0.0) -> dict[str, Any]:
        if self._session is None:
            self._session = aiohttp.ClientSession()
        timeout = aiohttp.ClientTimeout(total=wait + MARGIN)
        async with self._session.request(verb, self._root + path, json=body, timeout=timeout) as response:
            answer: Any = await response.json(content_type=None)
            if response.status != 200:
                reason = answer.get("error") if isinstance(answer, dict) else None
                raise SandboxError(f"{verb} {path}: {reason or response.status}")
            return dict(answer)


def _list(answer: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    return [dict(item) for item in answer[name]]


def _said(raw: Mapping[str, Any]) -> Said:
    return Said(raw["update_id"], int(raw["message_id"]))


def _event(raw: Mapping[str, Any]) -> BotEvent:
    return BotEvent(
        seq=int(raw["seq"]),
        at=float(raw["at"]),
        type=str(raw["type"]),
        chat_id=raw.get("chat_id"),
        message_id=raw.get("message_id"),
        text=str(raw.get("text", "")),
        raw=dict(raw),
    )
