"""New credentials go to a running bot together with those it has, whether `control` knew them or not."""

from __future__ import annotations

from typing import Any
from unittest.mock import Mock

import pytest

from botctl.runtime import messages
from botctl.runtime.children import Child, Children, Kind
from botctl.runtime.desk import Desk
from botctl.runtime.policies import bot_policy
from botctl.supervision.model import Record

BOT = 7


def _credentials(generation: int, **more: str) -> messages.Credentials:
    return messages.Credentials(
        generation=generation, database=f"database {generation}", redis=f"redis {generation}", **more
    )


def _rotated(held: messages.Credentials | None, given: messages.Credentials) -> messages.Credentials:
    """What the bot is sent."""
    child = Child(BOT, "one", Kind.BOT, Record(BOT, bot_policy(messages.RestartPolicy())), entry="")
    child.credentials = held
    children = Mock(spec=Children)
    children.bot.return_value = child
    parts: dict[str, Any] = {
        name: Mock()
        for name in ("machine", "wire", "dispatcher", "records", "wanted", "snapshots", "generations", "shutdown")
    }
    owner = Mock()
    Desk(children=children, owner=owner, **parts).handle(messages.Rotate(credentials=given, bot_id=BOT))
    ((_, sent), _) = parts["wire"].send.call_args
    assert child.credentials == sent.credentials, "a process that starts now gets the same"
    (_, hidden), _ = owner.keep_secret.call_args
    assert set(hidden) >= {sent.credentials.database, sent.credentials.redis}
    return sent.credentials


@pytest.mark.parametrize("generation", [2, 3])
def test_what_control_does_not_know_is_added(generation: int) -> None:
    sent = _rotated(_credentials(generation - 1), _credentials(generation))
    assert (sent.generation, sent.database, sent.redis) == (
        generation, f"database {generation}", f"redis {generation}"
    )  # fmt: skip
    assert (sent.previous_database, sent.previous_redis) == (f"database {generation - 1}", f"redis {generation - 1}")


def test_what_control_says_is_left_as_it_is() -> None:
    given = _credentials(3, previous_database="said", previous_redis="so")
    assert _rotated(_credentials(1), given) == given
    assert _rotated(None, _credentials(3)) == _credentials(3)
