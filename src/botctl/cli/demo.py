"""demo: the whole stack with three bots that talk, in a folder of its own and with the sandbox as the outside world."""

from __future__ import annotations

from typing import Annotated

import typer

from botctl.cli.shared import DataDir


def demo(
    data_dir: DataDir = None,
    once: Annotated[bool, typer.Option("--once", help="End after the scripted conversation.")] = False,
) -> None:
    """Show it all: three bots answer, one is killed and remembers."""
    from botctl.cli.demonstration import run_demo

    raise typer.Exit(run_demo(data_dir, once=once))
