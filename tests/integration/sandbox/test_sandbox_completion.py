"""The completion emulator under the real openai client."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable

import openai
import pytest

from botctl.sandbox.client import SandboxClient
from botctl.sandbox.process import SandboxProcess

NORA = "You are Nora, a cheerful librarian."
HISTORY = [
    {"role": "user", "content": "My name is Ada and my favourite colour is teal."},
    {"role": "assistant", "content": "Nice to meet you, Ada."},
    {"role": "user", "content": "What's my favourite colour?"},
]
EXPECTED = "Nora here, happy to help! Your favourite colour is teal."


@pytest.fixture
async def client(servers: SandboxProcess) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(api_key="sk-test", base_url=servers.completion, max_retries=0) as made:
        yield made


async def test_responses(client: openai.AsyncOpenAI) -> None:
    response = await client.responses.create(model="gpt-5-mini", instructions=NORA, input=HISTORY)  # type: ignore[arg-type]
    assert response.output_text == EXPECTED
    assert response.status == "completed"
    assert response.model == "gpt-5-mini"
    assert response.usage is not None
    assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens > 20


async def test_responses_streamed(client: openai.AsyncOpenAI) -> None:
    kinds: list[str] = []
    text = ""
    async with client.responses.stream(model="gpt-5-mini", instructions=NORA, input=HISTORY) as stream:  # type: ignore[arg-type]
        async for event in stream:
            kinds.append(event.type)
            if event.type == "response.output_text.delta":
                text += event.delta
        final = await stream.get_final_response()
    assert text == final.output_text == EXPECTED
    assert final.usage is not None
    assert (kinds[0], kinds[-1]) == ("response.created", "response.completed")
    raw = await client.responses.create(model="gpt-5-mini", input="hi", stream=True)
    numbers = [event.sequence_number async for event in raw]
    assert numbers == list(range(len(numbers)))


async def test_chat_completions(client: openai.AsyncOpenAI) -> None:
    messages = [{"role": "system", "content": NORA}, *HISTORY]
    completion = await client.chat.completions.create(model="gpt-4o", messages=messages)  # type: ignore[arg-type]
    assert completion.choices[0].message.content == EXPECTED
    assert completion.choices[0].finish_reason == "stop"
    assert completion.usage is not None
    assert completion.usage.prompt_tokens > completion.usage.completion_tokens > 0


async def test_chat_completions_streamed(client: openai.AsyncOpenAI) -> None:
    messages = [{"role": "system", "content": NORA}, *HISTORY]
    stream = await client.chat.completions.create(
        model="gpt-4o",
        messages=messages,  # type: ignore[arg-type]
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == EXPECTED
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens > 0


def test_the_blocking_client_too(servers: SandboxProcess) -> None:
    with openai.OpenAI(api_key="sk-test", base_url=servers.completion, max_retries=0) as client:
        assert client.responses.create(model="m", input="My name is Ada").output_text == "Nice to meet you, Ada."
        events = client.responses.create(model="m", input="My name is Ada", stream=True)
        assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == (
            "Nice to meet you, Ada."
        )


async def test_nothing_is_remembered_between_requests(client: openai.AsyncOpenAI) -> None:
    await client.responses.create(model="m", input="My name is Ada")
    response = await client.responses.create(model="m", input="What is my name?")
    assert response.output_text == "I don't know your name yet."
    with pytest.raises(openai.BadRequestError) as caught:
        await client.responses.create(model="m", input="What is my name?", previous_response_id=response.id)
    assert caught.value.code == "previous_response_not_found"


async def test_a_long_answer_and_a_cut_one(client: openai.AsyncOpenAI) -> None:
    response = await client.responses.create(model="m", input="Give me a long answer about bees")
    assert len(response.output_text) > 4096
    short = await client.responses.create(model="m", input="Give me a long answer about bees", max_output_tokens=16)
    assert (short.status, short.incomplete_details and short.incomplete_details.reason) == (
        "incomplete",
        "max_output_tokens",
    )
    assert short.usage is not None
    assert short.usage.output_tokens <= 16
    chat = await client.chat.completions.create(
        model="m", messages=[{"role": "user", "content": "a long answer please"}], max_completion_tokens=5
    )
    assert chat.choices[0].finish_reason == "length"


async def test_models(client: openai.AsyncOpenAI) -> None:
    assert "gpt-4o" in [model.id async for model in client.models.list()]
    assert (await client.models.retrieve("gpt-4o")).id == "gpt-4o"


async def test_keys(servers: SandboxProcess) -> None:
    async with openai.AsyncOpenAI(
        api_key="sk-refused-0000000001", base_url=servers.completion, max_retries=0
    ) as refused:
        with pytest.raises(openai.AuthenticationError) as caught:
            await refused.responses.create(model="m", input="hi")
    assert caught.value.code == "invalid_api_key"
    assert "sk-refused-0000000001" not in str(caught.value)
    async with openai.AsyncOpenAI(
        api_key="x", base_url=servers.completion, max_retries=0, default_headers={"Authorization": ""}
    ) as keyless:
        with pytest.raises(openai.AuthenticationError, match="You didn't provide an API key"):
            await keyless.responses.create(model="m", input="hi")


async def test_wrong_requests(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await client.chat.completions.create(model="m", messages=[])
    assert (caught.value.param, caught.value.code) == ("messages", "empty_array")
    with pytest.raises(openai.NotFoundError):
        await client.embeddings.create(model="m", input="x")


async def test_an_unknown_model_when_models_are_listed(start: Callable[..., SandboxProcess]) -> None:
    servers = start("--model", "only-one")
    async with openai.AsyncOpenAI(api_key="k", base_url=servers.completion, max_retries=0) as client:
        assert (await client.responses.create(model="only-one", input="hi")).output_text
        with pytest.raises(openai.NotFoundError) as caught:
            await client.responses.create(model="other", input="hi")
        assert caught.value.code == "model_not_found"
        assert [model.id async for model in client.models.list()] == ["only-one"]


async def test_faults_and_retry_after(client: openai.AsyncOpenAI, completion_operator: SandboxClient) -> None:
    await completion_operator.inject_fault("responses", status=429, retry_after=3)
    with pytest.raises(openai.RateLimitError) as limited:
        await client.responses.create(model="m", input="hi")
    assert limited.value.response.headers["retry-after"] == "3"
    assert limited.value.code == "rate_limit_exceeded"
    await completion_operator.inject_fault("responses", status=503)
    with pytest.raises(openai.InternalServerError):
        await client.responses.create(model="m", input="hi")
    await completion_operator.inject_fault("responses", cut=True)
    with pytest.raises(openai.APIConnectionError):
        await client.responses.create(model="m", input="hi")
    await completion_operator.inject_fault("responses", delay=5)
    with pytest.raises(openai.APITimeoutError):
        await client.responses.create(model="m", input="hi", timeout=0.2)
    await completion_operator.inject_fault("chat.completions", status=500, times=None)
    assert (await client.responses.create(model="m", input="hi")).output_text
    statuses = [call["status"] for call in await completion_operator.calls(method="responses")]
    assert statuses[-5:] in ([429, 503, 0, 0, 200], [429, 503, 0, 200, 0])


async def test_answers_that_are_empty_cut_short_or_garbled(
    client: openai.AsyncOpenAI, completion_operator: SandboxClient
) -> None:
    async def ask() -> str:
        return (await client.responses.create(model="m", input="My name is Ada")).output_text

    whole = await ask()
    await completion_operator.inject_fault("responses", empty=True)
    assert await ask() == ""
    await completion_operator.inject_fault("responses", finish_reason="length")
    response = await client.responses.create(model="m", input="My name is Ada")
    assert (response.status, response.output_text) == ("incomplete", whole[: len(whole) // 2])
    await completion_operator.inject_fault("chat.completions", finish_reason="content_filter")
    chat = await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "My name is Ada"}])
    assert chat.choices[0].finish_reason == "content_filter"
    await completion_operator.inject_fault("responses", malformed=True)
    with pytest.raises(json.JSONDecodeError):
        await ask()
    await completion_operator.inject_fault("responses", cut_body=True)
    with pytest.raises(openai.APIConnectionError):
        await ask()
    await completion_operator.inject_fault("responses", content_type="text/plain")
    assert await client.responses.create(model="m", input="My name is Ada") != response
    await completion_operator.inject_fault("responses", hold=True, delay=0.05)
    assert await ask() == whole


async def test_a_stream_that_is_slow_or_ends_too_early(
    client: openai.AsyncOpenAI, completion_operator: SandboxClient
) -> None:
    async def stream() -> list[str]:
        events = await client.responses.create(model="m", input="a long answer please", stream=True)
        return [event.type async for event in events]

    await completion_operator.inject_fault("responses", after_chunks=2, truncated=True)
    kinds = await stream()
    assert kinds.count("response.output_text.delta") == 2
    assert "response.completed" not in kinds
    await completion_operator.inject_fault("responses", chunk_delay=0.05, after_chunks=4, truncated=True)
    began = time.monotonic()
    await stream()
    assert time.monotonic() - began > 0.15


async def test_a_client_that_retries_gets_through(servers: SandboxProcess, completion_operator: SandboxClient) -> None:
    await completion_operator.inject_fault("responses", status=500, times=2)
    async with openai.AsyncOpenAI(api_key="k", base_url=servers.completion, max_retries=2) as client:
        assert (await client.responses.create(model="m", input="My name is Ada")).output_text.endswith("Ada.")


async def test_a_stream_that_breaks_off(client: openai.AsyncOpenAI, completion_operator: SandboxClient) -> None:
    await completion_operator.inject_fault("responses", after_chunks=2)
    pieces: list[str] = []
    stream = await client.responses.create(model="m", input="a long answer please", stream=True)

    async def read() -> None:
        async for event in stream:
            if event.type == "response.output_text.delta":
                pieces.append(event.delta)

    with pytest.raises(openai.APIConnectionError):
        await read()
    assert len(pieces) <= 2


async def test_the_calls_show_what_the_client_sent(
    client: openai.AsyncOpenAI, completion_operator: SandboxClient
) -> None:
    await client.responses.create(model="m", instructions=NORA, input=HISTORY)  # type: ignore[arg-type]
    (call,) = await completion_operator.calls(method="responses", limit=1)
    assert call["parameters"] == {
        "model": "m",
        "instructions": NORA,
        "turns": 3,
        "last": "What's my favourite colour?",
        "stream": False,
    }
