"""What Telegram says of a webhook, judged; and updates counted that others have stored."""

from __future__ import annotations

from typing import Any

import pytest

from botctl.bot.receiving.arrivals import Arrivals
from botctl.bot.receiving.updates import ALLOWED_UPDATES
from botctl.bot.receiving.webhook_rules import RECENT, differs, failing
from botctl.bot.vitals.health import Health
from botctl.handover import WebhookTarget
from botctl.storage.inbox import InboxRow

TARGET = WebhookTarget(url="https://bots.example/7?v=abc", secret="s", max_connections=40)
GOOD: dict[str, Any] = {
    "url": TARGET.url,
    "max_connections": 40,
    "allowed_updates": sorted(ALLOWED_UPDATES),
    "pending_update_count": 0,
}


def test_a_webhook_as_it_was_set_is_left_alone() -> None:
    assert differs(GOOD, TARGET, ALLOWED_UPDATES) == ""


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"url": ""}, "no webhook"),
        ({"url": "https://bots.example/7?v=abd"}, "address"),
        ({"max_connections": 1}, "max_connections"),
        ({"max_connections": None}, "max_connections"),
        ({"allowed_updates": ["message"]}, "allowed_updates"),
        ({"allowed_updates": None}, "allowed_updates"),
    ],
)
def test_anything_else_is_set_again(change: dict[str, Any], word: str) -> None:
    assert word in differs({**GOOD, **change}, TARGET, ALLOWED_UPDATES)
    assert differs([], TARGET, ALLOWED_UPDATES)


def test_telegrams_last_failure_counts_while_it_is_fresh_and_updates_wait() -> None:
    failed = {"pending_update_count": 3, "last_error_date": 1000, "last_error_message": "Connection refused"}
    assert failing(failed, 1000 + RECENT) == "Connection refused"
    assert failing(failed, 1001 + RECENT) == ""
    assert failing({**failed, "pending_update_count": 0}, 1000) == ""
    assert failing({**failed, "last_error_message": None}, 1000) == ""
    assert failing(GOOD, 1000) == failing([], 1000) == ""


def row(number: int, attempts: int = 0, cause: str = "") -> InboxRow:
    return InboxRow(number, cause or f"update:{number}", "message", "chat:1", "{}", "t", attempts=attempts)


def test_an_update_is_counted_once_when_work_on_it_begins() -> None:
    health, now = Health(), [5.0]
    arrivals = Arrivals(health, lambda: now[0])
    arrivals.begins(row(1))
    assert health.counters["updates"] == 0, "a bot that polls counts what it stores"
    arrivals.counts, now[0] = True, 9.0
    for one in (row(2), row(2), row(3, attempts=1), row(4, cause="event:x"), row(5, cause="op:x")):
        arrivals.begins(one)
    assert (health.counters["updates"], arrivals.last) == (1, 9.0)
