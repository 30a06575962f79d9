"""Answers in the shape of the Responses API: one object, or its events. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from botctl.sandbox.completion.answers import Answer
from botctl.sandbox.completion.usage import pieces

Event = dict[str, Any]

_REASONS = {"length": "max_output_tokens", "content_filter": "content_filter"}
"""Why an answer is incomplete, in the words of this API, by those of Chat Completions."""


def response_body(answer: Answer, *, status: str | None = None) -> dict[str, Any]:
    """The Response object; with status `in_progress` as it is before any output."""
    given = answer.asked.given
    finished = status is None
    body: dict[str, Any] = {
        "id": f"resp_{answer.number}",
        "object": "response",
        "created_at": answer.created,
        "status": status or ("incomplete" if answer.stopped_by else "completed"),
        "background": False,
        "error": None,
        "incomplete_details": {"reason": _REASONS[answer.stopped_by]} if finished and answer.stopped_by else None,
        "instructions": given.get("instructions"),
        "max_output_tokens": given.get("max_output_tokens"),
        "model": answer.asked.model,
        "output": [_item(answer)] if finished else [],
        "parallel_tool_calls": given.get("parallel_tool_calls", True),
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None},
        "service_tier": "default",
        "store": False,
        "temperature": given.get("temperature", 1.0),
        "text": {"format": {"type": "text"}, "verbosity": "medium"},
        "tool_choice": given.get("tool_choice", "auto"),
        "tools": given.get("tools", []),
        "top_p": given.get("top_p", 1.0),
        "truncation": given.get("truncation", "disabled"),
        "usage": None,
        "user": given.get("user"),
        "metadata": given.get("metadata") or {},
    }
    if finished:
        body["usage"] = {
            "input_tokens": answer.input_tokens,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": answer.output_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": answer.input_tokens + answer.output_tokens,
        }
    return body


def response_events(answer: Answer) -> Iterator[Event]:
    """The events of a streamed answer, in OpenAI's order, numbered."""
    for number, event in enumerate(_events(answer)):
        yield {**event, "sequence_number": number}


def _events(answer: Answer) -> Iterator[Event]:
    item_id = f"msg_{answer.number}"
    place = {"item_id": item_id, "output_index": 0, "content_index": 0}
    yield {"type": "response.created", "response": response_body(answer, status="in_progress")}
    yield {"type": "response.in_progress", "response": response_body(answer, status="in_progress")}
    started = {"id": item_id, "type": "message", "status": "in_progress", "role": "assistant", "content": []}
    yield {"type": "response.output_item.added", "output_index": 0, "item": started}
    yield {"type": "response.content_part.added", **place, "part": _part("")}
    for piece in pieces(answer.text):
        yield {"type": "response.output_text.delta", **place, "delta": piece, "logprobs": []}
    yield {"type": "response.output_text.done", **place, "text": answer.text, "logprobs": []}
    yield {"type": "response.content_part.done", **place, "part": _part(answer.text)}
    yield {"type": "response.output_item.done", "output_index": 0, "item": _item(answer)}
    last = "response.incomplete" if answer.stopped_by else "response.completed"
    yield {"type": last, "response": response_body(answer)}


def _item(answer: Answer) -> dict[str, Any]:
    return {
        "id": f"msg_{answer.number}",
        "type": "message",
        "status": "incomplete" if answer.stopped_by else "completed",
        "role": "assistant",
        "content": [_part(answer.text)],
    }


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
