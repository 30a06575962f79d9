"""SCRAM-SHA-256 verifiers, computed here so that no password ever travels inside an SQL statement.

PostgreSQL stores such a verifier as it is (RFC 5802, RFC 7677). Pure: never opens a connection.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets

DEFAULT_ITERATIONS = 4096
"""PostgreSQL's own default, for passwords that a person may have chosen."""

RANDOM_PASSWORD_ITERATIONS = 1
"""For passwords of `new_password`: stretching protects short secrets; 256 random bits need none. Each new connection of
each bot would pay for it."""


def new_password() -> str:
    """256 random bits that are safe in a URL."""
    return secrets.token_urlsafe(32)


def verifier(password: str, *, iterations: int = DEFAULT_ITERATIONS, salt: bytes | None = None) -> str:
    """What `ALTER ROLE … PASSWORD` takes instead of `password`.

    `password` must be ASCII, which needs no SASLprep; raises ValueError otherwise, or when it is empty.
    """
    if not password or not password.isascii() or not password.isprintable():
        raise ValueError("a password of a login must be printable ASCII")
    salt = secrets.token_bytes(16) if salt is None else salt
    salted = hashlib.pbkdf2_hmac("sha256", password.encode("ascii"), salt, iterations)
    stored_key = hashlib.sha256(_sign(salted, b"Client Key")).digest()
    server_key = _sign(salted, b"Server Key")
    return f"SCRAM-SHA-256${iterations}:{_base64(salt)}${_base64(stored_key)}:{_base64(server_key)}"


def random_verifier(password: str) -> str:
    """`verifier` for a password made by `new_password`."""
    return verifier(password, iterations=RANDOM_PASSWORD_ITERATIONS)


def _sign(key: bytes, message: bytes) -> bytes:
    return hmac.new(key, message, hashlib.sha256).digest()


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")
