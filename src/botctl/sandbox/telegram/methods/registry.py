"""The table of methods: a method is a function of (world, bot, parameters), known by its name in any case."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from botctl.sandbox.telegram.bots import Bot
from botctl.sandbox.telegram.parameters import Parameters
from botctl.sandbox.telegram.world import World

Function = Callable[[World, Bot, Parameters], Any]
Waiting = Callable[[World, Bot, Parameters], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Method:
    """One method; exactly one of the two functions is set."""

    name: str
    function: Function | None = None
    waiting: Waiting | None = None


_METHODS: dict[str, Method] = {}


def method(name: str) -> Callable[[Function], Function]:
    """Register a method that answers at once."""

    def register(function: Function) -> Function:
        _METHODS[name.lower()] = Method(name, function=function)
        return function

    return register


def waiting_method(name: str) -> Callable[[Waiting], Waiting]:
    """Register a method that may wait."""

    def register(waiting: Waiting) -> Waiting:
        _METHODS[name.lower()] = Method(name, waiting=waiting)
        return waiting

    return register


def lookup(name: str) -> Method | None:
    """The method of that name, in any case."""
    return _METHODS.get(name.lower())


def names() -> list[str]:
    """All methods there are."""
    return sorted(method.name for method in _METHODS.values())
