"""Telegram's flood control, as far as it tells us: whom we may not send to until when. Pure: time is an argument.

Telegram answers 429 with the seconds to wait, but doesn't say whether one chat or the whole bot is meant. One refused
chat is taken for itself; when a second one is refused while the first still waits, everybody waits.
"""

from __future__ import annotations


class Flood:
    """`chat` None stands for calls that belong to no chat."""

    def __init__(self) -> None:
        self._chats: dict[int | None, float] = {}
        self._everybody = 0.0

    def refused(self, chat: int | None, retry_after: float, now: float) -> None:
        """A call to this chat was answered with 429."""
        until = now + max(retry_after, 0.0)
        self._chats = {known: end for known, end in self._chats.items() if end > now}
        if chat is None or any(known != chat for known in self._chats):
            self._everybody = max(self._everybody, until)
        self._chats[chat] = max(self._chats.get(chat, 0.0), until)

    def wait(self, chat: int | None, now: float) -> float:
        """Seconds until a call to this chat may be made; 0 when it may be made now."""
        return max(self._everybody - now, self._chats.get(chat, 0.0) - now, 0.0)
