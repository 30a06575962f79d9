"""sandbox: the emulators of Telegram and of a completion API, as servers of their own."""

from __future__ import annotations

import os
import sys

import typer


def sandbox(context: typer.Context) -> None:
    """Run the Telegram and completion emulators; -h shows their options."""
    argv = [sys.executable, "-P", "-m", "botctl.sandbox", *context.args]
    sys.stdout.flush()
    os.execv(argv[0], argv)
