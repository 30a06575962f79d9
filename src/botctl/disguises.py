"""The forms in which programs write a secret down: as it is, encoded, turned round. Pure."""

from __future__ import annotations

import base64
import re
from urllib.parse import quote

SHORTEST = 12
"""Characters; a shorter part of a secret would be found in ordinary words."""

_TOKEN = re.compile(r"[0-9]{5,20}:([A-Za-z0-9_-]{30,})")


def parts(secret: str) -> set[str]:
    """The secret, and of a bot token also the part behind the colon: that is what is secret in it."""
    token = _TOKEN.fullmatch(secret)
    return {secret} if token is None else {secret, token[1]}


def encodings(secret: str) -> set[str]:
    """In base64 at any alignment and of both alphabets, hexadecimal, percent-encoded, reversed; none if too short."""
    if len(secret) < SHORTEST:
        return set()
    raw = secret.encode("utf-8", "surrogatepass")
    found = {secret[::-1], raw.hex(), raw.hex().upper(), quote(raw, safe="")}
    for shift in range(3):
        # The characters that hang together with neighbours are left out at both ends.
        encoded = base64.b64encode(b"\0" * shift + raw).decode().rstrip("=")
        inner = encoded[(0, 2, 3)[shift] : len(encoded) - (1 if (len(raw) + shift) % 3 else 0)]
        found |= {inner, inner.replace("+", "-").replace("/", "_")}
    return found
