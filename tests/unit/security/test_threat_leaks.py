"""What is caught in an outgoing message, and what is let through. The secrets are made up."""

from __future__ import annotations

import base64
import hashlib
from urllib.parse import quote

import pytest

from botctl.security.threat.leaks import CANARY, LeakFinder

TOKEN = "7012345678:AAE-x1y2z3A4b5C6d7E8f9G0h1I2j3K4l5m"
KEY = "sk-proj-Zk8_Qw7eRt6yUi5oPa4sDf3g"
FINDER = LeakFinder({"its own bot token": TOKEN, "its own completion key": KEY})


def _spaced(text: str) -> str:
    return " ".join(text)


FORMS = {
    "as it is": lambda s: s,
    "within a sentence": lambda s: f"My secret is {s}, keep it.",
    "in base64": lambda s: base64.b64encode(s.encode()).decode(),
    "in base64, one byte on": lambda s: base64.b64encode(b"x" + s.encode() + b"yz").decode(),
    "in base64, two bytes on": lambda s: base64.b64encode(b"xy" + s.encode() + b"z").decode(),
    "in base64 for URLs": lambda s: base64.urlsafe_b64encode(s.encode()).decode(),
    "in hexadecimal": lambda s: s.encode().hex(),
    "in a URL": lambda s: "https://x.test/?q=" + quote(s, safe=""),
    "every character percent-encoded": lambda s: "".join(f"%{byte:02x}" for byte in s.encode()),
    "reversed": lambda s: s[::-1],
    "spaced": _spaced,
    "with zero-width marks": lambda s: "\u200b".join(s),
    "over several lines": lambda s: "\n".join(s[i : i + 5] for i in range(0, len(s), 5)),
    "in full-width letters": lambda s: "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in s),
    "with pictures between": lambda s: "🙂".join(s),
    "in bold pieces": lambda s: "".join(f"**{c}**" for c in s),
}


@pytest.mark.parametrize("secret", [TOKEN, KEY, TOKEN.rpartition(":")[2]], ids=["token", "key", "half a token"])
@pytest.mark.parametrize("form", FORMS)
def test_an_own_secret_is_found(form: str, secret: str) -> None:
    found = FINDER.find(["hello", FORMS[form](secret)])
    assert found is not None
    assert secret not in found


def test_a_token_of_another_bot_is_found_by_its_form() -> None:
    assert LeakFinder().find(["try 5555555555:AAHabcdefghijklmnopqrstuvwxyz012345 now"]) == "a bot token"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "Use 123456:ABC-DEF1234ghIkl-zyx57W2v1u123ew11 as in the documentation.",
        "1234567:89 is no token, and neither is 12:30:45",
        "sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "9999999:" + "a" * 64,
        "https://example.test/7012345678/AAE",
        "Tomorrow at 10: we meet. " * 150,
        base64.b64encode(b"an ordinary picture" * 40).decode(),
    ],
)
def test_ordinary_text_is_let_through(text: str) -> None:
    assert FINDER.find([text]) is None


def test_a_short_secret_is_not_looked_for() -> None:
    assert LeakFinder({"a password": "secret"}).find(["it is no secret"]) is None


def test_the_word_of_a_canary_is_told_from_any_other_token() -> None:
    word = "999999999999:" + "c" * 35
    finder = LeakFinder({"its own bot token": TOKEN}, hashlib.sha256(word.encode()).hexdigest())
    assert finder.find([f"look: {word}"]) == CANARY
    assert finder.find([f"{TOKEN} and {word}"]) == CANARY
    assert finder.find([f"look: 999999999999:{'d' * 35}"]) == "a bot token"
    assert LeakFinder().find([word]) == "a bot token"
