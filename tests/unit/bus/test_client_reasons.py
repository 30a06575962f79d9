"""Why Redis can't be used, in words."""

from __future__ import annotations

import pytest
from redis.exceptions import AuthenticationError, ConnectionError, ResponseError

from botctl.bus.client import reason


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionError("Error 111 connecting"), "redis is not reachable"),
        (AuthenticationError("WRONGPASS"), "redis refuses the login"),
        (
            ResponseError("MISCONF Errors writing to the AOF file: No space left on device"),
            "redis can't write to its disk: No space left on device",
        ),
        (
            ResponseError("MISCONF Valkey is configured to save RDB snapshots, but it's currently unable to persist"),
            "redis can't write to its disk: MISCONF, its log says why",
        ),
        (ResponseError("OOM command not allowed"), "redis: OOM command not allowed"),
    ],
)
def test_reason(error: Exception, words: str) -> None:
    assert reason(error) == words
