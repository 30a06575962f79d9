"""getUpdates."""

from __future__ import annotations

from typing import Any

from botctl.sandbox.telegram.bots import Bot
from botctl.sandbox.telegram.errors import conflict
from botctl.sandbox.telegram.methods.registry import waiting_method
from botctl.sandbox.telegram.parameters import Parameters
from botctl.sandbox.telegram.world import World

LONGEST_POLL = 50
"""Seconds; the real server takes longer timeouts down to this."""
WEBHOOK_ACTIVE = "can't use getUpdates method while webhook is active; use deleteWebhook to delete the webhook first"


@waiting_method("getUpdates")
async def get_updates(world: World, bot: Bot, parameters: Parameters) -> list[dict[str, Any]]:
    """The next updates; holds the call up to `timeout` seconds when there are none."""
    if bot.webhook is not None:
        raise conflict(WEBHOOK_ACTIVE)
    bot.updates.allow(parameters.words("allowed_updates"))
    if again := bot.updates.repeated():
        return again
    found = await bot.updates.poll(
        parameters.integer("offset"),
        parameters.integer("limit", 100, least=1, most=100),
        parameters.integer("timeout", 0, least=0, most=LONGEST_POLL),
    )
    return [update.as_json() for update in found]
