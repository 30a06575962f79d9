"""Methods that receive updates: getUpdates and the webhook's settings. Webhooks are noted, but nothing is delivered."""

from __future__ import annotations

from typing import Any

from botctl.sandbox.telegram.bots import Bot
from botctl.sandbox.telegram.errors import bad_request, conflict
from botctl.sandbox.telegram.methods.registry import method, waiting_method
from botctl.sandbox.telegram.parameters import Parameters
from botctl.sandbox.telegram.world import World

LONGEST_POLL = 50
"""Seconds; the real server takes longer timeouts down to this."""
WEBHOOK_ACTIVE = "can't use getUpdates method while webhook is active; use deleteWebhook to delete the webhook first"


@waiting_method("getUpdates")
async def get_updates(world: World, bot: Bot, parameters: Parameters) -> list[dict[str, Any]]:
    """The next updates; holds the call up to `timeout` seconds when there are none."""
    if bot.webhook_url:
        raise conflict(WEBHOOK_ACTIVE)
    bot.updates.allow(_allowed(parameters))
    if again := bot.updates.repeated():
        return again
    found = await bot.updates.poll(
        parameters.integer("offset"),
        parameters.integer("limit", 100, least=1, most=100),
        parameters.integer("timeout", 0, least=0, most=LONGEST_POLL),
    )
    return [update.as_json() for update in found]


@method("getWebhookInfo")
def get_webhook_info(world: World, bot: Bot, parameters: Parameters) -> dict[str, Any]:
    """The webhook, empty without one, and how many updates wait."""
    info: dict[str, Any] = {
        "url": bot.webhook_url,
        "has_custom_certificate": False,
        "pending_update_count": len(bot.updates),
    }
    if bot.webhook_url:
        info["max_connections"] = 40
    if bot.updates.allowed is not None:
        info["allowed_updates"] = bot.updates.allowed
    return info


@method("setWebhook")
def set_webhook(world: World, bot: Bot, parameters: Parameters) -> bool:
    """Note a webhook: from now on getUpdates answers 409. An empty address deletes it."""
    url = parameters.text("url").strip()
    if url and not url.lower().startswith("https://"):
        raise bad_request("bad webhook: An HTTPS URL must be provided for webhook")
    bot.updates.allow(_allowed(parameters))
    _drop(bot, parameters)
    bot.webhook_url = url
    if url:
        bot.updates.end_poll(conflict("terminated by setWebhook request"))
    return True


@method("deleteWebhook")
def delete_webhook(world: World, bot: Bot, parameters: Parameters) -> bool:
    """Forget the webhook, with drop_pending_updates what waits too."""
    _drop(bot, parameters)
    bot.webhook_url = ""
    return True


def _drop(bot: Bot, parameters: Parameters) -> None:
    if parameters.flag("drop_pending_updates"):
        bot.updates.drop_all()


def _allowed(parameters: Parameters) -> list[str] | None:
    if "allowed_updates" not in parameters.values:
        return None
    raw = parameters.structure("allowed_updates", "allowed_updates")
    return [str(kind) for kind in raw] if isinstance(raw, list) else None
