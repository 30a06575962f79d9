"""The kinds of media a message may hold: how each is named, limited and shown. Pure but for the file store it fills.

A file comes by upload, by its id, or by an address. Addresses are never fetched: the file's content is the address
itself, and one below `.invalid` can't be had.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from botctl.sandbox.telegram.errors import ApiError, bad_request
from botctl.sandbox.telegram.files import FileStore, StoredFile
from botctl.sandbox.telegram.parameters import Parameters, Upload, to_integer

PHOTO_LIMIT = 10 * 1024 * 1024
UPLOAD_LIMIT = 50 * 1024 * 1024
"""Bytes, both from "Sending files" of the Bot API's documentation."""

Given = Mapping[str, Any]
"""What the bot said of the file: width, duration, title and so on."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind. `type_name` is how TDLib's complaints call it."""

    name: str
    method: str
    type_name: str
    mime_type: str
    suffix: str
    show: Callable[[StoredFile, Given], dict[str, Any]]
    captioned: bool = True
    grouped: str = ""
    """Which media an album may mix it with."""
    spoiler: bool = False

    @property
    def limit(self) -> int:
        """The most bytes of an upload."""
        return PHOTO_LIMIT if self.name == "photo" else UPLOAD_LIMIT


def _file(stored: StoredFile, given: Given, *numbers: str, **more: Any) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "file_id": stored.file_id,
        "file_unique_id": stored.unique_id,
        "file_size": len(stored.content),
        **{name: to_integer(given.get(name) or 0) for name in numbers},
    }
    shown.update({key: value for key, value in more.items() if value})
    return shown


def _named(stored: StoredFile) -> dict[str, str]:
    return {"file_name": stored.name, "mime_type": stored.mime_type}


def _photo(stored: StoredFile, given: Given) -> dict[str, Any]:
    return {"photo": stored.as_photo()}


def _document(stored: StoredFile, given: Given) -> dict[str, Any]:
    return {"document": stored.as_document()}


def _video(stored: StoredFile, given: Given) -> dict[str, Any]:
    return {"video": _file(stored, given, "width", "height", "duration", **_named(stored))}


def _animation(stored: StoredFile, given: Given) -> dict[str, Any]:
    animation = _file(stored, given, "width", "height", "duration", **_named(stored))
    return {"animation": animation, "document": stored.as_document()}


def _audio(stored: StoredFile, given: Given) -> dict[str, Any]:
    about = {"performer": given.get("performer"), "title": given.get("title")}
    return {"audio": _file(stored, given, "duration", **_named(stored), **about)}


def _voice(stored: StoredFile, given: Given) -> dict[str, Any]:
    return {"voice": _file(stored, given, "duration", mime_type=stored.mime_type)}


def _video_note(stored: StoredFile, given: Given) -> dict[str, Any]:
    length = to_integer(given.get("length") or 240)
    return {"video_note": {**_file(stored, given, "duration"), "length": length}}


def _sticker(stored: StoredFile, given: Given) -> dict[str, Any]:
    looks = {"type": "regular", "width": 512, "height": 512, "is_animated": False, "is_video": False}
    return {"sticker": {**_file(stored, given, emoji=given.get("emoji")), **looks}}


_ALL = (
    Kind("photo", "sendPhoto", "Photo", "image/jpeg", "jpg", _photo, grouped="visual", spoiler=True),
    Kind("video", "sendVideo", "Video", "video/mp4", "mp4", _video, grouped="visual", spoiler=True),
    Kind("animation", "sendAnimation", "Animation", "video/mp4", "mp4", _animation, spoiler=True),
    Kind("audio", "sendAudio", "Audio", "audio/mpeg", "mp3", _audio, grouped="audio"),
    Kind("document", "sendDocument", "Document", "application/octet-stream", "bin", _document, grouped="document"),
    Kind("voice", "sendVoice", "VoiceNote", "audio/ogg", "ogg", _voice),
    Kind("video_note", "sendVideoNote", "VideoNote", "video/mp4", "mp4", _video_note, captioned=False),
    Kind("sticker", "sendSticker", "Sticker", "image/webp", "webp", _sticker, captioned=False),
)
KINDS = {kind.name: kind for kind in _ALL}
BY_TYPE_NAME = {kind.type_name: kind for kind in _ALL}


def uploaded(parameters: Parameters, given: str, direct: str = "") -> Upload | None:
    """The upload that `attach://NAME` means, or the one in the field `direct` itself."""
    if given.startswith("attach://"):
        return parameters.uploads.get(given.removeprefix("attach://"))
    return parameters.uploads.get(direct) if direct else None


def take_file(files: FileStore, parameters: Parameters, kind: Kind, given: str, direct: str = "") -> StoredFile:
    """The file of a call, stored. Raises 400 (413 for what the server doesn't even read) as Telegram does."""
    upload = uploaded(parameters, given, direct)
    if upload is not None:
        size = len(upload.content)
        if not size:
            raise bad_request("file must be non-empty")
        if size > UPLOAD_LIMIT:
            raise ApiError(413, "Request Entity Too Large")
        if size > kind.limit:
            raise bad_request(
                f"file of size {size} bytes is too big for a photo; the maximum size is {PHOTO_LIMIT} bytes"
            )
        mime_type = upload.content_type if kind.name == "document" else kind.mime_type
        return files.add(upload.name, mime_type, upload.content, f"{kind.name}s", kind.type_name)
    if not given or given.startswith("attach://"):
        raise bad_request(f"there is no {kind.name.replace('_', ' ')} in the request")
    if "://" in given:
        return _by_address(files, kind, given)
    known = files.by_id(given)
    if known is None:
        raise bad_request("wrong file identifier/HTTP URL specified")
    if known.type_name != kind.type_name and {known.type_name, kind.type_name} != {"Animation", "Document"}:
        raise bad_request(f"can't use file of type {known.type_name} as {kind.type_name}")
    return known


def _by_address(files: FileStore, kind: Kind, address: str) -> StoredFile:
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname or kind.name == "video_note":
        raise bad_request("wrong file identifier/HTTP URL specified")
    if parts.hostname.endswith(".invalid"):
        raise bad_request("failed to get HTTP URL content")
    name = parts.path.rpartition("/")[2] or f"file.{kind.suffix}"
    return files.add(name, kind.mime_type, address.encode(), f"{kind.name}s", kind.type_name)


def read_media(parameters: Parameters, raw: object) -> tuple[Kind, dict[str, Any]]:
    """One InputMedia: its kind and its fields. Raises 400."""
    if isinstance(raw, str):
        try:
            raw = json.loads(raw)
        except ValueError:
            raise bad_request("can't parse InputMedia JSON object") from None
    if not isinstance(raw, dict):
        raise bad_request("can't parse InputMedia: expected an Object")
    kind = KINDS.get(str(raw.get("type")))
    if kind is None or not kind.captioned or kind.name == "voice":
        raise bad_request("can't parse InputMedia: type of the media is invalid")
    if not raw.get("media"):
        raise bad_request("can't parse InputMedia: Can't find field \"media\"")
    return kind, raw
