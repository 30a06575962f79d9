"""Files that users and bots sent, in memory: ids as Telegram gives them, the oldest dropped when there is too much."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from typing import Any

SPACE_LIMIT = 64 * 1024 * 1024
"""Bytes kept for one bot."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One file of one bot."""

    file_id: str
    unique_id: str
    path: str
    name: str
    mime_type: str
    content: bytes
    type_name: str = "Document"
    """TDLib's name of what it is: a photo's id can't be sent as a document."""

    def as_document(self) -> dict[str, Any]:
        """The Document object of a message."""
        return {
            "file_name": self.name,
            "mime_type": self.mime_type,
            "file_id": self.file_id,
            "file_unique_id": self.unique_id,
            "file_size": len(self.content),
        }

    def as_photo(self) -> list[dict[str, Any]]:
        """The PhotoSize list of a message; the size in pixels is made up."""
        return [
            {
                "file_id": self.file_id,
                "file_unique_id": self.unique_id,
                "file_size": len(self.content),
                "width": 640,
                "height": 480,
            }
        ]

    def as_file(self) -> dict[str, Any]:
        """What getFile answers."""
        return {
            "file_id": self.file_id,
            "file_unique_id": self.unique_id,
            "file_size": len(self.content),
            "file_path": self.path,
        }


class FileStore:
    """The files of one bot."""

    def __init__(self, limit: int = SPACE_LIMIT) -> None:
        self._limit = limit
        self._size = 0
        self._by_id: dict[str, StoredFile] = {}
        self._by_path: dict[str, StoredFile] = {}

    def add(
        self, name: str, mime_type: str, content: bytes, folder: str = "documents", type_name: str = "Document"
    ) -> StoredFile:
        """Keep a file; makes room by forgetting the oldest."""
        unique_id = "AgAD" + hashlib.sha256(content).hexdigest()[:12]
        suffix = name.rpartition(".")[2] if "." in name else "bin"
        path = f"{folder}/file_{len(self._by_id)}_{secrets.token_hex(3)}.{suffix}"
        file_id = "BQACAgIAAxk" + secrets.token_urlsafe(24)
        stored = StoredFile(file_id, unique_id, path, name, mime_type, content, type_name)
        self._by_id[stored.file_id] = stored
        self._by_path[path] = stored
        self._size += len(content)
        while self._size > self._limit and len(self._by_id) > 1:
            oldest = next(iter(self._by_id.values()))
            del self._by_id[oldest.file_id], self._by_path[oldest.path]
            self._size -= len(oldest.content)
        return stored

    def by_id(self, file_id: str) -> StoredFile | None:
        """The file of that id."""
        return self._by_id.get(file_id)

    def by_path(self, path: str) -> StoredFile | None:
        """The file at that path of the download address."""
        return self._by_path.get(path)
