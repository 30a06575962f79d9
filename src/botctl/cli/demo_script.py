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
class Kill:
    """A bot's process gets SIGKILL; the script goes straight on."""

    bot: str


PEOPLE = ("Ada", "Ben")
KILLED = "nora"
FACT = "what was told in the first turn"

SCRIPT: tuple[Say | Kill, ...] = (
    Say("Ada", "nora", "Hello! My name is Ada and my favourite colour is teal."),
    Say("Ada", "gus", "Good evening. Is the lamp lit?"),
    Say("Ben", "nora", "Hi, my name is Ben. My room number is 214."),
    Say("Ben", "pip", "Write me something about the sea."),
    Kill("nora"),
    Say("Ada", "nora", "What is my favourite colour?", expect="teal"),
    Say("Ada", "gus", "Did you notice anything?"),
    Say("Ben", "nora", "What is my room number?", expect="214"),
    Say("Ben", "nora", "And what is my name?", expect="Ben"),
    Say("Ada", "pip", "Thank you all, good night."),
)
