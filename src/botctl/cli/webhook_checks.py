"""What `doctor` looks at of webhooks: the settings, the certificate, and what a running daemon knows."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from botctl.cli.findings import Finding, Verdict
from botctl.cli.note import live_note
from botctl.errors import BotctlError
from botctl.settings.places import DataFolder

if TYPE_CHECKING:
    from botctl.fleet import Fleet
    from botctl.settings.model import Settings

_TIMEOUT = 20.0
_SOON = 14 * 86_400.0
"""Seconds before its end from which a certificate is worth a warning."""


def webhook_findings(settings: Settings, fleet: Fleet) -> Iterator[Finding]:
    """Nothing where nobody has a webhook."""
    from botctl.fleet.model import Updates

    named = [bot.name for bot in fleet.bots if bot.updates is Updates.WEBHOOK]
    if settings.webhook is None:
        if named:
            yield Finding(
                Verdict.FAIL,
                "webhook",
                f"{', '.join(named)}: updates: webhook, and the settings have no [webhook]",
                "config/botctl.example.toml shows it.",
            )
        return
    yield from _certificate(settings)
    folder = DataFolder(settings.data_dir)
    if live_note(folder) is None:
        yield Finding(Verdict.OK, "webhook", f"{len(named)} bots; the public address is tried while the daemon runs")
        return
    from botctl.cli.client import ApiClient

    try:
        body = ApiClient.of(folder).get("/v1/webhook", {"probe": "true"}, timeout=_TIMEOUT)
    except (BotctlError, PermissionError):
        return  # other checks tell
    yield from told(body)


def told(body: dict[str, Any]) -> Iterator[Finding]:
    """What a daemon says of its ingress."""
    if not body["listen"]:
        hint = "The daemon reads its settings when it starts."
        yield Finding(Verdict.WARN, "webhook", "the daemon that runs knows no [webhook]", hint)
        return
    if body["problem"]:
        yield Finding(Verdict.FAIL, "webhook", body["problem"], "See `botctl logs control`.")
    if body["reachable"]:
        yield Finding(Verdict.OK, "webhook", f"{body['public_url']} leads to the ingress, as seen from here")
    elif body["reachable"] is False:
        yield Finding(
            Verdict.FAIL,
            "webhook",
            f"{body['public_url']} does not lead to the ingress, as seen from here: {body['unreachable_because']}",
            f"It listens on {body['listen']}. Does the proxy pass the whole path on? May this machine reach itself?",
        )
    for bot in body["bots"]:
        subject = f"webhook of {bot['name']}"
        if bot["error"]:
            wait = f"{bot['pending']} updates wait at Telegram"
            yield Finding(Verdict.FAIL, subject, f"Telegram can't deliver: {bot['error']}; {wait}")
        else:
            wait = f", {bot['pending']} wait at Telegram" if bot["pending"] else ""
            wait = wait if bot["pending"] is not None else "; Telegram has not been asked yet what waits there"
            yield Finding(Verdict.OK, subject, f"{bot['stored']} updates since control began{wait}")


def _certificate(settings: Settings) -> Iterator[Finding]:
    webhook = settings.webhook
    if webhook is None or webhook.certificate is None or webhook.key is None:
        return
    from botctl.control.ingress.certificate import Certificate

    try:
        found = Certificate(webhook.certificate, webhook.key)
    except BotctlError as error:
        yield Finding(Verdict.FAIL, "webhook's certificate", error.message, error.hint)
        return
    left = found.expires_at - time.time()
    if left <= 0:
        hint = "Renew it; it is taken over without a restart."
        yield Finding(Verdict.FAIL, "webhook's certificate", f"has ended {-left / 86400:.0f} days ago", hint)
    else:
        verdict = Verdict.WARN if left < _SOON else Verdict.OK
        yield Finding(verdict, "webhook's certificate", f"good for {left / 86400:.0f} days more")
