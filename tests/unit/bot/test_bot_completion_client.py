"""What is kept of a completion besides its text: tokens, cached ones, retries of openai's client, why it ended."""

from __future__ import annotations

import ssl
from typing import Any

import httpx2
import pytest

from botctl.bot.assistant.client import CompletionClient
from botctl.fleet.model import Assistant, CompletionApi
from botctl.storage.completions import StoredCompletion
from botctl.storage.conversations import Turn

RESPONSE: dict[str, Any] = {
    "model": "m-2026-01-31",
    "status": "completed",
    "output": [{"content": [{"type": "output_text", "text": "hello"}]}],
    "usage": {"input_tokens": 12, "output_tokens": 3, "input_tokens_details": {"cached_tokens": 8}},
}
CHAT: dict[str, Any] = {
    "model": "m",
    "choices": [{"message": {"content": "hello"}, "finish_reason": "length"}],
    "usage": {"prompt_tokens": 12, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 8}},
}


async def _complete(api: CompletionApi, *answers: tuple[int, dict[str, Any]]) -> StoredCompletion:
    left = list(answers)

    def answer(request: httpx2.Request) -> httpx2.Response:
        status, body = left.pop(0)
        return httpx2.Response(status, json=body, headers={"retry-after-ms": "1"})

    client = CompletionClient(
        Assistant(api=api),
        api_key="k",
        base_url="http://nowhere/v1",
        tls=ssl.create_default_context(),
        transport=httpx2.MockTransport(answer),
    )
    try:
        return await client.complete([Turn("user", "hi")])
    finally:
        await client.close()


@pytest.mark.parametrize(
    ("api", "body", "model", "reason"),
    [
        (CompletionApi.RESPONSES, RESPONSE, "m-2026-01-31", "completed"),
        (
            CompletionApi.RESPONSES,
            RESPONSE | {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}},
            "m-2026-01-31",
            "max_output_tokens",
        ),
        (CompletionApi.CHAT, CHAT, "m", "length"),
    ],
)
async def test_tokens_and_the_reason_of_the_end_are_kept(
    api: CompletionApi, body: dict[str, Any], model: str, reason: str
) -> None:
    found = await _complete(api, (200, body))
    assert (found.text, found.model, found.finish_reason, found.retries) == ("hello", model, reason, 0)
    assert (found.input_tokens, found.output_tokens, found.cached_tokens) == (12, 3, 8)


@pytest.mark.parametrize("api", list(CompletionApi))
async def test_retries_of_the_client_itself_are_counted(api: CompletionApi) -> None:
    body = RESPONSE if api is CompletionApi.RESPONSES else CHAT
    found = await _complete(api, (500, {}), (429, {}), (200, body))
    assert (found.text, found.retries) == ("hello", 2)


@pytest.mark.parametrize("api", list(CompletionApi))
async def test_a_server_that_says_nothing_of_all_that_is_understood(api: CompletionApi) -> None:
    body = {
        key: value for key, value in (RESPONSE if api is CompletionApi.RESPONSES else CHAT).items() if key != "usage"
    }
    body |= {"choices": [{"message": {"content": "hello"}}]} if api is CompletionApi.CHAT else {"status": None}
    found = await _complete(api, (200, body))
    assert (found.input_tokens, found.cached_tokens, found.finish_reason) == (None, None, "")
