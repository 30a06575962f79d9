"""What people do without writing: react, vote, type an inline query, pay."""

from __future__ import annotations

import secrets
import time
from typing import Any

from botctl.sandbox.operator_json import OperatorError
from botctl.sandbox.telegram.bots import Bot
from botctl.sandbox.telegram.people import message_of, number, user_of


def react(bot: Bot, raw: object) -> dict[str, Any]:
    """A person reacts to a message: message_reaction, for bots that asked for it; the update_id is null for others."""
    if not isinstance(raw, dict) or not isinstance(raw.get("emoji"), list):
        raise OperatorError("emoji is required and is a list; an empty one takes the reaction back")
    message = message_of(bot, raw)
    user = user_of(raw.get("user"), number(raw, "chat_id"))
    old = message.reactions.get(user["id"], [])
    new = message.reactions[user["id"]] = [str(one) for one in raw["emoji"]]
    body = {
        "chat": message.body["chat"],
        "message_id": message.message_id,
        "user": user,
        "date": int(time.time()),
        "old_reaction": [{"type": "emoji", "emoji": one} for one in old],
        "new_reaction": [{"type": "emoji", "emoji": one} for one in new],
    }
    return {"update_id": bot.updates.push("message_reaction", body)}


def vote(bot: Bot, raw: object) -> dict[str, Any]:
    """A person answers a poll of the bot: a poll update, and poll_answer when the poll isn't anonymous."""
    if not isinstance(raw, dict) or not isinstance(raw.get("option_ids"), list):
        raise OperatorError("option_ids is required and is a list; an empty one takes the vote back")
    message = message_of(bot, raw)
    poll = message.body.get("poll")
    if not isinstance(poll, dict) or poll["is_closed"]:
        raise OperatorError("that message has no open poll")
    chosen = [int(one) for one in raw["option_ids"]]
    if any(not 0 <= one < len(poll["options"]) for one in chosen):
        raise OperatorError(f"the poll has the options 0 to {len(poll['options']) - 1}")
    user = user_of(raw.get("user"), number(raw, "chat_id"))
    message.votes[user["id"]] = chosen
    options = [
        {**option, "voter_count": sum(place in votes for votes in message.votes.values())}
        for place, option in enumerate(poll["options"])
    ]
    voters = sum(bool(votes) for votes in message.votes.values())
    poll = {**poll, "options": options, "total_voter_count": voters}
    message.body = {**message.body, "poll": poll}
    answer_id = None
    if not poll["is_anonymous"]:
        ids = [options[one]["persistent_id"] for one in chosen]
        answer = {"poll_id": poll["id"], "user": user, "option_ids": chosen, "option_persistent_ids": ids}
        answer_id = bot.updates.push("poll_answer", answer)
    return {"update_id": bot.updates.push("poll", poll), "answer_update_id": answer_id}


def ask_inline(bot: Bot, raw: object) -> dict[str, Any]:
    """A person types the bot's name and a query into any chat: inline_query."""
    if not isinstance(raw, dict):
        raise OperatorError("an inline query is a JSON object")
    query = {
        "from": user_of(raw.get("user"), number(raw, "user_id") if "user_id" in raw else 0),
        "query": str(raw.get("query", "")),
        "offset": str(raw.get("offset", "")),
        "chat_type": str(raw.get("chat_type", "private")),
    }
    return _ask(bot, "inline_query", query)


def pay(bot: Bot, raw: object) -> dict[str, Any]:
    """A person is about to pay an invoice: pre_checkout_query."""
    if not isinstance(raw, dict):
        raise OperatorError("a payment is a JSON object")
    query = {
        "from": user_of(raw.get("user"), number(raw, "user_id") if "user_id" in raw else 0),
        "currency": str(raw.get("currency", "XTR")),
        "total_amount": int(raw.get("total_amount", 1)),
        "invoice_payload": str(raw.get("invoice_payload", "")),
    }
    return _ask(bot, "pre_checkout_query", query)


def _ask(bot: Bot, kind: str, query: dict[str, Any]) -> dict[str, Any]:
    query_id = str(secrets.randbelow(10**18))
    bot.ask(query_id)
    return {"update_id": bot.updates.push(kind, {"id": query_id, **query}), "query_id": query_id}
