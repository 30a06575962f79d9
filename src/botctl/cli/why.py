"""why: how a bot is, why it died, what was done, what to do. Asks `control`; without it, reads the file of deaths."""

from __future__ import annotations

import shutil
import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from botctl.cli.client import ApiClient, ControlAwayError, RemoteError, bot_path
from botctl.cli.note import live_note, no_daemon, require_note
from botctl.cli.shared import PLAIN_WIDTH, DataDir, data_folder, still_waiting
from botctl.errors import BotctlError, ExitCode, NoSuchBotError
from botctl.settings.places import DataFolder

if TYPE_CHECKING:
    from botctl.control.views import DeathsBody

_TIMEOUT = 10.0
_WITHOUT_CONTROL = 16 * 1024 * 1024
"""Bytes of the files that are read when `control` can't be asked."""


def why(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A bot.")],
    data_dir: DataDir = None,
    last: Annotated[int, typer.Option("--last", "-n", help="How many deaths to tell of.", min=1, max=1000)] = 3,
    planned: Annotated[bool, typer.Option("--all", help="Also ends that were asked for.")] = False,
    full: Annotated[bool, typer.Option("--full", help="Whole stacks and all the last lines.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for scripts.")] = False,
) -> None:
    """Tell how a bot is, why it died, and what to do about it."""
    folder = data_folder(data_dir)
    body, unseen = _asked(folder, name, last, planned)
    if as_json:
        print(body.model_dump_json(indent=2))
        return
    from botctl.cli.answer import answer

    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else PLAIN_WIDTH
    for line in answer(body, now=time.time(), width=width, full=full, unseen=unseen):
        print(line)


def _asked(folder: DataFolder, name: str, last: int, planned: bool) -> tuple[DeathsBody, str]:
    """What is known, and why nobody knows how the bot is now, if so."""
    note = live_note(folder)
    if note is None:
        told = _from_file(folder, name, last, planned)
        if told is not None:
            return told, f"{no_daemon(folder).message}."
        note = require_note(folder)
    from botctl.control.views import DeathsBody

    query = {"limit": last, "planned": str(planned).lower()}
    try:
        with still_waiting():
            document = ApiClient(note).get(bot_path(name, "deaths"), query, timeout=_TIMEOUT)
        return DeathsBody.model_validate(document), ""
    except (ControlAwayError, RemoteError) as error:
        if error.exit_code is ExitCode.NO_SUCH_BOT:
            raise
        body = _told_without(error, folder, name, last, planned)
        return body, f"{error.message}."


def _told_without(error: BotctlError, folder: DataFolder, name: str, last: int, planned: bool) -> DeathsBody:
    """As the file tells it; raises the error when the file has nothing of this bot, which may exist all the same."""
    try:
        body = _from_file(folder, name, last, planned)
    except NoSuchBotError:
        body = None
    if body is None:
        raise error
    return body


def _from_file(folder: DataFolder, name: str, last: int, planned: bool) -> DeathsBody | None:
    """None when there is no file. Raises NoSuchBotError when neither it nor a log knows the bot."""
    from botctl.control.fleet.death_file import death_files, read_deaths
    from botctl.control.fleet.history import tell_from_file
    from botctl.control.views import DeathsBody

    files = death_files(folder.logs)
    if not files:
        return None
    deaths = read_deaths(folder.logs, limit=_WITHOUT_CONTROL)
    named = [death for death in deaths if death.name == name]
    if not named and not folder.log(name).is_file():
        names = ", ".join(sorted({death.name for death in deaths}))
        raise NoSuchBotError(
            f"{files[0]} tells of no bot called {name!r}", hint=f"It tells of: {names}." if names else None
        )
    body = DeathsBody(name=name, since=deaths[-1].at if deaths else None, notes=[f"This is what {files[0]} tells."])
    mine = [death for death in named if death.bot_id == named[0].bot_id]
    tell_from_file(body, mine, [], last, planned, now=time.time())
    return body
