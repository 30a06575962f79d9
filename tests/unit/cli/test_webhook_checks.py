"""What `doctor` says of webhooks, from what a daemon tells."""

from __future__ import annotations

from typing import Any

import pytest

from botctl.cli.findings import Verdict
from botctl.cli.webhook_checks import told, webhook_findings
from botctl.control.ingress.desk import BotWebhookView, WebhookBody
from botctl.fleet import BotSpec, Fleet
from botctl.settings.model import Settings


def body(**more: Any) -> dict[str, Any]:
    given = {"listen": "127.0.0.1:1", "public_url": "https://a.example", "reachable": True, **more}
    return WebhookBody.model_validate(given).model_dump()


def bot(**more: Any) -> BotWebhookView:
    return BotWebhookView.model_validate({"name": "a", "bot_id": 7, **more})


@pytest.mark.parametrize(
    ("said", "verdicts", "words"),
    [
        (body(), [Verdict.OK], "leads to the ingress"),
        (body(listen=""), [Verdict.WARN], "knows no [webhook]"),
        (body(reachable=False, unreachable_because="HTTP 403"), [Verdict.FAIL], "HTTP 403"),
        (body(problem="webhook: x"), [Verdict.FAIL, Verdict.OK], "webhook: x"),
        (body(bots=[bot(pending=0, stored=4)]), [Verdict.OK, Verdict.OK], "4 updates"),
        (body(bots=[bot()]), [Verdict.OK, Verdict.OK], "has not been asked yet"),
        (body(bots=[bot(pending=3, error="Connection refused")]), [Verdict.OK, Verdict.FAIL], "Connection refused; 3"),
    ],
)
def test_what_a_daemon_tells_is_judged(said: dict[str, Any], verdicts: list[Verdict], words: str) -> None:
    found = list(told(said))
    assert [one.verdict for one in found] == verdicts
    assert any(words in one.text for one in found)


def fleet(updates: str) -> Fleet:
    return Fleet(bots=(BotSpec.model_validate({"name": "a", "token": "7:abc", "updates": updates}),))


def test_a_wish_without_an_ingress_fails_and_polling_says_nothing() -> None:
    settings = Settings()
    assert list(webhook_findings(settings, fleet("polling"))) == []
    (found,) = webhook_findings(settings, fleet("webhook"))
    assert (found.verdict, "no [webhook]" in found.text) == (Verdict.FAIL, True)
