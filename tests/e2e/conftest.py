from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.stack import Stack, new_stack


@pytest.fixture
def stack() -> Iterator[Stack]:
    """A fresh stack for one test."""
    with new_stack() as made:
        yield made
