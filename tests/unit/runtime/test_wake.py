"""`control`'s wish to wake a bot reaches its pipe, and never fills it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from botctl.errors import ProtocolError
from botctl.runtime import messages
from botctl.runtime.children import Children
from botctl.runtime.desk import Desk

PARTS = ("machine", "wire", "dispatcher", "records", "wanted", "snapshots", "generations", "shutdown", "owner")


def _sent(pipes: Any) -> list[messages.Message]:
    """What a bot with such pipes is sent."""
    children = Mock(spec=Children)
    children.bot.return_value = SimpleNamespace(pipes=pipes)
    parts: dict[str, Any] = {name: Mock() for name in PARTS}
    asked = messages.decode_control(messages.encode(messages.Wake(bot_id=7)))
    Desk(children=children, **parts).handle(asked)
    children.bot.assert_called_once_with(7)
    return [call.args[1] for call in parts["wire"].send.call_args_list]


@pytest.mark.parametrize(
    ("pipes", "wakes"),
    [(SimpleNamespace(wants_to_write=False), 1), (SimpleNamespace(wants_to_write=True), 0), (None, 0)],
)
def test_a_bot_is_woken_unless_it_has_not_read_what_it_was_sent_before(pipes: Any, wakes: int) -> None:
    assert _sent(pipes) == [messages.Wake()] * wakes


def test_a_bot_may_not_wake_others() -> None:
    with pytest.raises(ProtocolError):
        messages.decode_upward(messages.encode(messages.Wake(bot_id=8)))
