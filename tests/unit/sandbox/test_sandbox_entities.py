"""Text and entities: what Telegram takes, what it refuses, and in which words."""

from __future__ import annotations

from typing import Any

import pytest

from botctl.sandbox.telegram.entities import format_text
from botctl.sandbox.telegram.errors import ApiError
from botctl.sandbox.telegram.utf16 import utf16_length


def refusal(text: str, parse_mode: str = "", entities: object = None) -> str:
    with pytest.raises(ApiError) as caught:
        format_text(text, parse_mode, entities)
    assert caught.value.code == 400
    return caught.value.description


def bold(offset: int, length: int) -> dict[str, Any]:
    return {"type": "bold", "offset": offset, "length": length}


@pytest.mark.parametrize(("text", "length"), [("", 0), ("abc", 3), ("é", 1), ("😀", 2), ("a😀b", 4), ("👩‍👩‍👧", 8)])
def test_lengths_are_utf16_code_units(text: str, length: int) -> None:
    assert utf16_length(text) == length == len(text.encode("utf-16-le")) // 2


def test_4096_code_units_pass_and_one_more_does_not() -> None:
    assert len(format_text("x" * 4096).text) == 4096
    assert format_text("😀" * 2048).text == "😀" * 2048
    assert refusal("x" * 4097) == "Bad Request: message is too long"
    assert refusal("😀" * 2048 + "x") == "Bad Request: message is too long"
    assert refusal("x" * 40_000) == "Bad Request: text is too long"


def test_blanks_at_the_ends_do_not_count() -> None:
    assert format_text("  " + "x" * 4096 + " \n ").text == "x" * 4096


def test_markup_does_not_count() -> None:
    formatted = format_text(f"<b>{'x' * 4096}</b>", "HTML")
    assert formatted.entities == [bold(0, 4096)]


@pytest.mark.parametrize(
    ("text", "words"),
    [("", "message text is empty"), (" \n ", "text must be non-empty"), ("\ud83d", "strings must be")],
)
def test_empty_and_broken_texts_are_refused(text: str, words: str) -> None:
    assert refusal(text).startswith(f"Bad Request: {words}")


@pytest.mark.parametrize(
    ("text", "entities", "description"),
    [
        ("hello", [bold(100, 1)], "entity begins after the end of the text at UTF-16 offset 100"),
        (
            "hello",
            [bold(0, 6)],
            "entity beginning at UTF-16 offset 0 ends after the end of the text at UTF-16 offset 6",
        ),
        ("😀x", [bold(1, 1)], "entity begins in a middle of a UTF-16 symbol at byte offset 4"),
        (
            "😀x",
            [bold(0, 1)],
            "entity beginning at UTF-16 offset 0 ends in a middle of a UTF-16 symbol at byte offset 4",
        ),
        ("hello", [bold(-1, 2)], "receive an entity with incorrect offset -1"),
        ("hello", [bold(0, -2)], "receive an entity with incorrect length -2"),
        ("hello", [{**bold(0, 1), "type": "sparkle"}], "can't parse MessageEntity: Unsupported type specified"),
        ("hello", [{"offset": 0, "length": 1}], "can't parse MessageEntity: Can't find field \"type\""),
        ("hello", [{"type": "bold", "length": 1}], "can't parse MessageEntity: Can't find field \"offset\""),
        ("hello", [{**bold(0, 1), "type": "text_link"}], "can't parse MessageEntity: Can't find field \"url\""),
        ("hello", ["bold"], "can't parse MessageEntity: expected an Object"),
        ("hello", {"type": "bold"}, "expected an Array of MessageEntity"),
    ],
)
def test_bad_entities_are_refused_in_telegrams_words(text: str, entities: object, description: str) -> None:
    assert refusal(text, entities=entities) == f"Bad Request: {description}"


def test_entities_count_code_units_and_are_kept() -> None:
    formatted = format_text("😀 bold 😀", entities=[bold(3, 4)])
    assert formatted.entities == [bold(3, 4)]


def test_entities_move_with_trimmed_text_and_are_clipped() -> None:
    formatted = format_text("  a bold  ", entities=[bold(4, 6)])
    assert (formatted.text, formatted.entities) == ("a bold", [bold(2, 4)])


def test_carriage_returns_vanish_and_entities_follow() -> None:
    formatted = format_text("a\r\nbold", entities=[bold(3, 4)])
    assert (formatted.text, formatted.entities) == ("a\nbold", [bold(2, 4)])


def test_nested_entities_are_ordered_the_longer_first() -> None:
    inner = {"type": "italic", "offset": 0, "length": 2}
    assert format_text("hello", entities=[inner, bold(0, 5)]).entities == [bold(0, 5), inner]


def test_types_the_server_finds_itself_are_dropped_and_found() -> None:
    given = [{"type": "mention", "offset": 0, "length": 3}]
    assert format_text("see @botfather", entities=given).entities == [{"type": "mention", "offset": 4, "length": 10}]


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("/start", ["bot_command"]),
        ("/start@sandbox_bot now", ["bot_command"]),
        ("path/to/file", []),
        ("see https://example.com/a?b=1.", ["url"]),
        ("mail a.b@example.org", ["email"]),
        ("#news and #1", ["hashtag"]),
        ("plain text, nothing", []),
    ],
)
def test_entities_found_by_the_server(text: str, kinds: list[str]) -> None:
    assert [entity["type"] for entity in format_text(text).entities] == kinds


