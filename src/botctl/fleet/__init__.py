"""The fleet file: its model, reading it with exact places for every error, and comparing two fleets.

Knows nothing of processes, databases or networks.
"""

from botctl.fleet.diff import FleetDiff, diff_fleets
from botctl.fleet.load import load_fleet, parse_fleet
from botctl.fleet.model import (
    Access,
    Assistant,
    BotSpec,
    CompletionApi,
    Files,
    Fleet,
    IsolationLevel,
    Limits,
    OnUncertain,
    Restart,
)

__all__ = [
    "Access",
    "Assistant",
    "BotSpec",
    "CompletionApi",
    "Files",
    "Fleet",
    "FleetDiff",
    "IsolationLevel",
    "Limits",
    "OnUncertain",
    "Restart",
    "diff_fleets",
    "load_fleet",
    "parse_fleet",
]
