"""Errors in the log of a bot that keeps messages sealed: class and place, and none of their words."""

from __future__ import annotations

from botctl.observability.discretion import hush, places


def test_a_traceback_keeps_places_and_classes_and_loses_words() -> None:
    def first() -> None:
        raise ValueError("the user said: xyzzy")

    try:
        try:
            first()
        except ValueError as error:
            raise RuntimeError("because of xyzzy") from error
    except RuntimeError as error:
        told = places(error)
    assert "xyzzy" not in told.replace('raise ValueError("the user said: xyzzy")', "").replace(
        'raise RuntimeError("because of xyzzy")', ""
    )
    for word in ("RuntimeError: …", "ValueError: …", "in first", "test_discretion.py", "which came from"):
        assert word in told


def test_a_chain_that_contains_itself_ends() -> None:
    one, two = ValueError(), KeyError()
    one.__cause__, two.__cause__ = two, one
    assert places(one).count("Traceback") == 2


def test_words_behind_a_class_are_cut_and_other_fields_stay() -> None:
    event = {"error": "ValueError: xyzzy", "reason": "HTTP 502", "attempt": 2, "event": "failed: at once"}
    assert hush(None, "error", event) == {
        "error": "ValueError", "reason": "HTTP 502", "attempt": 2, "event": "failed: at once",
    }  # fmt: skip
