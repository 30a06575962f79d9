"""Messages that are neither text nor a file: places, contacts, polls, dice."""

from __future__ import annotations

import random
import secrets
import time
from typing import Any

from botctl.sandbox.telegram.bots import Bot
from botctl.sandbox.telegram.entities import format_text
from botctl.sandbox.telegram.errors import bad_request
from botctl.sandbox.telegram.methods.registry import method
from botctl.sandbox.telegram.methods.sending import deliver, find_chat, markup_of, own_message
from botctl.sandbox.telegram.parameters import Parameters
from botctl.sandbox.telegram.world import World

DICE = {"🎲": 6, "🎯": 6, "🎳": 6, "🏀": 5, "⚽": 5, "🎰": 64}
QUESTION_LIMIT = 300
OPTION_LIMIT = 100
MOST_OPTIONS = 12


def _place(parameters: Parameters) -> dict[str, float]:
    try:
        place = {name: float(parameters.text(name)) for name in ("latitude", "longitude")}
    except ValueError:
        raise bad_request("latitude or longitude is empty or invalid") from None
    if abs(place["latitude"]) > 90 or abs(place["longitude"]) > 180:
        raise bad_request("wrong location specified")
    return place


def _required(parameters: Parameters, name: str) -> str:
    value = parameters.text(name).strip()
    if not value:
        raise bad_request(f"{name.replace('_', ' ')} must be non-empty")
    return value


@method("sendLocation")
def send_location(world: World, bot: Bot, parameters: Parameters) -> dict[str, Any]:
    """Send a point on the map, with live_period one that may move."""
    location: dict[str, Any] = dict(_place(parameters))
    for name in ("live_period", "heading", "proximity_alert_radius"):
        if value := parameters.integer(name):
            location[name] = value
    return deliver(world, bot, parameters, "sendLocation", {"location": location})


@method("sendVenue")
def send_venue(world: World, bot: Bot, parameters: Parameters) -> dict[str, Any]:
    """Send a place with its name and address."""
    location = _place(parameters)
    venue = {
        "location": location,
        "title": _required(parameters, "title"),
        "address": _required(parameters, "address"),
    }
    return deliver(world, bot, parameters, "sendVenue", {"venue": venue, "location": location})


@method("sendContact")
def send_contact(world: World, bot: Bot, parameters: Parameters) -> dict[str, Any]:
    """Send a phone number with a name."""
    contact = {name: _required(parameters, name) for name in ("phone_number", "first_name")}
    for name in ("last_name", "vcard"):
        if value := parameters.text(name):
            contact[name] = value
    return deliver(world, bot, parameters, "sendContact", {"contact": contact})


@method("sendDice")
def send_dice(world: World, bot: Bot, parameters: Parameters) -> dict[str, Any]:
    """Throw; the server draws."""
    emoji = parameters.text("emoji", "🎲").replace("\ufe0f", "")
    if emoji not in DICE:
        raise bad_request("wrong dice emoji specified")
    value = random.randint(1, DICE[emoji])
    return deliver(world, bot, parameters, "sendDice", {"dice": {"emoji": emoji, "value": value}})


@method("sendPoll")
def send_poll(world: World, bot: Bot, parameters: Parameters) -> dict[str, Any]:
    """Ask something with 1 to 12 answers to choose from."""
    question = format_text(
        parameters.text("question"), limit=QUESTION_LIMIT, too_long="poll question length must not exceed 300"
    ).text
    raw = parameters.structure("options", "options")
    if not isinstance(raw, list):
        raise bad_request("can't parse options: expected an Array of InputPollOption")
    texts = [str(one.get("text", "") if isinstance(one, dict) else one).strip() for one in raw]
    if not texts:
        raise bad_request("poll must have at least 1 option")
    if len(texts) > MOST_OPTIONS:
        raise bad_request(f"poll can't have more than {MOST_OPTIONS} options")
    if not all(texts):
        raise bad_request("poll options must be non-empty")
    if any(len(text) > OPTION_LIMIT for text in texts):
        raise bad_request(f"poll options length must not exceed {OPTION_LIMIT}")
    kind = parameters.text("type", "regular")
    poll: dict[str, Any] = {
        "id": str(secrets.randbelow(10**18)),
        "question": question,
        "options": [{"persistent_id": str(n), "text": text, "voter_count": 0} for n, text in enumerate(texts)],
        "total_voter_count": 0,
        "is_closed": parameters.flag("is_closed"),
        "is_anonymous": parameters.flag("is_anonymous", True),
        "type": kind,
        "allows_multiple_answers": parameters.flag("allows_multiple_answers"),
        "allows_revoting": parameters.flag("allows_revoting", kind == "regular"),
        "members_only": parameters.flag("members_only"),
    }
    if kind == "quiz":
        correct = parameters.integer("correct_option_id", -1)
        if not 0 <= correct < len(texts):
            raise bad_request("wrong correct option ID specified")
        poll["correct_option_id"] = correct
    return deliver(world, bot, parameters, "sendPoll", {"poll": poll})


@method("stopPoll")
def stop_poll(world: World, bot: Bot, parameters: Parameters) -> dict[str, Any]:
    """Close a poll; the Poll as it ended."""
    markup = markup_of(parameters)
    chat = find_chat(world, bot, parameters)
    message = chat.messages.get(parameters.integer("message_id"))
    if message is None or message.deleted or "poll" not in message.body:
        raise bad_request("message with poll to stop not found")
    own_message(chat, parameters, "edit")
    if message.body["poll"]["is_closed"]:
        raise bad_request("poll has already been closed")
    poll = {**message.body["poll"], "is_closed": True}
    message.body = {**message.body, "poll": poll, "edit_date": int(time.time())}
    message.body.pop("reply_markup", None)
    if markup is not None:
        message.body["reply_markup"] = markup
    bot.record("edit", chat_id=chat.chat_id, message_id=message.message_id, message=message.body)
    return poll
