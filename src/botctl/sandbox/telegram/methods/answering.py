"""Answers to what people did: pressed buttons, inline queries, payments, messages to react to."""

from __future__ import annotations

import time

from botctl.sandbox.telegram.bots import Bot
from botctl.sandbox.telegram.errors import bad_request
from botctl.sandbox.telegram.methods.registry import method
from botctl.sandbox.telegram.methods.sending import find_chat
from botctl.sandbox.telegram.parameters import Parameters
from botctl.sandbox.telegram.world import World

TOO_OLD = "query is too old and response timeout expired or query ID is invalid"
MOST_RESULTS = 50
_EMOJI = """
❤ 👍 👎 🔥 🥰 👏 😁 🤔 🤯 😱 🤬 😢 🎉 🤩 🤮 💩 🙏 👌 🕊 🤡
🥱 🥴 😍 🐳 ❤\u200d🔥 🌚 🌭 💯 🤣 ⚡ 🍌 🏆 💔 🤨 😐 🍓 🍾 💋 🖕 😈
😴 😭 🤓 👻 👨\u200d💻 👀 🎃 🙈 😇 😨 🤝 ✍ 🤗 🫡 🎅 🎄 ☃ 💅 🤪 🗿
🆒 💘 🙉 🦄 😘 💊 🙊 😎 👾 🤷\u200d♂ 🤷 🤷\u200d♀ 😡
"""
REACTIONS = frozenset(_EMOJI.split())
"""What the documentation of ReactionTypeEmoji lists."""


def _ask(world: World, bot: Bot, query_id: str) -> None:
    """Take a query as answered; once, and in time."""
    query = bot.callbacks.get(query_id)
    if query is None or query.answered or time.time() > query.at + world.callback_lifetime:
        raise bad_request(TOO_OLD)
    query.answered = True


@method("answerCallbackQuery")
def answer_callback_query(world: World, bot: Bot, parameters: Parameters) -> bool:
    """Answer a pressed button, once and in time."""
    text = parameters.text("text")
    if len(text) > 200:
        raise bad_request("MESSAGE_TOO_LONG")
    query_id = parameters.text("callback_query_id")
    _ask(world, bot, query_id)
    bot.record("callback_answer", callback_query_id=query_id, text=text, show_alert=parameters.flag("show_alert"))
    return True


@method("answerInlineQuery")
def answer_inline_query(world: World, bot: Bot, parameters: Parameters) -> bool:
    """Answer somebody who types the bot's name into any chat: at most 50 results with ids of their own."""
    results = parameters.structure("results", "inline query results")
    if not isinstance(results, list) or not all(isinstance(one, dict) for one in results):
        raise bad_request("can't parse inline query results: expected an Array")
    if len(results) > MOST_RESULTS:
        raise bad_request("RESULTS_TOO_MUCH")
    ids = [str(one.get("id", "")) for one in results]
    if not all(0 < len(one.encode()) <= 64 for one in ids):
        raise bad_request("RESULT_ID_INVALID")
    if len(set(ids)) < len(ids):
        raise bad_request("RESULT_ID_DUPLICATE")
    query_id = parameters.text("inline_query_id")
    _ask(world, bot, query_id)
    bot.record("inline_answer", inline_query_id=query_id, results=results)
    return True


@method("answerPreCheckoutQuery")
def answer_pre_checkout_query(world: World, bot: Bot, parameters: Parameters) -> bool:
    """Let a payment go on, or say why not."""
    ok = parameters.flag("ok")
    reason = parameters.text("error_message")
    if not ok and not reason:
        raise bad_request("error_message must be non-empty")
    query_id = parameters.text("pre_checkout_query_id")
    _ask(world, bot, query_id)
    bot.record("pre_checkout_answer", pre_checkout_query_id=query_id, ok=ok, text=reason)
    return True


@method("setMessageReaction")
def set_message_reaction(world: World, bot: Bot, parameters: Parameters) -> bool:
    """React to a message with one emoji, or take the reaction back."""
    raw = parameters.structure("reaction", "reaction") or []
    if not isinstance(raw, list) or not all(isinstance(one, dict) for one in raw):
        raise bad_request("can't parse reaction: expected an Array of ReactionType")
    chat = find_chat(world, bot, parameters)
    message = chat.messages.get(parameters.integer("message_id"))
    if message is None or message.deleted:
        raise bad_request("message to react not found")
    if len(raw) > 1:
        raise bad_request("REACTIONS_TOO_MANY")
    emoji = [str(one.get("emoji", "")) for one in raw if one.get("type") == "emoji"]
    if len(emoji) < len(raw) or not REACTIONS.issuperset(one.replace("\ufe0f", "") for one in emoji):
        raise bad_request("REACTION_INVALID")
    message.reactions[bot.bot_id] = emoji
    bot.record("reaction", chat_id=chat.chat_id, message_id=message.message_id, text="".join(emoji))
    return True
