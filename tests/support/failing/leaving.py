"""A script that was meant to be run, not imported."""

import sys

sys.exit("usage: leaving.py TOKEN")


def register(app: object, bot: object) -> None:
    """Nobody gets here."""
