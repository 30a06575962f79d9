"""Token counts and the reading of requests."""

from __future__ import annotations

import pytest

from botctl.sandbox.completion.errors import CompletionError
from botctl.sandbox.completion.requests import read_chat_request, read_responses_request
from botctl.sandbox.completion.usage import count_request, count_tokens, cut_tokens, pieces


def test_tokens_are_plausible_and_add_up() -> None:
    assert count_tokens("") == 0
    assert count_tokens("Hello, world!") == 4
    assert count_tokens("extraordinary") == 3
    assert count_request(["Hello", "world"]) == 3 + 2 * 5


def test_a_cut_text_fits() -> None:
    text, cut = cut_tokens("one two three four", 2)
    assert (text, cut) == ("one two ", True)
    assert cut_tokens("one two", 2) == ("one two", False)


@pytest.mark.parametrize("text", ["", "word", "two words ", " lead", "a\n\n- b\n  c" * 20, "x" * 100])
def test_pieces_join_to_the_text(text: str) -> None:
    assert "".join(pieces(text)) == text


def test_responses_input_may_be_text_or_items() -> None:
    assert read_responses_request({"model": "m", "input": "hi"}).turns[0].text == "hi"
    asked = read_responses_request(
        {
            "model": "m",
            "instructions": "You are Nora.",
            "input": [
                {"role": "developer", "content": "Be brief."},
                {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]},
                {"type": "reasoning", "summary": []},
                {"role": "assistant", "content": [{"type": "output_text", "text": "hello"}]},
            ],
        }
    )
    assert asked.instructions == "You are Nora.\nBe brief."
    assert [(turn.role, turn.text) for turn in asked.turns] == [("user", "hi"), ("assistant", "hello")]


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({"input": "hi"}, "model", "missing_required_parameter"),
        ({"model": "m"}, "input", "missing_required_parameter"),
        ({"model": "m", "input": 5}, "input", "invalid_type"),
        ({"model": "m", "input": [{"role": "robot", "content": "x"}]}, "input[0].role", "invalid_value"),
        ({"model": "m", "input": "x", "max_output_tokens": 1}, "max_output_tokens", "integer_below_min_value"),
        ({"model": "m", "input": "x", "temperature": 9}, "temperature", "invalid_value"),
        (
            {"model": "m", "input": "x", "previous_response_id": "r"},
            "previous_response_id",
            "previous_response_not_found",
        ),
    ],
)
def test_wrong_responses_requests(body: object, param: str, code: str) -> None:
    with pytest.raises(CompletionError) as caught:
        read_responses_request(body)
    assert (caught.value.status, caught.value.param, caught.value.code) == (400, param, code)


@pytest.mark.parametrize(
    "body",
    [
        [],
        {"model": "m"},
        {"model": "m", "messages": []},
        {"model": "m", "messages": "x"},
        {"model": "m", "messages": [{"role": "user"}]},
        {"model": "m", "messages": [{"role": "user", "content": "x"}], "stream": "yes"},
    ],
)
def test_wrong_chat_requests(body: object) -> None:
    with pytest.raises(CompletionError) as caught:
        read_chat_request(body)
    assert caught.value.status == 400
