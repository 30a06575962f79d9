"""db migrate, db url, db psql: the database, as its administrator or with one bot's eyes."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from botctl.cli.shared import Commands, DataDir, data_folder, say
from botctl.errors import BotctlError

app = typer.Typer(cls=Commands, help="The database.", no_args_is_help=True)


@app.command()
def url(data_dir: DataDir = None) -> None:
    """Print the administrator's URL. It holds a password."""
    print(admin_url(data_dir))


@app.command()
def migrate(data_dir: DataDir = None) -> None:
    """Bring the schema to this release; `start` does so by itself."""
    from botctl.storage.migrate import upgrade

    address = admin_url(data_dir)
    try:
        before, after = upgrade(address)
    except OSError as error:
        raise BotctlError(
            f"the database can't be reached: {error.strerror or error}",
            hint="The embedded one runs only while the daemon does; another is where BOTCTL_DATABASE_URL says.",
        ) from error
    print(f"the schema is at {after}" if before == after else f"migrated from {before or 'empty'} to {after}")


@app.command()
def psql(
    data_dir: DataDir = None,
    as_bot: Annotated[
        str | None, typer.Option("--as-bot", metavar="NAME", help="Read-only, with this bot's rights.")
    ] = None,
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[-- ARGUMENTS]", help="Passed on to psql.", show_default=False)
    ] = None,
) -> None:
    """Open psql, as the administrator or as one bot sees the database."""
    from botctl.cli.client import ApiClient

    program = _psql()
    if as_bot is not None:
        answer = ApiClient.of(data_folder(data_dir)).post("/v1/psql-login", {"bot": as_bot})
        address = str(answer["url"])
    else:
        address = admin_url(data_dir)
    from botctl.storage.url import format_database_url, parse_database_url

    login = parse_database_url(address)
    env = os.environ | {"PGPASSWORD": login.password}
    # The password goes through the environment: arguments are everybody's to read.
    import msgspec

    shown = format_database_url(msgspec.structs.replace(login, password=""))
    if sys.stderr.isatty():
        say(f"{login.user} at {login.target.host}:{login.target.port}")
    sys.stdout.flush()
    os.execve(program, [program, *(arguments or []), shown], env)


def admin_url(data_dir: Path | None) -> str:
    """The administrator's URL, of the settings or of the embedded server."""
    from botctl.settings.load import load_settings

    settings = load_settings(data_dir=data_dir)
    if settings.database_url is not None:
        return settings.database_url.get_secret_value()
    from botctl.embedded.address import postgres_admin_url

    return postgres_admin_url(settings.data_dir / "postgres")


def _psql() -> str:
    on_path = shutil.which("psql")
    if on_path is not None:
        return on_path
    from botctl.embedded.binaries import find_postgres

    bundled = find_postgres().bin / "psql"
    if not bundled.is_file():
        raise BotctlError("psql is not installed", hint="Install a PostgreSQL client, or connect to `botctl db url`.")
    return str(bundled)
