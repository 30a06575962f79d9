"""Looks for secrets in whatever bytes there are, in the forms in which programs write them down."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import quote


def forms(secret: bytes) -> set[bytes]:
    """As it is, in hexadecimal, in base64 at any alignment, percent-encoded, escaped as in JSON."""
    found = {secret, secret.hex().encode(), secret.hex().upper().encode()}
    for shift in range(3):
        encoded = base64.b64encode(b"\0" * shift + secret).rstrip(b"=")
        # The characters at both ends depend on the neighbours.
        inner = encoded[(0, 2, 3)[shift] : len(encoded) - (1 if (len(secret) + shift) % 3 else 0)]
        found |= {inner, inner.replace(b"+", b"-").replace(b"/", b"_")}
    try:
        text = secret.decode()
    except UnicodeDecodeError:
        return found
    return found | {quote(text, safe="").encode(), json.dumps(text)[1:-1].encode()}


def found_in(secrets: Mapping[str, bytes], places: Iterable[tuple[str, bytes]]) -> list[str]:
    """`SECRET in PLACE` for each that is found; a place may come more than once."""
    needles = {name: forms(secret) for name, secret in secrets.items()}
    assert all(len(form) >= 12 for known in needles.values() for form in known), "too short to be told from chance"
    return sorted(
        {
            f"{name} in {place}"
            for place, body in places
            for name, known in needles.items()
            if any(form in body for form in known)
        }
    )


def files(folder: Path, but: Iterable[Path] = ()) -> Iterable[tuple[str, bytes]]:
    """All files below a folder: their names and what is in them."""
    left_out = set(but)
    for path in folder.rglob("*"):
        if path not in left_out and path.is_file() and not path.is_symlink():
            try:
                yield str(path.relative_to(folder)), bytes(path) + b"\n" + path.read_bytes()
            except FileNotFoundError:
                continue  # a log of the server's that was recycled meanwhile
