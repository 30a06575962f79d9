"""The emulated language model: personas, facts from earlier messages, long answers, the same every time."""

from __future__ import annotations

import pytest

from botctl.sandbox.completion.model import Turn, answer

NORA = "You are Nora, a cheerful librarian. Answer briefly."


def ask(*texts: str, instructions: str = "") -> str:
    """Say the texts one after the other; the answer to the last, each answer being in the history."""
    turns: list[Turn] = []
    reply = ""
    for text in texts:
        turns.append(Turn("user", text))
        reply = answer(instructions, turns)
        turns.append(Turn("assistant", reply))
    return reply


@pytest.mark.parametrize(
    ("told", "asked", "expected"),
    [
        ("My name is Ada", "What is my name?", "Your name is Ada."),
        ("Call me Ada.", "what's my name", "Your name is Ada."),
        ("My favourite colour is teal.", "What's my favorite color?", "Your favourite colour is teal."),
        ("my favorite color is teal!", "What is my favourite colour?", "Your favorite color is teal."),
        ("I live in Oslo.", "Where do I live?", "You live in Oslo."),
        ("I'm 36 years old", "How old am I?", "You are 36 years old."),
        ("Remember that the door code is 4711.", "What is the door code?", "The door code is 4711."),
        ("remember that Rex is a dog", "Who is Rex?", "Rex is a dog."),
        ("my dog's name is Rex", "What is my dog's name?", "Your dog's name is Rex."),
    ],
)
def test_a_fact_is_answered_from_an_earlier_message(told: str, asked: str, expected: str) -> None:
    assert ask(told, asked) == expected
    assert ask(told, "It rains today.", asked) == expected
    assert expected not in ask("It rains today.", asked)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("What is my name?", "I don't know your name yet."),
        ("What's my favourite colour?", "I don't know your favourite colour yet."),
        ("Where do I live?", "I don't know your home yet."),
        ("What is the door code?", "I don't know what the door code is yet."),
    ],
)
def test_what_was_never_told_is_not_known(asked: str, expected: str) -> None:
    assert ask(asked) == expected


def test_the_last_statement_wins() -> None:
    assert ask("My name is Ada", "My name is Grace", "What is my name?") == "Your name is Grace."


def test_only_the_user_is_believed() -> None:
    turns = [Turn("assistant", "My name is Ada"), Turn("user", "What is my name?")]
    assert answer("", turns) == "I don't know your name yet."


def test_several_facts_and_questions_in_one_message() -> None:
    assert ask("My name is Ada and I live in Oslo.", "What is my name? Where do I live?") == (
        "Your name is Ada. You live in Oslo."
    )
    assert ask("My name is Ada. What is my name?") == "Nice to meet you, Ada. Your name is Ada."


@pytest.mark.parametrize(
    ("instructions", "opening"),
    [
        (NORA, "Nora here, happy to help! "),
        ("you are Gus, a grumpy night watchman", "Gus. Hmph. "),
        ("You're Jeeves, a discreet butler.", "Jeeves, at your service. "),
        ("Your name is Max. Help people.", "Max here. "),
        ("You are a helpful assistant.", "As a helpful assistant: "),
        ("", ""),
    ],
)
def test_a_persona_is_recognised_by_how_it_begins(instructions: str, opening: str) -> None:
    assert ask("What is my name?", instructions=instructions) == opening + "I don't know your name yet."


def test_other_text_is_echoed() -> None:
    assert "It rains today." in ask("It rains today.")
    assert len(ask("x" * 1000)) < 300


def test_the_same_request_has_the_same_answer() -> None:
    assert ask("Write 900 words about bees", instructions=NORA) == ask("Write 900 words about bees", instructions=NORA)


def test_a_long_answer_is_too_long_for_one_message_and_has_markdown() -> None:
    text = ask("Please give me a long answer about bees.")
    assert len(text) > 4096
    for mark in ("bees", "**", "\n- ", "```python", "\n```", "# "):
        assert mark in text
    assert text.count("```") % 2 == 0


@pytest.mark.parametrize("count", [5, 50, 300, 2000])
def test_a_number_of_words_is_kept(count: int) -> None:
    text = ask(f"Write {count} words about the sea")
    assert len(text.removesuffix("\n```").split()) == count


def test_markdown_sample() -> None:
    assert "```python" in ask("Show me some markdown please")


def test_no_message_at_all_is_greeted() -> None:
    assert answer(NORA, []).endswith("How can I help you?")
