"""What a chaos run takes of the operator's own: bots and handlers; no token, key, proxy, nor list of who may talk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import count

from pydantic import SecretStr

from botctl.fleet import Fleet
from botctl.fleet.model import Access

SECRET = "sandbox-only-".ljust(35, "x")
FIRST_BOT = 7_600_000_001
"""Ids of bots whose tokens stand in variables that aren't set."""


class Stand(Mapping[str, str]):
    """The environment of a fleet file: what isn't set is made up, in a token's form, since no true one is needed."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = dict(env)
        self._numbers = count(FIRST_BOT)

    def __getitem__(self, name: str) -> str:
        if not self._env.get(name):
            self._env[name] = f"{next(self._numbers)}:{SECRET}"
        return self._env[name]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str)

    def __iter__(self) -> Iterator[str]:
        return iter(self._env)

    def __len__(self) -> int:
        return len(self._env)


def sandboxed(fleet: Fleet, *, real_completions: bool) -> Fleet:
    """The same bots with tokens that only the sandbox knows, no proxy, and open to the simulated users."""
    bots = []
    for bot in fleet.bots:
        assistant = bot.assistant
        if assistant is not None and not real_completions:
            assistant = assistant.model_copy(update={"api_key": None, "base_url": None})
        changed = {
            "token": SecretStr(f"{bot.bot_id}:{SECRET}"),
            "proxy": None,
            "access": Access(),
            "assistant": assistant,
        }
        bots.append(bot.model_copy(update=changed))
    return fleet.model_copy(update={"bots": tuple(bots)})
