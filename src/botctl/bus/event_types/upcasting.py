"""Brings an event's data from the version it was published in to the one its reader knows, step by step. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from botctl.errors import ProtocolError

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]


def upcast(
    name: str, data: dict[str, Any], version: int, newest: int, upcasters: Mapping[int, Upcaster]
) -> dict[str, Any]:
    """Data of the newest version; `upcasters[v]` brings version v to v + 1.

    Raises ProtocolError for a version that is newer than the newest or too old, and for data that can't be brought on.
    """
    if version > newest:
        raise ProtocolError(f"{name} has version {version}; {newest} is the newest known here")
    for step in range(version, newest):
        upcaster = upcasters.get(step)
        if upcaster is None:
            raise ProtocolError(f"{name} of version {step} is too old to be understood")
        try:
            data = upcaster(data)
        except (KeyError, TypeError, ValueError, AttributeError, LookupError) as error:
            raise ProtocolError(f"data of {name} version {step} can't be brought up to date: {error!r}") from error
        if not isinstance(data, dict):
            raise ProtocolError(f"the upcaster of {name} version {step} gave no dict")
    return data
