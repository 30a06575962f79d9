"""One completion: the conversation goes to the model, its answer comes back, or an error that says what failed.

Retries on 5xx, 429 (as Retry-After says) and lost connections are the openai client's own. Keeps nothing.
"""

from __future__ import annotations

import dataclasses
import ssl
import time
from collections.abc import Sequence
from typing import Any

import msgspec
import structlog

from botctl.errors import BotctlError
from botctl.fleet.model import Assistant, CompletionApi
from botctl.storage.completions import StoredCompletion
from botctl.storage.conversations import Turn

_log = structlog.get_logger("botctl.bot.assistant")


class CompletionError(BotctlError):
    """The completion API gave no answer. `kind` is its class in a word or two, `status` the HTTP status if any."""

    def __init__(self, kind: str, detail: str, status: int | None = None) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind = kind
        self.detail = detail
        self.status = status


class CompletionClient:
    """The openai client is made at the first completion: a bot that never needs it doesn't pay for it.

    `transport` replaces the network, for the rehearsal before the fork.
    """

    def __init__(
        self, assistant: Assistant, *, api_key: str, base_url: str, tls: ssl.SSLContext, transport: Any = None
    ) -> None:
        self._assistant = assistant
        own_key = assistant.api_key.get_secret_value() if assistant.api_key is not None else ""
        self._api_key = own_key or api_key
        self._base_url = assistant.base_url or base_url or None
        self._tls = tls
        self._transport = transport
        self._client: Any = None

    async def complete(self, turns: Sequence[Turn]) -> StoredCompletion:
        """The model's answer to the conversation. Raises CompletionError."""
        import openai

        if not self._api_key:
            raise CompletionError("no key", "neither the bot's assistant.api_key nor OPENAI_API_KEY is set")
        client = self._connect()
        ask = self._respond if self._assistant.api is CompletionApi.RESPONSES else self._chat
        begun = time.monotonic()
        try:
            answer = await ask(client, turns)
        except openai.APITimeoutError as error:
            raise CompletionError("timeout", f"no answer within {self._assistant.timeout:g} s") from error
        except openai.APIConnectionError as error:
            raise CompletionError("unreachable", str(error.__cause__ or error)[:200]) from error
        except openai.RateLimitError as error:
            raise CompletionError("rate limit", error.message[:200], error.status_code) from error
        except openai.APIStatusError as error:
            raise CompletionError(f"http {error.status_code}", error.message[:200], error.status_code) from error
        except (openai.OpenAIError, msgspec.DecodeError, IndexError) as error:
            raise CompletionError("unreadable answer", f"{type(error).__name__}: {error}"[:200]) from error
        if not answer.text.strip():
            raise CompletionError("empty answer", f"{answer.model} answered with no text")
        answer = dataclasses.replace(answer, duration_ms=round((time.monotonic() - begun) * 1000))
        _log.info(
            "completed",
            model=answer.model,
            input_tokens=answer.input_tokens,
            output_tokens=answer.output_tokens,
            duration_ms=answer.duration_ms,
            retries=answer.retries,
        )
        return answer

    async def close(self) -> None:
        """End its connections."""
        if self._client is not None:
            await self._client.close()

    def _connect(self) -> Any:
        if self._client is None:
            import httpx2
            import openai

            timeout = httpx2.Timeout(self._assistant.timeout, connect=min(10.0, self._assistant.timeout))
            self._client = openai.AsyncOpenAI(
                api_key=self._api_key,
                base_url=self._base_url,
                timeout=timeout,
                max_retries=self._assistant.retries,
                http_client=httpx2.AsyncClient(
                    verify=self._tls, timeout=timeout, follow_redirects=True, transport=self._transport
                ),
            )
        return self._client

    async def _respond(self, client: Any, turns: Sequence[Turn]) -> StoredCompletion:
        body: dict[str, Any] = {
            "model": self._assistant.model,
            "instructions": self._assistant.instructions,
            "input": _messages(turns),
            "store": False,
        }
        if self._assistant.max_output_tokens is not None:
            body["max_output_tokens"] = self._assistant.max_output_tokens
        raw, retries = await self._post(client, "/responses", body)
        response = _response.decode(raw)
        text = "".join(
            part.text for item in response.output for part in item.content or () if part.type == "output_text"
        )
        usage = response.usage or _ResponseUsage()
        incomplete = response.incomplete_details
        return StoredCompletion(
            text,
            response.model or self._assistant.model,
            usage.input_tokens,
            usage.output_tokens,
            0,
            usage.input_tokens_details.cached_tokens if usage.input_tokens_details is not None else None,
            retries,
            _word((incomplete.reason if incomplete is not None else None) or response.status),
        )

    async def _chat(self, client: Any, turns: Sequence[Turn]) -> StoredCompletion:
        body: dict[str, Any] = {
            "model": self._assistant.model,
            "messages": [{"role": "system", "content": self._assistant.instructions}, *_messages(turns)],
        }
        if self._assistant.max_output_tokens is not None:
            body["max_tokens"] = self._assistant.max_output_tokens
        raw, retries = await self._post(client, "/chat/completions", body)
        answer = _chat_completion.decode(raw)
        usage = answer.usage or _ChatUsage()
        return StoredCompletion(
            answer.choices[0].message.content or "",
            answer.model or self._assistant.model,
            usage.prompt_tokens,
            usage.completion_tokens,
            0,
            usage.prompt_tokens_details.cached_tokens if usage.prompt_tokens_details is not None else None,
            retries,
            _word(answer.choices[0].finish_reason),
        )

    async def _post(self, client: Any, path: str, body: dict[str, Any]) -> tuple[bytes, int]:
        """The raw answer, and how many calls came before it: openai's client says that in a header of its request.

        Raw, for openai's own models would cost a bot 8 MB of memory it shares with the others until then.
        """
        import httpx2

        response = await client.post(path, body=body, cast_to=httpx2.Response)
        retries = response.request.headers.get("x-stainless-retry-count", "")
        return bytes(response.content), int(retries) if retries.isdecimal() else 0


def _word(reason: str | None) -> str:
    """Somebody else's word, for a column."""
    return "".join(one for one in (reason or "")[:40] if one.isprintable())


class _Cached(msgspec.Struct):
    cached_tokens: int | None = None


class _Part(msgspec.Struct):
    type: str = ""
    text: str = ""


class _Item(msgspec.Struct):
    content: list[_Part] | None = None


class _ResponseUsage(msgspec.Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    input_tokens_details: _Cached | None = None


class _Incomplete(msgspec.Struct):
    reason: str | None = None


class _Response(msgspec.Struct):
    output: list[_Item]
    model: str | None = None
    usage: _ResponseUsage | None = None
    status: str | None = None
    incomplete_details: _Incomplete | None = None


class _ChatMessage(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    message: _ChatMessage
    finish_reason: str | None = None


class _ChatUsage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _Cached | None = None


class _ChatCompletion(msgspec.Struct):
    choices: list[_Choice]
    model: str | None = None
    usage: _ChatUsage | None = None


_response = msgspec.json.Decoder(_Response)
_chat_completion = msgspec.json.Decoder(_ChatCompletion)


def _messages(turns: Sequence[Turn]) -> list[dict[str, str]]:
    """Whatever the bot said, be it a handler's words, is the assistant's to the model."""
    return [{"role": "user" if turn.role == "user" else "assistant", "content": turn.text} for turn in turns]