def test_nothing_is_found_inside_code() -> None:
    formatted = format_text("`/start` and /help", "MarkdownV2")
    assert [entity["type"] for entity in formatted.entities] == ["code", "bot_command"]


@pytest.mark.parametrize(
    ("source", "text", "entities"),
    [
        ("<b>a</b> &lt;&amp;&gt; &eacute;", "a <&> &eacute;", [bold(0, 1)]),
        ("😀<i>x</i>", "😀x", [{"type": "italic", "offset": 2, "length": 1}]),
        (
            '<pre><code class="language-python">x = 1</code></pre>',
            "x = 1",
            [{"type": "pre", "offset": 0, "length": 5, "language": "python"}],
        ),
        (
            '<a href="http://example.com/">x</a>',
            "x",
            [{"type": "text_link", "offset": 0, "length": 1, "url": "http://example.com/"}],
        ),
        ("<blockquote expandable>q</blockquote>", "q", [{"type": "expandable_blockquote", "offset": 0, "length": 1}]),
        ('<span class="tg-spoiler">q</span>', "q", [{"type": "spoiler", "offset": 0, "length": 1}]),
        ("<b><i>x</i></b>", "x", [bold(0, 1), {"type": "italic", "offset": 0, "length": 1}]),
    ],
)
def test_html(source: str, text: str, entities: list[dict[str, Any]]) -> None:
    formatted = format_text(source, "HTML")
    assert (formatted.text, formatted.entities) == (text, entities)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("é<think>", 'Unsupported start tag "think" at byte offset 2'),
        ("<b>x", 'Can\'t find end tag corresponding to start tag "b"'),
        ("<b>x</i>", 'Unmatched end tag at byte offset 4, expected "</b>", found "</i>"'),
        ("x</b>", "Unexpected end tag at byte offset 1"),
        ("<b", "Unclosed start tag at byte offset 0"),
        ("<b>x</b", "Unclosed end tag at byte offset 4"),
        ("<span>x</span>", 'Tag "span" must have class "tg-spoiler" at byte offset 0'),
    ],
)
def test_bad_html(source: str, reason: str) -> None:
    assert refusal(source, "HTML") == f"Bad Request: can't parse entities: {reason}"


@pytest.mark.parametrize(
    ("source", "text", "entities"),
    [
        ("*a*", "a", [bold(0, 1)]),
        (
            "_a_ __b__",
            "a b",
            [{"type": "italic", "offset": 0, "length": 1}, {"type": "underline", "offset": 2, "length": 1}],
        ),
        (
            "||s|| ~t~",
            "s t",
            [{"type": "spoiler", "offset": 0, "length": 1}, {"type": "strikethrough", "offset": 2, "length": 1}],
        ),
        ("`a*b`", "a*b", [{"type": "code", "offset": 0, "length": 3}]),
        ("```py\nx = 1\n```", "x = 1", [{"type": "pre", "offset": 0, "length": 5, "language": "py"}]),
        ("1\\.5 \\*", "1.5 *", []),
        (
            "[a](http://example.com/x)",
            "a",
            [{"type": "text_link", "offset": 0, "length": 1, "url": "http://example.com/x"}],
        ),
        (">q\nrest", "q\nrest", [{"type": "blockquote", "offset": 0, "length": 1}]),
        ("*a _b_*", "a b", [bold(0, 3), {"type": "italic", "offset": 2, "length": 1}]),
    ],
)
def test_markdown_v2(source: str, text: str, entities: list[dict[str, Any]]) -> None:
    formatted = format_text(source, "MarkdownV2")
    assert (formatted.text, formatted.entities) == (text, entities)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("1.5", "Character '.' is reserved and must be escaped with the preceding '\\'"),
        ("a - b", "Character '-' is reserved and must be escaped with the preceding '\\'"),
        ("é*a", "Can't find end of Bold entity at byte offset 2"),
        ("`a", "Can't find end of Code entity at byte offset 0"),
        ("[a](b", "Can't find end of a URL at byte offset 3"),
    ],
)
def test_bad_markdown_v2(source: str, reason: str) -> None:
    assert refusal(source, "MarkdownV2") == f"Bad Request: can't parse entities: {reason}"


def test_the_old_markdown() -> None:
    formatted = format_text("*a* _b_ `c` [d](http://example.com/) 1.5 \\*", "Markdown")
    assert formatted.text == "a b c d 1.5 *"
    assert [entity["type"] for entity in formatted.entities] == ["bold", "italic", "code", "text_link"]
    assert "Can't find end of the entity starting at byte offset 2" in refusal("a *b", "Markdown")


def test_an_unknown_parse_mode_is_refused() -> None:
    assert refusal("x", "BBCode") == "Bad Request: unsupported parse_mode"
