"""Methods that show something to people: messages, edits, files, chat actions, answers to pressed buttons."""

from __future__ import annotations

import time
from typing import Any

from botctl.sandbox.telegram.bots import Bot
from botctl.sandbox.telegram.chats import Chat, Message
from botctl.sandbox.telegram.entities import CAPTION_LIMIT, FormattedText, format_text
from botctl.sandbox.telegram.errors import ApiError, bad_request, too_many_requests
from botctl.sandbox.telegram.keyboards import check_markup
from botctl.sandbox.telegram.methods.registry import method
from botctl.sandbox.telegram.parameters import Parameters, to_integer
from botctl.sandbox.telegram.world import World

_UPLOADED = ("photo", "video", "voice", "document", "video_note", "audio")
_RECORDED = ("video", "voice", "video_note", "audio")
ACTIONS = frozenset(
    {"typing", "choose_sticker", "find_location"}
    | {f"upload_{kind}" for kind in _UPLOADED}
    | {f"record_{kind}" for kind in _RECORDED}
)
NOT_MODIFIED = (
    "message is not modified: specified new message content and reply markup are exactly the same as a current content"
    " and reply markup of the message"
)
TOO_OLD = "query is too old and response timeout expired or query ID is invalid"


@method("sendMessage")
def send_message(world: World, bot: Bot, parameters: Parameters) -> dict[str, Any]:
    """Send a text."""
    formatted = _formatted(parameters, "text", "entities")
    content: dict[str, Any] = {"text": formatted.text}
    if formatted.entities:
        content["entities"] = formatted.entities
    return _send(world, bot, parameters, "sendMessage", content)


@method("sendDocument")
def send_document(world: World, bot: Bot, parameters: Parameters) -> dict[str, Any]:
    """Send a file, uploaded or known by its id."""
    return _send_file(world, bot, parameters, "document")


@method("sendPhoto")
def send_photo(world: World, bot: Bot, parameters: Parameters) -> dict[str, Any]:
    """Send a picture, uploaded or known by its id."""
    return _send_file(world, bot, parameters, "photo")


@method("editMessageText")
def edit_message_text(world: World, bot: Bot, parameters: Parameters) -> dict[str, Any]:
    """Replace the text of a message of the bot."""
    formatted = _formatted(parameters, "text", "entities")
    markup = _markup(parameters)
    if not parameters.text("message_id"):
        raise bad_request("message identifier is not specified")
    chat = find_chat(world, bot, parameters)
    message = _own_message(bot, chat, parameters, "edit")
    _admit(world, bot, chat)
    old = message.body
    if "text" not in old:
        raise bad_request("there is no text in the message to edit")
    if (
        old["text"] == formatted.text
        and old.get("entities", []) == formatted.entities
        and old.get("reply_markup") == markup
    ):
        raise bad_request(NOT_MODIFIED)
    changed = {key: value for key, value in old.items() if key not in ("entities", "reply_markup")}
    changed.update(text=formatted.text, edit_date=int(time.time()))
    if formatted.entities:
        changed["entities"] = formatted.entities
    if markup is not None:
        changed["reply_markup"] = markup
    message.edits.append({"at": time.time(), "text": old["text"], "entities": old.get("entities", [])})
    message.body = changed
    bot.record("edit", chat_id=chat.chat_id, message_id=message.message_id, text=formatted.text, message=changed)
    return changed


@method("deleteMessage")
def delete_message(world: World, bot: Bot, parameters: Parameters) -> bool:
    """Delete a message; it stays in the transcript, marked."""
    chat = find_chat(world, bot, parameters)
    message = chat.messages.get(parameters.integer("message_id"))
    if message is None or message.deleted:
        raise bad_request("message to delete not found")
    message.deleted = True
    bot.record("delete", chat_id=chat.chat_id, message_id=message.message_id)
    return True


@method("sendChatAction")
def send_chat_action(world: World, bot: Bot, parameters: Parameters) -> bool:
    """Show "typing…" and the like."""
    action = parameters.text("action").strip().lower()
    if action not in ACTIONS:
        raise bad_request("wrong parameter action in request")
    chat = find_chat(world, bot, parameters)
    bot.record("chat_action", chat_id=chat.chat_id, action=action)
    return True


@method("answerCallbackQuery")
def answer_callback_query(world: World, bot: Bot, parameters: Parameters) -> bool:
    """Answer a pressed button, once and in time."""
    query_id = parameters.text("callback_query_id")
    query = bot.callbacks.get(query_id)
    if query is None or query.answered or time.time() > query.at + world.callback_lifetime:
        raise bad_request(TOO_OLD)
    text = parameters.text("text")
    if len(text) > 200:
        raise bad_request("MESSAGE_TOO_LONG")
    query.answered = True
    bot.record("callback_answer", callback_query_id=query_id, text=text, show_alert=parameters.flag("show_alert"))
    return True


