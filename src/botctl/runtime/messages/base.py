"""What all messages have in common, and what several of them carry."""

from __future__ import annotations

from typing import Annotated

import msgspec

MAX_FRAME = 1 << 16
"""Bytes of one frame from a bot, ten times what the longest of its messages takes: decoding is work for the supervisor.
`control`, which sends whole fleets, has `MAX_CONTROL_FRAME`."""

MAX_CONTROL_FRAME = 64 << 20


Count = Annotated[int, msgspec.Meta(ge=0, le=2**31)]
"""A number that a child may write: within bounds, for whatever it says is printed somewhere."""


class Message(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """Base of all messages."""


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """Passwords of one bot. The previous ones are kept because an altered password may not have taken effect yet."""

    generation: int
    database: str
    redis: str
    previous_database: str = ""
    previous_redis: str = ""


def passwords(credentials: Credentials | None) -> list[str]:
    """All that are in them."""
    if credentials is None:
        return []
    of = credentials
    return [word for word in (of.database, of.redis, of.previous_database, of.previous_redis) if word]


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """A data key of one bot: the one with the highest id seals, the others open what they have sealed."""

    id: int
    material: str
    """In base64."""
