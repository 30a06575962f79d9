"""Secrets don't get through, other text does, and hostile text costs no time."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from botctl.observability.redaction import Redactor

TOKEN = "123456789:" + "AAHfiqksKZ8-mR2zSjiQ7_v4TMAKdiHm9T0"
BY_FORM = [
    (TOKEN, "AAHfiqksKZ8"),
    (f"https://api.telegram.org/bot{TOKEN}/getMe", "AAHfiqksKZ8"),
    (f"https://api.telegram.org/file/bot{TOKEN}/photos/1.jpg", "AAHfiqksKZ8"),
    (f"https://api.telegram.org/bot{TOKEN.replace(':', '%3A')}/getMe", "AAHfiqksKZ8"),
    ("http://127.0.0.1:8081/bot42:short/sendMessage", "short"),
    (f"chat{TOKEN}", "AAHfiqksKZ8"),
    ("key sk-abcdefghijklmnopqrstuvwx rest", "abcdefghijkl"),
    ("key sk-proj-abc_defghijklmnopqr-stuvwx rest", "abc_defghijkl"),
    ("Authorization: Bearer abc.def-ghi_jkl", "abc.def"),
    ("{'authorization': 'Bearer abcdefgh'}", "abcdefgh"),
    ("authorization: Basic dXNlcjpwYXNz", "dXNlcjpwYXNz"),
    ("postgresql://botctl:p%40ssw0rd@db:5432/botctl", "p%40ssw0rd"),
    ("postgresql+asyncpg://u:hunter@[::1]/x", "hunter"),
    ("redis://:hunter@localhost:6379/0", "hunter"),
    ("host=db password=hunter user=x", "hunter"),
    ('{"password": "hunter"}', "hunter"),
    ('{"event": "{\\"api_key\\": \\"hunter\\"}"}', "hunter"),
    ("OPENAI_API_KEY=hunter", "hunter"),
]


@pytest.mark.parametrize(("text", "secret"), BY_FORM)
def test_a_secret_is_known_by_its_form(text: str, secret: str) -> None:
    redactor = Redactor()
    assert secret not in redactor.redact(text)
    assert "***" in redactor.redact(text)
    assert redactor.redact_bytes(text.encode()) == redactor.redact(text).encode()


def test_the_bots_public_id_stays_readable() -> None:
    assert Redactor().redact(f"/bot{TOKEN}/getMe") == "/bot123456789:***/getMe"


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-12T10:11:12.123456Z started",
        "https://example.com:8080/path?x=user@example.com",
        "see https://example.com/a/b:c",
        "task-management-of-something-long-enough",
        '{"input_tokens": 12, "chat_id": 123456789, "trace_id": "0123456789abcdef0123456789abcdef0123"}',
        "10:20:30 a:b:c",
        "file.py:12: SomeError",
    ],
)
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert Redactor(["never-there"]).redact(text) == text
    assert Redactor(["never-there"]).redact_bytes(text.encode()) == text.encode()


SECRETS = st.text(min_size=6, max_size=30)


@given(st.lists(SECRETS, min_size=1, max_size=4), st.text(max_size=20))
def test_a_registered_secret_never_gets_through_however_it_is_spelled(secrets: list[str], around: str) -> None:
    redactor = Redactor(secrets)
    secret = secrets[0]
    spellings = [secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], repr(secret)[1:-1]]
    if secret.isprintable():
        spellings += [quote(secret, safe=""), quote(secret)]
    for spelling in spellings:
        if set(spelling) <= {"*"}:
            continue
        assert spelling not in redactor.redact(f"<{spelling}>")
        assert spelling.encode("utf-8", "surrogatepass") not in redactor.redact_bytes(
            f"<{spelling}>".encode("utf-8", "surrogatepass")
        )


def test_of_two_secrets_one_inside_the_other_the_longer_goes_as_a_whole() -> None:
    assert Redactor(["abcdef", "abcdef-ghijkl"]).redact("x abcdef-ghijkl y abcdef") == "x *** y ***"


def test_what_is_too_short_to_be_a_secret_is_left() -> None:
    assert Redactor(["abc", ""]).redact("abc") == "abc"


@given(st.text(max_size=300))
def test_any_text_is_taken_and_text_and_bytes_agree(text: str) -> None:
    redactor = Redactor([TOKEN])
    assert redactor.redact_bytes(text.encode()) == redactor.redact(text).encode()


@given(st.binary(max_size=300))
def test_any_bytes_are_taken(line: bytes) -> None:
    Redactor([TOKEN]).redact_bytes(line)


FRAGMENTS = [
    "1",
    "12345:",
    ":",
    "a",
    "://",
    "u:",
    "@",
    "sk-",
    "Bearer ",
    "/bot1:",
    "password=",
    "%3A",
    "-",
    '"',
    "secret: ",
]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(FRAGMENTS), min_size=1, max_size=5))
def test_hostile_text_costs_time_in_proportion_to_its_length(fragments: list[str]) -> None:
    text = "".join(fragments)
    text = text * (60_000 // len(text)) + ":" + "a" * 40
    start = time.process_time()
    Redactor([TOKEN]).redact(text)
    assert time.process_time() - start < 1.0


def test_it_needs_nothing_that_a_slim_process_does_not_have() -> None:
    code = "import botctl.observability.redaction, sys; print({'asyncio', 'structlog', 'msgspec'} & {*sys.modules})"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"
