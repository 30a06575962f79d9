"""The limits an operator may change while the emulator runs: flood control, lifetimes, the pace of webhooks."""

from __future__ import annotations

from typing import Any

from botctl.sandbox.operator_json import OperatorError
from botctl.sandbox.telegram.flood import FloodControl
from botctl.sandbox.telegram.world import World

_FLOOD = {
    "chat_burst": "burst",
    "chat_rate": "rate",
    "group_burst": "group_burst",
    "group_rate": "group_rate",
    "bot_burst": "bot_burst",
    "bot_rate": "bot_rate",
}
PRESETS = {"telegram": FloodControl.telegram, "off": FloodControl}
LEAST_RATE = 0.001


def change_limits(world: World, raw: object) -> dict[str, Any]:
    """Take over what is given, first `flood` (`telegram` or `off`), then single figures; all limits as they are then.

    Raises OperatorError on unknown names and wrong types; nothing is changed then.
    """
    known = {"flood", "callback_lifetime", "webhook_pace", *_FLOOD}
    if not isinstance(raw, dict) or set(raw) - known:
        raise OperatorError(f"limits are a JSON object of {', '.join(sorted(known))}")
    preset = raw.get("flood")
    if preset is not None and preset not in PRESETS:
        raise OperatorError(f"flood is one of {', '.join(PRESETS)}")
    figures = {name: value for name, value in raw.items() if name != "flood"}
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in figures.values()):
        raise OperatorError("limits are numbers")
    flood = PRESETS[preset]() if preset is not None else world.flood
    for name, field in _FLOOD.items():
        if name in figures:
            value = figures[name]
            setattr(flood, field, int(value) if field.endswith("burst") else max(LEAST_RATE, float(value)))
    world.flood = flood
    world.callback_lifetime = float(figures.get("callback_lifetime", world.callback_lifetime))
    world.webhook_pace = max(0.0, float(figures.get("webhook_pace", world.webhook_pace)))
    return {
        **{name: getattr(flood, field) for name, field in _FLOOD.items()},
        "callback_lifetime": world.callback_lifetime,
        "webhook_pace": world.webhook_pace,
    }
