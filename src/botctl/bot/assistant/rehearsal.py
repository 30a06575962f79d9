"""One completion over each API with a canned answer, before the fork.

What the openai client does at its first use is done here once, so that every bot has it done. Nothing leaves the
process: the transport is in memory.
"""

from __future__ import annotations

import asyncio
import json
import ssl

import httpx2

from botctl.bot.assistant.client import CompletionClient
from botctl.fleet.model import Assistant, CompletionApi
from botctl.storage.conversations import Turn

_RESPONSE = {
    "id": "resp_0",
    "object": "response",
    "created_at": 0,
    "status": "completed",
    "model": "rehearsal",
    "output": [
        {
            "id": "msg_0",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "hello", "annotations": []}],
        }
    ],
    "parallel_tool_calls": False,
    "tool_choice": "auto",
    "tools": [],
    "usage": {
        "input_tokens": 1,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 1,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 2,
    },
}
_CHAT = {
    "id": "chatcmpl-0",
    "object": "chat.completion",
    "created": 0,
    "model": "rehearsal",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}


def rehearse(tls: ssl.SSLContext) -> None:
    """Ask both APIs once. Leaves no loop, thread or socket behind."""
    for api in CompletionApi:
        asyncio.run(_ask(Assistant(api=api), tls))


async def _ask(assistant: Assistant, tls: ssl.SSLContext) -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        body = _RESPONSE if request.url.path.endswith("/responses") else _CHAT
        return httpx2.Response(200, headers={"content-type": "application/json"}, content=json.dumps(body).encode())

    transport = httpx2.MockTransport(answer)
    client = CompletionClient(
        assistant, api_key="sk-rehearsal", base_url="http://rehearsal/v1", tls=tls, transport=transport
    )
    try:
        for _ in range(2):
            await client.complete([Turn("user", "hello")])
    finally:
        await client.close()
