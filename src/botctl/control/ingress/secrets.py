"""The secret that Telegram shows with each update of one bot, and how one takes the place of another. Pure.

An earlier secret is accepted until Telegram has been seen to use the newer one: a bot that is down tells Telegram of
the new one only when it is back.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field, replace

import msgspec

from botctl.errors import VaultError

LENGTH = 43
"""Characters: 256 random bits. Telegram takes 1 to 256 of A-Z, a-z, 0-9, _ and -."""

MOST_EARLIER = 3
"""Secrets accepted beside the newest one."""

_NOBODYS = tuple(secrets.token_urlsafe(32).encode() for _ in range(1 + MOST_EARLIER))
"""Compared with where there is none, so that every answer takes as many comparisons."""


@dataclass(frozen=True, slots=True)
class WebhookSecret:
    """`earlier` are accepted still, the newest first; `set_at` in seconds since the epoch."""

    current: str = field(repr=False)
    earlier: tuple[str, ...] = field(default=(), repr=False)
    set_at: float = 0.0
    token: str = field(default="", repr=False)
    """The bot's, as long as its webhook may have to be taken away; `proxy`: the way to Telegram."""
    proxy: str = field(default="", repr=False)

    @classmethod
    def new(cls, now: float) -> WebhookSecret:
        """From the system's random numbers."""
        return cls(secrets.token_urlsafe(32), (), now)

    def renewed(self, now: float) -> WebhookSecret:
        """A new one; what Telegram may know is accepted still."""
        earlier = (self.current, *self.earlier)[:MOST_EARLIER]
        return replace(self, current=secrets.token_urlsafe(32), earlier=earlier, set_at=now)

    def settled(self) -> WebhookSecret:
        """Telegram uses the newest one: the earlier ones are nobody's any more."""
        return replace(self, earlier=())

    @property
    def words(self) -> tuple[str, ...]:
        """All that open the door, and must stand in no log."""
        return (self.current, *self.earlier)

    def encoded(self) -> bytes:
        """As it is sealed."""
        return msgspec.json.encode(_Stored(self.current, self.earlier, self.set_at, self.token, self.proxy))

    @classmethod
    def decoded(cls, plain: bytes) -> WebhookSecret:
        """The reverse of `encoded`. Raises VaultError."""
        try:
            found = msgspec.json.decode(plain, type=_Stored)
        except msgspec.DecodeError as error:
            raise VaultError(f"a webhook's secret can't be read: {error}") from error
        return cls(found.current, found.earlier, found.set_at, found.token, found.proxy)


class _Stored(msgspec.Struct):
    current: str
    earlier: tuple[str, ...] = ()
    set_at: float = 0.0
    token: str = ""
    proxy: str = ""


def address_of(base: str, bot_id: int, word: str, certificate: str) -> str:
    """Where Telegram sends a bot's updates. What follows `v=` tells whether it has this secret and certificate."""
    version = hashlib.sha256(f"{word}\n{certificate}".encode()).hexdigest()[:12]
    return f"{base}/{bot_id}?v={version}"


def is_ours(url: str, bot_id: int, secret: WebhookSecret, certificate: str) -> bool:
    """Whether Telegram was given this address by us: it tells of one of the bot's secrets."""
    made = {address_of("", bot_id, word, pem) for word in secret.words for pem in ("", certificate)}
    return any(url.endswith(one) for one in made)


@dataclass(frozen=True, slots=True)
class Match:
    """Whether what was shown is a secret of the bot, and whether it is the newest one."""

    fits: bool
    newest: bool


def match(secret: WebhookSecret | None, shown: bytes) -> Match:
    """Compare in constant time, with as many secrets for an unknown bot as for one with many."""
    known = tuple(word.encode() for word in secret.words) if secret is not None else ()
    found = [hmac.compare_digest(shown, word) for word in (known + _NOBODYS[len(known) :])]
    # What nobody has been given is no secret of anybody, even if it should be guessed.
    fitting = found[: len(known)]
    return Match(any(fitting), bool(fitting) and fitting[0])
