"""Answers in the shape of Chat Completions: one object, or its chunks. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from botctl.sandbox.completion.answers import Answer
from botctl.sandbox.completion.usage import pieces


def chat_body(answer: Answer) -> dict[str, Any]:
    """The ChatCompletion object."""
    return {
        "id": f"chatcmpl-{answer.number}",
        "object": "chat.completion",
        "created": answer.created,
        "model": answer.asked.model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": answer.text, "refusal": None, "annotations": []},
                "logprobs": None,
                "finish_reason": _reason(answer),
            }
        ],
        "usage": _usage(answer),
        "service_tier": "default",
        "system_fingerprint": None,
    }


def chat_chunks(answer: Answer) -> Iterator[dict[str, Any]]:
    """The chunks of a streamed answer; the usage comes last, when it was asked for."""
    yield _chunk(answer, {"role": "assistant", "content": "", "refusal": None}, None)
    for piece in pieces(answer.text):
        yield _chunk(answer, {"content": piece}, None)
    yield _chunk(answer, {}, _reason(answer))
    if answer.asked.include_usage:
        yield {**_chunk(answer, {}, None), "choices": [], "usage": _usage(answer)}


def _chunk(answer: Answer, delta: dict[str, Any], reason: str | None) -> dict[str, Any]:
    chunk: dict[str, Any] = {
        "id": f"chatcmpl-{answer.number}",
        "object": "chat.completion.chunk",
        "created": answer.created,
        "model": answer.asked.model,
        "service_tier": "default",
        "system_fingerprint": None,
        "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}],
    }
    if answer.asked.include_usage:
        chunk["usage"] = None
    return chunk


def _reason(answer: Answer) -> str:
    return answer.stopped_by or "stop"


def _usage(answer: Answer) -> dict[str, Any]:
    return {
        "prompt_tokens": answer.input_tokens,
        "completion_tokens": answer.output_tokens,
        "total_tokens": answer.input_tokens + answer.output_tokens,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }
