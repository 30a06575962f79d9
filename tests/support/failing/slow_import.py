"""A module that is never imported to its end."""

import time


def wait_for_warehouse() -> None:
    """As a connection without a time-out does."""
    time.sleep(600)


wait_for_warehouse()


def register(app: object, bot: object) -> None:
    """Nobody gets here."""
