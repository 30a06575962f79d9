"""Each log is freed of its own secrets and of the common ones, and nobody else's cost it time."""

from __future__ import annotations

from botctl.observability.redactors import MOST, Redactors


def test_a_log_is_freed_of_its_own_secrets_and_of_the_common_ones() -> None:
    redactors = Redactors()
    redactors.common.add("common-secret")
    redactors.keep("alice", ["alices-secret"])
    line = b"alices-secret common-secret bobs-secret"
    assert redactors.redact("alice", line) == b"*** *** bobs-secret"
    assert redactors.redact("daemon", line) == b"alices-secret *** bobs-secret"


def test_a_common_secret_that_comes_later_counts_as_well() -> None:
    redactors = Redactors()
    redactors.keep("alice", ["alices-secret"])
    redactors.common.add("common-secret")
    assert redactors.redact("alice", b"common-secret") == b"***"


def test_the_password_before_is_still_known_and_the_oldest_are_forgotten() -> None:
    redactors = Redactors()
    for day in range(10 * MOST):
        redactors.keep("alice", [f"password-{day:04}"])
    last = 10 * MOST - 1
    assert redactors.redact("alice", f"password-{last:04} password-{last - 1:04}".encode()) == b"*** ***"
    assert redactors.redact("alice", b"password-0000") == b"password-0000"
    assert len(redactors._kept["alice"]) <= MOST


def test_a_bot_that_is_gone_is_forgotten() -> None:
    redactors = Redactors()
    redactors.keep("alice", ["alices-secret"])
    redactors.keep("bob", ["bobs-secret"])
    redactors.forget_all_but(["bob"])
    assert redactors.redact("alice", b"alices-secret") == b"alices-secret"
    assert redactors.redact("bob", b"bobs-secret") == b"***"
