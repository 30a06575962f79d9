"""What a client asks: both request shapes read into one. Pure. Raises CompletionError for what OpenAI refuses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from botctl.sandbox.completion.errors import CompletionError, invalid
from botctl.sandbox.completion.model import Turn

LEAST_OUTPUT_TOKENS = 16
"""OpenAI's own lower bound of max_output_tokens in the Responses API."""
_TEXT_PARTS = frozenset({"input_text", "output_text", "text", "refusal"})
_SYSTEM = frozenset({"system", "developer"})
_ROLES = frozenset({"user", "assistant", "system", "developer", "tool", "function"})


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, whichever endpoint it came by."""

    model: str
    instructions: str
    turns: tuple[Turn, ...]
    stream: bool
    most_tokens: int | None
    include_usage: bool
    given: Mapping[str, Any]
    """The body as it came, for the fields an answer echoes."""


def read_responses_request(body: object) -> Asked:
    """A body of POST /v1/responses."""
    given = _object(body)
    for name in ("previous_response_id", "conversation"):
        if given.get(name):
            code = "previous_response_not_found" if name == "previous_response_id" else None
            raise invalid(f"{name} {given[name]!r} not found: this server keeps no conversations.", name, code)
    raw = given.get("input")
    instructions = given.get("instructions") or ""
    if not isinstance(instructions, str):
        raise _wrong_type("instructions", "a string", instructions)
    turns: list[Turn] = []
    if raw is None:
        raise invalid("Missing required parameter: 'input'.", "input", "missing_required_parameter")
    if isinstance(raw, str):
        turns.append(Turn("user", raw))
    elif isinstance(raw, list):
        for place, item in enumerate(raw):
            if not isinstance(item, dict):
                raise _wrong_type(f"input[{place}]", "an object", item)
            if item.get("type", "message") == "message":
                turns.append(_turn(item, f"input[{place}]"))
    else:
        raise _wrong_type("input", "a string or an array", raw)
    most = _most_tokens(given, "max_output_tokens")
    if most is not None and most < LEAST_OUTPUT_TOKENS:
        raise invalid(
            f"Invalid 'max_output_tokens': integer below minimum value. Expected a value >= {LEAST_OUTPUT_TOKENS},"
            f" but got {most} instead.",
            "max_output_tokens",
            "integer_below_min_value",
        )
    return _asked(given, instructions, turns, most)


def read_chat_request(body: object) -> Asked:
    """A body of POST /v1/chat/completions."""
    given = _object(body)
    raw = given.get("messages")
    if raw is None:
        raise invalid("Missing required parameter: 'messages'.", "messages", "missing_required_parameter")
    if not isinstance(raw, list):
        raise _wrong_type("messages", "an array of objects", raw)
    if not raw:
        raise invalid(
            "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array instead.",
            "messages",
            "empty_array",
        )
    turns: list[Turn] = []
    for place, item in enumerate(raw):
        if not isinstance(item, dict):
            raise _wrong_type(f"messages[{place}]", "an object", item)
        turns.append(_turn(item, f"messages[{place}]"))
    most = _most_tokens(given, "max_completion_tokens")
    return _asked(given, "", turns, most if most is not None else _most_tokens(given, "max_tokens"))


def _asked(given: dict[str, Any], instructions: str, turns: list[Turn], most: int | None) -> Asked:
    model = given.get("model")
    if model is None or model == "":
        raise invalid("Missing required parameter: 'model'.", "model", "missing_required_parameter")
    if not isinstance(model, str):
        raise _wrong_type("model", "a string", model)
    stream = given.get("stream") or False
    if not isinstance(stream, bool):
        raise _wrong_type("stream", "a boolean", stream)
    temperature = given.get("temperature")
    if temperature is not None and (not isinstance(temperature, int | float) or not 0 <= temperature <= 2):
        raise invalid("Invalid 'temperature': expected a value between 0 and 2.", "temperature", "invalid_value")
    system = [instructions, *(turn.text for turn in turns if turn.role in _SYSTEM)]
    options = given.get("stream_options")
    return Asked(
        model=model,
        instructions="\n".join(part for part in system if part),
        turns=tuple(turn for turn in turns if turn.role not in _SYSTEM),
        stream=stream,
        most_tokens=most,
        include_usage=isinstance(options, dict) and options.get("include_usage") is True,
        given=given,
    )


def _object(body: object) -> dict[str, Any]:
    if not isinstance(body, dict):
        raise invalid("We could not parse the JSON body of your request: expected an object.")
    return body


def _turn(item: dict[str, Any], where: str) -> Turn:
    role = item.get("role")
    if role not in _ROLES:
        raise invalid(
            f"Invalid value: {role!r}. Supported values are: 'assistant', 'system', 'developer', and 'user'.",
            f"{where}.role",
            "invalid_value",
        )
    content = item.get("content")
    if content is None and role == "assistant":
        return Turn(str(role), "")
    if isinstance(content, str):
        return Turn(str(role), content)
    if not isinstance(content, list):
        raise _wrong_type(f"{where}.content", "a string or an array", content)
    texts: list[str] = []
    for place, part in enumerate(content):
        if not isinstance(part, dict):
            raise _wrong_type(f"{where}.content[{place}]", "an object", part)
        if part.get("type") in _TEXT_PARTS:
            texts.append(str(part.get("text", part.get("refusal", ""))))
    return Turn(str(role), "\n".join(texts))


def _most_tokens(given: dict[str, Any], name: str) -> int | None:
    value = given.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise _wrong_type(name, "an integer", value)
    if value < 1:
        raise invalid(f"Invalid '{name}': integer below minimum value.", name, "integer_below_min_value")
    return value


def _wrong_type(where: str, expected: str, got: object) -> CompletionError:
    named = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", int: "an integer"}
    kind = "null" if got is None else named.get(type(got), "something else")
    return invalid(f"Invalid type for '{where}': expected {expected}, but got {kind} instead.", where, "invalid_type")
