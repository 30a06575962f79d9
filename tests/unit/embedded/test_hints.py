"""What to do when a database cluster can't be made."""

from __future__ import annotations

import pytest

from botctl.embedded.postgres import _hint


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ("FATAL:  insufficient file descriptors available to start server process", "Raise the limit on open files"),
        ("[Errno 24] Too many open files", "Raise the limit on open files"),
        ('could not write to file "base/1/2": No space left on device', "Make room there"),
        ("could not change permissions", "Is there room"),
    ],
)
def test_the_hint_is_about_what_was_said(said: str, hint: str) -> None:
    assert _hint(said).startswith(hint)
