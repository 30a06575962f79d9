"""Media one by one and in albums: sendPhoto and its kin, sendMediaGroup."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

from botctl.sandbox.telegram.bots import Bot
from botctl.sandbox.telegram.errors import bad_request
from botctl.sandbox.telegram.media import KINDS, Kind, read_media, take_file
from botctl.sandbox.telegram.methods.registry import method
from botctl.sandbox.telegram.methods.sending import admit, caption_of, deliver, find_chat
from botctl.sandbox.telegram.parameters import Parameters
from botctl.sandbox.telegram.world import World

ALBUM_LIMIT = 10


def _sender(kind: Kind) -> Callable[[World, Bot, Parameters], dict[str, Any]]:
    def send(world: World, bot: Bot, parameters: Parameters) -> dict[str, Any]:
        caption = caption_of(parameters) if kind.captioned else {}
        find_chat(world, bot, parameters)
        stored = take_file(bot.files, parameters, kind, parameters.text(kind.name), kind.name)
        content = {**kind.show(stored, parameters.values), **caption}
        if kind.spoiler and parameters.flag("has_spoiler"):
            content["has_media_spoiler"] = True
        return deliver(world, bot, parameters, kind.method, content)

    return send


for _kind in KINDS.values():
    method(_kind.method)(_sender(_kind))


@method("sendMediaGroup")
def send_media_group(world: World, bot: Bot, parameters: Parameters) -> list[dict[str, Any]]:
    """Send an album: 2 to 10 photos and videos, or documents, or audio files; each is a message of its own."""
    raw = parameters.structure("media", "media")
    if not isinstance(raw, list) or not raw:
        raise bad_request("there are no messages to send")
    if len(raw) > ALBUM_LIMIT:
        raise bad_request("too many messages to send as an album")
    items = [read_media(parameters, item) for item in raw]
    groups = {kind.grouped for kind, _ in items}
    for kind, _ in items:
        if not kind.grouped:
            raise bad_request(f"can't parse InputMedia: type \"{kind.name}\" can't be used in sendMediaGroup")
    if len(groups) > 1:
        odd = next(group for group in ("document", "audio") if group in groups)
        raise bad_request(f"{odd} can't be mixed with other media types")
    chat = find_chat(world, bot, parameters)
    contents = []
    for kind, item in items:
        stored = take_file(bot.files, parameters, kind, str(item["media"]))
        content = {**kind.show(stored, item), **caption_of(Parameters(item))}
        if kind.spoiler and item.get("has_spoiler"):
            content["has_media_spoiler"] = True
        contents.append((kind, content))
    admit(world, bot, chat, len(items))
    group_id = {"media_group_id": str(secrets.randbelow(10**17))} if len(items) > 1 else {}
    return [
        deliver(world, bot, parameters, "sendMediaGroup", {**group_id, **content}, admitted=True)
        for _, content in contents
    ]