def find_chat(world: World, bot: Bot, parameters: Parameters) -> Chat:
    """The chat a call is about; 400 when the bot doesn't know it, 403 when the user has blocked the bot."""
    value = parameters.text("chat_id").strip()
    if not value:
        raise bad_request("chat_id is empty")
    chat_id = to_integer(value)
    chat = bot.chats.get(chat_id)
    if chat is None:
        if not world.any_chat or chat_id == 0:
            raise bad_request("chat not found")
        chat = bot.open_chat(chat_id, None, {"first_name": f"User {chat_id}"})
    if chat.blocked:
        raise ApiError(403, "Forbidden: bot was blocked by the user")
    return chat


def _formatted(parameters: Parameters, name: str, entities: str) -> FormattedText:
    explicit = parameters.structure(entities, "entities") if entities in parameters.values else None
    if name == "caption":
        return format_text(
            parameters.text(name),
            parameters.text("parse_mode"),
            explicit,
            limit=CAPTION_LIMIT,
            may_be_empty=True,
            too_long="message caption is too long",
        )
    return format_text(parameters.text(name), parameters.text("parse_mode"), explicit)


def _markup(parameters: Parameters) -> dict[str, Any] | None:
    return check_markup(parameters.structure("reply_markup", "reply keyboard markup"))


def _admit(world: World, bot: Bot, chat: Chat) -> None:
    wait = world.flood.admit(bot.bot_id, chat.chat_id, time.monotonic())
    if wait:
        raise too_many_requests(wait)


def _own_message(bot: Bot, chat: Chat, parameters: Parameters, deed: str) -> Message:
    message = chat.messages.get(parameters.integer("message_id"))
    if message is None or message.deleted:
        raise bad_request(f"message to {deed} not found")
    if message.direction != "out":
        raise bad_request(f"message can't be {deed}ed")
    return message


def _replied(chat: Chat, parameters: Parameters) -> dict[str, Any] | None:
    """The message that is answered, from reply_parameters or the older reply_to_message_id."""
    reply = parameters.structure("reply_parameters", "ReplyParameters")
    if isinstance(reply, dict):
        message_id = to_integer(reply.get("message_id", 0))
        optional = str(reply.get("allow_sending_without_reply", "")).lower() in ("true", "1")
    else:
        message_id = parameters.integer("reply_to_message_id")
        optional = parameters.flag("allow_sending_without_reply")
    if not message_id:
        return None
    message = chat.messages.get(message_id)
    if message is not None and not message.deleted:
        return {key: value for key, value in message.body.items() if key != "reply_to_message"}
    if optional:
        return None
    raise bad_request("message to be replied not found")


def _send(world: World, bot: Bot, parameters: Parameters, method_name: str, content: dict[str, Any]) -> dict[str, Any]:
    markup = _markup(parameters)
    chat = find_chat(world, bot, parameters)
    replied = _replied(chat, parameters)
    _admit(world, bot, chat)
    now = time.time()
    body: dict[str, Any] = {
        "message_id": bot.next_message_id(chat),
        "from": bot.user,
        "chat": chat.body,
        "date": int(now),
        **content,
    }
    thread = parameters.integer("message_thread_id")
    if thread:
        body.update(message_thread_id=thread, is_topic_message=True)
    if replied is not None:
        body["reply_to_message"] = replied
    if markup is not None and "inline_keyboard" in markup:
        body["reply_markup"] = markup
    message = Message("out", body, now, method_name)
    bot.keep(chat, message)
    bot.record(
        "send", chat_id=chat.chat_id, message_id=message.message_id, method=method_name, text=message.text, message=body
    )
    return body


def _send_file(world: World, bot: Bot, parameters: Parameters, kind: str) -> dict[str, Any]:
    formatted = _formatted(parameters, "caption", "caption_entities")
    upload = parameters.uploads.get(kind)
    given = parameters.text(kind)
    if given.startswith("attach://"):
        upload = parameters.uploads.get(given.removeprefix("attach://"))
    if upload is not None:
        if not upload.content:
            raise bad_request("file must be non-empty")
        find_chat(world, bot, parameters)
        stored = bot.files.add(upload.name, upload.content_type, upload.content, f"{kind}s")
    elif not given:
        raise bad_request(f"there is no {kind} in the request")
    else:
        known = bot.files.by_id(given)
        if known is None:
            raise bad_request("wrong file identifier/HTTP URL specified")
        stored = known
    content: dict[str, Any] = {kind: stored.as_document() if kind == "document" else stored.as_photo()}
    if formatted.text:
        content["caption"] = formatted.text
    if formatted.entities:
        content["caption_entities"] = formatted.entities
    return _send(world, bot, parameters, f"send{kind.capitalize()}", content)
