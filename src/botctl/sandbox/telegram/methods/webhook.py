"""The webhook's settings: setWebhook, deleteWebhook, getWebhookInfo. `webhooks.py` delivers."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

from botctl.sandbox.telegram.bots import Bot
from botctl.sandbox.telegram.errors import bad_request, conflict
from botctl.sandbox.telegram.methods.registry import method
from botctl.sandbox.telegram.parameters import Parameters
from botctl.sandbox.telegram.webhooks import LOOPBACK, Webhook
from botctl.sandbox.telegram.world import World

DEFAULT_CONNECTIONS, MOST_CONNECTIONS = 40, 100
SECRET_LIMIT = 256


@method("setWebhook")
def set_webhook(world: World, bot: Bot, parameters: Parameters) -> bool:
    """Deliver updates to an address from now on: getUpdates answers 409. An empty address deletes the webhook."""
    url = parameters.text("url").strip()
    if not url:
        return bool(delete_webhook(world, bot, parameters))
    parts = urlsplit(url)
    plain_allowed = parts.scheme == "http" and parts.hostname in LOOPBACK and not world.https_webhooks
    if parts.scheme != "https" and not plain_allowed:
        raise bad_request("bad webhook: An HTTPS URL must be provided for webhook")
    if not parts.hostname:
        raise bad_request("bad webhook: invalid webhook URL specified")
    secret = parameters.text("secret_token")
    if len(secret) > SECRET_LIMIT:
        raise bad_request("secret token is too long")
    if not re.fullmatch(r"[A-Za-z0-9_-]*", secret):
        raise bad_request("secret token contains unallowed characters")
    bot.updates.allow(parameters.words("allowed_updates"))
    if parameters.flag("drop_pending_updates"):
        bot.updates.drop_all()
    if bot.webhook is not None:
        bot.webhook.stop()
    most = parameters.integer("max_connections", DEFAULT_CONNECTIONS, least=1, most=MOST_CONNECTIONS)
    bot.webhook = Webhook(world, bot, url, secret, most, "certificate" in parameters.uploads)
    bot.updates.end_poll(conflict("terminated by setWebhook request"))
    bot.webhook.start()
    return True


@method("deleteWebhook")
def delete_webhook(world: World, bot: Bot, parameters: Parameters) -> bool:
    """Deliver no more; what waits is for getUpdates again, with drop_pending_updates it is gone."""
    if bot.webhook is not None:
        bot.webhook.stop()
        bot.webhook = None
    if parameters.flag("drop_pending_updates"):
        bot.updates.drop_all()
    return True


@method("getWebhookInfo")
def get_webhook_info(world: World, bot: Bot, parameters: Parameters) -> dict[str, Any]:
    """The webhook, empty without one, how many updates wait, and the last failure."""
    info: dict[str, Any] = {"url": "", "has_custom_certificate": False, "pending_update_count": len(bot.updates)}
    if bot.webhook is not None:
        info.update(bot.webhook.about())
    if bot.updates.allowed is not None:
        info["allowed_updates"] = bot.updates.allowed
    return info
