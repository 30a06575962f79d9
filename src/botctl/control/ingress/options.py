"""The ingress's settings as `control` is handed them, and what bots are told of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from botctl.handover import WebhookTarget
from botctl.settings.webhook import WebhookSettings


def webhook_of(options: Mapping[str, Any]) -> WebhookSettings | None:
    """`ControlConfig.options["webhook"]`, checked when the daemon was started."""
    given = options.get("webhook")
    return WebhookSettings.model_validate(given) if given is not None else None


def target_of(settings: WebhookSettings | None) -> WebhookTarget | None:
    """For all bots, without their secrets and ids. A certificate that can't be read now is told to them later."""
    if settings is None:
        return None
    pem = ""
    if settings.upload_certificate and settings.certificate is not None:
        try:
            pem = settings.certificate.read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError):
            pem = ""
    return WebhookTarget(url=settings.public_url, secret="", max_connections=settings.max_connections, certificate=pem)
