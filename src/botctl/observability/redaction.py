"""Takes secrets out of text before it is written anywhere: log lines, tracebacks, crash output, messages to operators.

Standard library only, for slim processes too. It finds secrets by their form (bot tokens, API keys, bearer tokens,
passwords in URLs) and those that were registered, also as they look inside a URL or a JSON string. It never raises.

Work on whole lines: a secret cut in two at a border is not found.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from urllib.parse import quote, quote_plus

from botctl.disguises import encodings, parts

MASK = "***"
MIN_LENGTH = 6
"""Registered secrets shorter than this are ignored: replacing `abc` everywhere would hide the log, not the secret."""

# Every repetition is bounded or ends at a character that can't be part of it, so that hostile text costs linear time.
# Telegram's tokens are a number, a colon and 35 characters; in a URL shorter ones are taken as well. The number is the
# bot's public id and stays readable.
_TOKEN = r"(?P<bot>[0-9]{5,20}(?::|%3[Aa]))[A-Za-z0-9_-]{30,}"
_TOKEN_IN_URL = r"(?P<path>/bot[0-9]{1,20}(?::|%3[Aa]))[A-Za-z0-9_-]+"
_API_KEY = r"(?<![A-Za-z0-9])(?P<key>sk-)[A-Za-z0-9_-]{16,}"
_BEARER = r"(?P<scheme>\b[Bb](?:earer|EARER)[ :]{1,2}|\b[Aa]uthorization[\"']?[:=] ?[\"']?Basic )[A-Za-z0-9._~+/=-]{6,}"
_URL = r"(?P<url>://[^\s/:@\"'<>\\]{0,200}:)[^\s/@\"'<>\\]{1,500}(?=@)"
_PARAMETER = (
    r"(?P<name>(?:[Pp]assword|PASSWORD|[Pp]asswd|[Aa]pi_?[Kk]ey|API_KEY|[Ss]ecret)\\{0,3}[\"']?(?:=|: ?)\\{0,3}[\"']?)"
    r"[^\s\"'&,;<>\\*){}]+"
)
_FORMS = "|".join((_TOKEN, _TOKEN_IN_URL, _API_KEY, _BEARER, _URL, _PARAMETER))
_NAMES = ("bot", "path", "key", "scheme", "url", "name")
_TEXT_REPLACEMENT = "".join(rf"\g<{name}>" for name in _NAMES) + MASK

_text_forms = re.compile(_FORMS)
_byte_forms = re.compile(_FORMS.encode())
_BYTE_MASK = MASK.encode()
_byte_replacement = _TEXT_REPLACEMENT.encode()

# A cheap look that rules out most lines: each form above contains one of these, or a colon before many word characters.
_text_hints = ("://", "/bot", "sk-", "%3a", "bearer", "basic ", "passw", "apikey", "api_key", "secret")
_byte_hints = tuple(hint.encode() for hint in _text_hints)
_text_run = re.compile(r":[A-Za-z0-9_-]{30}")
_byte_run = re.compile(_text_run.pattern.encode())


class Redactor:
    """Replaces secrets by `***`. Adding secrets and redacting may happen in different threads.

    A line costs a few microseconds; each registered secret adds about 50 ns. A process that writes the lines of many
    bots should have one for each (`redactors`). Secrets of the one `beside` it count as well. With `disguised` they are
    found encoded and reversed, too, which makes about ten of each.
    """

    def __init__(self, secrets: Iterable[str] = (), *, beside: Redactor | None = None, disguised: bool = False) -> None:
        self._disguised = disguised
        self._beside = beside
        self._secrets: frozenset[str] = frozenset()
        self._text: tuple[str, ...] = ()
        self._bytes: tuple[bytes, ...] = ()
        self.add(*secrets)

    def add(self, *secrets: str) -> None:
        """From now on these are replaced wherever they appear, also percent-encoded or escaped as in JSON."""
        every = {part for secret in secrets for part in parts(secret)}
        new = {secret for secret in every if len(secret) >= MIN_LENGTH} - self._secrets
        if not new:
            return
        spellings = set(self._text).union(*map(_spellings, new))
        if self._disguised:
            spellings.update(*map(encodings, new))
        # The longest first: a secret that contains another is replaced as a whole.
        self._text = tuple(sorted(spellings, key=len, reverse=True))
        self._bytes = tuple(form.encode("utf-8", "surrogatepass") for form in self._text)
        self._secrets = self._secrets | new

    def redact(self, text: str) -> str:
        """The text without secrets."""
        for redactor in (self, self._beside):
            for secret in redactor._text if redactor is not None else ():
                if secret in text:
                    text = text.replace(secret, MASK)
        if _text_run.search(text) is None:
            lower = text.lower()
            if not any(hint in lower for hint in _text_hints):
                return text
        return _text_forms.sub(_TEXT_REPLACEMENT, text)

    def redact_bytes(self, line: bytes) -> bytes:
        """The same for bytes, in any encoding that is like ASCII."""
        for redactor in (self, self._beside):
            for secret in redactor._bytes if redactor is not None else ():
                if secret in line:
                    line = line.replace(secret, _BYTE_MASK)
        if _byte_run.search(line) is None:
            lower = line.lower()
            if not any(hint in lower for hint in _byte_hints):
                return line
        return _byte_forms.sub(_byte_replacement, line)


def _spellings(secret: str) -> set[str]:
    try:
        encoded = {quote(secret, safe=""), quote(secret), quote_plus(secret)}
    except UnicodeEncodeError:  # Lone surrogates: no URL can hold it.
        encoded = set()
    encoded |= {_lower_escapes(form) for form in encoded}
    escaped = {json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], repr(secret)[1:-1]}
    return {secret} | encoded | escaped


def _lower_escapes(text: str) -> str:
    return re.sub(r"%[0-9A-F]{2}", lambda found: found[0].lower(), text)
