"""SCRAM verifiers, against the RFC's example and PostgreSQL's format."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest

from botctl.storage import scram


def test_the_keys_are_those_of_rfc_7677() -> None:
    """The exchange of RFC 7677, section 3: from our keys follow its proof and its server signature."""
    made = scram.verifier("pencil", iterations=4096, salt=base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ=="))
    head, keys = made.rsplit("$", 1)
    assert head == "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ=="
    stored_key, server_key = (base64.b64decode(key) for key in keys.split(":"))
    exchange = (
        b"n=user,r=rOprNGfwEbeRWgbNEkqO,"
        b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,"
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    )
    signature = hmac.new(server_key, exchange, hashlib.sha256).digest()
    assert base64.b64encode(signature) == b"6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
    proof = base64.b64decode("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
    client_signature = hmac.new(stored_key, exchange, hashlib.sha256).digest()
    client_key = bytes(a ^ b for a, b in zip(proof, client_signature, strict=True))
    assert hashlib.sha256(client_key).digest() == stored_key


def test_the_same_password_never_gives_the_same_verifier() -> None:
    assert scram.verifier("secret") != scram.verifier("secret")


def test_a_random_password_is_long_and_needs_no_stretching() -> None:
    password = scram.new_password()
    assert len(password) >= 43
    assert password != scram.new_password()
    assert scram.random_verifier(password).startswith("SCRAM-SHA-256$1:")


@pytest.mark.parametrize("password", ["", "pässword", "tab\tseparated", "nul\0"])
def test_a_password_that_would_need_saslprep_is_refused(password: str) -> None:
    with pytest.raises(ValueError, match="printable ASCII"):
        scram.verifier(password)
