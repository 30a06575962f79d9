"""What is said in the demo, and when a bot is killed. Values only."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Say:
    """A person writes to a bot; `expect` must stand in its answer."""

    person: str
    bot: str
    text: str
    expect: str = ""


@dataclass(frozen=True)
class Press:
    """A person presses a button under the bot's last message; `expect` must stand in a message that follows.

    In the demo that message comes by way of another bot: an order, an event, a reaction, and an event back.
    """

    person: str
    bot: str
    data: str
    label: str
    expect: str


@dataclass(frozen=True)
class Kill:
    """A bot's process gets SIGKILL; the script goes straight on."""

    bot: str


PEOPLE = ("Ada", "Ben")
KILLED = "nora"
FACT = "what was told in the first turn"

SCRIPT: tuple[Say | Press | Kill, ...] = (
    Say("Ada", "nora", "Hello! My name is Ada and my favourite colour is teal."),
    Say("Ben", "nora", "Hi, my name is Ben. My room number is 214."),
    Say("Ada", "pip", "Write me something about the sea."),
    Say("Ben", "nora", "/menu"),
    Press("Ben", "nora", "order:cake", "Lemon cake", expect="Lemon cake is ready"),
    Say("Ben", "gus", "Good evening. Was that your cake?"),
    Kill("nora"),
    Say("Ada", "nora", "What is my favourite colour?", expect="teal"),
    Say("Ada", "pip", "Did you notice anything?"),
    Say("Ben", "nora", "What is my room number?", expect="214"),
    Say("Ben", "nora", "And what is my name?", expect="Ben"),
    Say("Ada", "gus", "Good night."),
)
