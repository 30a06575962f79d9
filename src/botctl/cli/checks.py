"""What `doctor` looks at, one check a function. Never changes anything."""

from __future__ import annotations

import asyncio
import os
import platform
import resource
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from botctl import __version__
from botctl.cli.bus_checks import bus_findings
from botctl.cli.database_checks import isolation_of
from botctl.cli.dead_letter_checks import dead_letter_findings
from botctl.cli.findings import Finding, Verdict
from botctl.cli.isolation_checks import isolation
from botctl.cli.key_checks import master_key
from botctl.cli.note import live_note
from botctl.cli.redis_checks import redis_findings
from botctl.cli.webhook_checks import webhook_findings
from botctl.errors import BotctlError
from botctl.settings.places import DataFolder

if TYPE_CHECKING:
    from botctl.fleet import Fleet
    from botctl.settings.model import Settings

_FILES_A_BOT = 16
_CONNECTIONS_A_BOT = 6
_CONNECTIONS_OF_OURS = 20
_TIMEOUT = 5.0
_OPEN_TO_BOTS = """
    SELECT string_agg(quote_ident(datname), ', ' ORDER BY datname) FROM pg_database
    WHERE datallowconn AND datname <> current_database() AND datname <> ALL ($1) AND EXISTS (
        SELECT FROM pg_roles role
        WHERE rolname = 'bots' AND has_database_privilege(role.oid, pg_database.oid, 'CONNECT'))"""


def _fleet_file(settings: Settings, *, asked_for: bool) -> tuple[Path, str]:
    """The one asked for, or the one where it is looked for; else that of the daemon that runs, and a word of it."""
    if not asked_for and not settings.fleet.exists():
        note = live_note(DataFolder(settings.data_dir))
        if note is not None and note.fleet_path is not None:
            return Path(note.fleet_path), " (the running daemon's)"
    return settings.fleet, ""


def run_checks(fleet_file: Path | None, data_dir: Path | None, *, tokens: bool) -> Iterator[Finding]:
    """Every check, in order; what can't be checked because of an earlier failure is left out."""
    yield from _versions()
    from botctl.settings.load import load_settings

    try:
        settings = load_settings(fleet=fleet_file, data_dir=data_dir)
    except BotctlError as error:
        yield _failure("settings", error)
        return
    yield Finding(Verdict.OK, "settings", "valid")
    fleet: Fleet | None = None
    from botctl.cli.starting import read_fleet

    path, whose = _fleet_file(settings, asked_for=fleet_file is not None)
    try:
        fleet, _ = read_fleet(path, os.environ)
        yield Finding(Verdict.OK, "fleet file", f"{path}{whose}: {len(fleet.bots)} bots")
    except BotctlError as error:
        yield _failure("fleet file", error)
    bots = len(fleet.bots) if fleet is not None else 0
    yield from _folder(settings)
    yield from master_key(settings.data_dir)
    if fleet is not None:
        yield from _code(fleet, settings)
        yield from _unkept_limits(fleet, settings)
    yield from _limits(bots)
    yield from isolation(settings, fleet)
    yield from _database(settings, bots)
    yield from _redis(settings, bots)
    if fleet is not None:
        yield from webhook_findings(settings, fleet)
    yield from dead_letter_findings(DataFolder(settings.data_dir), _TIMEOUT)
    if tokens and fleet is not None:
        yield from _tokens(settings, fleet)


def _failure(subject: str, error: BotctlError) -> Finding:
    return Finding(Verdict.FAIL, subject, error.message, error.hint)


def _versions() -> Iterator[Finding]:
    from importlib.metadata import PackageNotFoundError, version

    yield Finding(Verdict.OK, "botctl", f"{__version__} on Python {platform.python_version()}, {platform.platform()}")
    verdict = Verdict.OK if sys.version_info >= (3, 11) else Verdict.FAIL
    if verdict is Verdict.FAIL:
        yield Finding(verdict, "python", "3.11 or newer is needed")
    found = []
    for package in ("python-telegram-bot", "openai", "sqlalchemy", "asyncpg", "redis", "fastapi"):
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            yield Finding(Verdict.FAIL, package, "is not installed", "Install botctl again.")
    yield Finding(Verdict.OK, "libraries", ", ".join(found))


def _folder(settings: Settings) -> Iterator[Finding]:
    folder = DataFolder(settings.data_dir)
    note = live_note(folder)
    if note is not None:
        yield Finding(Verdict.OK, "daemon", f"{note.state}, pid {note.pid}, version {note.version}")
    else:
        yield Finding(Verdict.OK, "daemon", f"none runs on {folder.root}")
    nearest = next(path for path in (folder.root, *folder.root.parents) if path.exists())
    if not os.access(nearest, os.W_OK | os.X_OK):
        hint = "Name another with --data-dir or BOTCTL_DATA_DIR, or correct its owner."
        yield Finding(Verdict.FAIL, "data folder", f"{nearest} can't be written", hint)
        return
    from botctl.control.watching.disk import shortages

    full = shortages(nearest)
    for problem in full:
        yield Finding(Verdict.FAIL, "data folder", problem, "What waits goes on by itself when there is room again.")
    if not full:
        free = shutil.disk_usage(nearest).free / 1024**3
        verdict = Verdict.OK if free >= 1 else Verdict.WARN
        yield Finding(verdict, "data folder", f"{folder.root}, {free:.1f} GB free")


def _code(fleet: Fleet, settings: Settings) -> Iterator[Finding]:
    if fleet.folder is None or all(bot.handlers is None for bot in fleet.bots):
        return
    from botctl.control.rollouts.code_keeper import sources

    try:
        count = sum(1 for _ in sources(Path(fleet.folder), settings.data_dir))
    except (BotctlError, OSError) as error:
        hint = "Put the fleet file into a folder of its own, beside the handlers."
        yield Finding(Verdict.WARN, "handlers' code", f"no copy is kept, rollouts can't bring it back: {error}", hint)
    else:
        yield Finding(Verdict.OK, "handlers' code", f"{count} Python files in {fleet.folder}, kept for rollouts")


def _unkept_limits(fleet: Fleet, settings: Settings) -> Iterator[Finding]:
    from botctl.cli.unkept import HINT, possible, unkept, wishes

    note = live_note(DataFolder(settings.data_dir))
    kept = note.controllers if note is not None and note.controllers is not None else possible()
    if lost := unkept(wishes(fleet), kept):
        yield Finding(Verdict.WARN, "limits", lost, HINT)


def _limits(bots: int) -> Iterator[Finding]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 256 + _FILES_A_BOT * bots
    enough = hard == resource.RLIM_INFINITY or hard >= needed
    shown = "unlimited" if hard == resource.RLIM_INFINITY else str(hard)
    yield Finding(
        Verdict.OK if enough else Verdict.FAIL,
        "open files",
        f"{soft}, at most {shown}; this fleet needs about {needed}",
        None if enough else "Raise it: `ulimit -n`, or LimitNOFILE= of the service.",
    )
    _, processes = resource.getrlimit(resource.RLIMIT_NPROC)
    if processes != resource.RLIM_INFINITY and processes < 4 * (bots + 20):
        yield Finding(Verdict.WARN, "processes", f"at most {processes} of this user", "Raise it: `ulimit -u`.")


def _database(settings: Settings, bots: int) -> Iterator[Finding]:
    from botctl.embedded.address import postgres_admin_url
    from botctl.embedded.binaries import find_postgres

    embedded = settings.database_url is None
    if settings.database_url is not None:
        address = settings.database_url.get_secret_value()
    else:
        try:
            found = find_postgres()
        except BotctlError as error:
            yield _failure("embedded PostgreSQL", error)
            return
        yield Finding(Verdict.OK, "embedded PostgreSQL", f"{found.major}, {found.bin}")
        if live_note(DataFolder(settings.data_dir)) is None:
            return
        address = postgres_admin_url(settings.data_dir / "postgres")
    try:
        yield from asyncio.run(_ask_database(address, bots, embedded=embedded))
    except BotctlError as error:
        yield _failure("database", error)


async def _ask_database(address: str, bots: int, *, embedded: bool) -> list[Finding]:
    from botctl.embedded.postgres import CLUSTERS_OWN
    from botctl.storage.bootstrap import check_server
    from botctl.storage.engine import connect, parse_database_url

    login = parse_database_url(address)
    try:
        async with asyncio.timeout(_TIMEOUT):
            connection = await connect(login)
    except BotctlError:
        raise
    except Exception as error:
        raise BotctlError(
            f"{login.target.host}:{login.target.port} can't be used: {str(error) or type(error).__name__}",
            hint="Is the server running? Check BOTCTL_DATABASE_URL." if not embedded else "See `botctl logs postgres`.",
        ) from error
    try:
        version = await check_server(connection)
        most = int(await connection.fetchval("SELECT current_setting('max_connections')"))
        superuser = bool(await connection.fetchval("SELECT rolsuper FROM pg_roles WHERE rolname = current_user"))
        shut = CLUSTERS_OWN.split(",") if embedded else []
        open_to_bots: str | None = await connection.fetchval(_OPEN_TO_BOTS, shut)
        isolation = [found async for found in isolation_of(connection)]
    finally:
        await connection.close()
    needed = _CONNECTIONS_OF_OURS + _CONNECTIONS_A_BOT * bots
    enough = most >= needed
    findings = [
        Finding(Verdict.OK, "database", f"PostgreSQL {version} at {login.target.host}:{login.target.port}"),
        Finding(
            Verdict.OK if enough else Verdict.WARN,
            "max_connections",
            f"{most}; this fleet may need {needed}",
            None if enough else "Raise max_connections of the server.",
        ),
    ]
    if not superuser:
        findings.append(
            Finding(
                Verdict.WARN,
                "administrator",
                f"{login.user} is no superuser: advisory locks, large objects, messages to the write-ahead log and"
                " PL/pgSQL can't be taken from bots, and a password that a bot gives itself stays for up to 5 minutes",
            )
        )
    findings += isolation
    if not embedded:
        findings.append(
            Finding(
                Verdict.WARN,
                "threat detection",
                "the database is your own: botctl can't read its log, so statements that it refuses (42501) and logins"
                " that fail are not seen",
                "Watch its log for `permission denied` and `row-level security` of users bot_…",
            )
        )
    if open_to_bots:
        findings.append(
            Finding(
                Verdict.WARN,
                "other databases",
                f"bots can enter {open_to_bots}, where PUBLIC has rights that ours has taken from it",
                f"If nobody else needs it: REVOKE CONNECT ON DATABASE {open_to_bots} FROM PUBLIC",
            )
        )
    return findings


def _redis(settings: Settings, bots: int) -> Iterator[Finding]:
    from botctl.embedded.address import valkey_admin_url
    from botctl.embedded.binaries import find_valkey

    if settings.redis_url is not None:
        address = settings.redis_url.get_secret_value()
    else:
        try:
            yield Finding(Verdict.OK, "embedded Valkey", str(find_valkey()))
        except BotctlError as error:
            yield _failure("embedded Valkey", error)
            return
        if live_note(DataFolder(settings.data_dir)) is None:
            return
        address = valkey_admin_url(settings.data_dir / "valkey")
    try:
        yield from asyncio.run(_ask_redis(address, settings, bots))
    except BotctlError as error:
        yield _failure("redis", error)


async def _ask_redis(address: str, settings: Settings, bots: int) -> list[Finding]:
    from botctl.bus.caretaking.admin import BusAdmin
    from botctl.bus.client import AWAY, connect, reason
    from botctl.bus.topology import Topology

    client = connect(address)
    try:
        async with asyncio.timeout(_TIMEOUT):
            topology = Topology(settings.namespace)
            version = await BusAdmin(client, topology).check_version()
            outside = await bus_findings(
                client,
                topology,
                address,
                embedded=settings.redis_url is None,
                keep_seconds=settings.bus_keep * 86_400,
            )
            return [Finding(Verdict.OK, "redis", str(version)), *await redis_findings(client, bots), *outside]
    except AWAY as error:
        raise BotctlError(reason(error), hint="Is the server running? Check BOTCTL_REDIS_URL.") from error
    finally:
        await client.aclose()


def _tokens(settings: Settings, fleet: Fleet) -> Iterator[Finding]:
    import httpx

    with httpx.Client(timeout=_TIMEOUT) as client:
        for bot in fleet.bots:
            token = quote(bot.token.get_secret_value(), safe=":")
            subject = f"token of {bot.name}"
            try:
                answer = client.get(f"{settings.telegram_base_url}/bot{token}/getMe").json()
            except (httpx.HTTPError, ValueError) as error:
                yield Finding(Verdict.FAIL, subject, f"can't be checked: {type(error).__name__}")
                continue
            if answer.get("ok"):
                yield Finding(Verdict.OK, subject, f"valid, @{answer['result'].get('username', '?')}")
            else:
                hint = "Ask @BotFather for a new one."
                yield Finding(Verdict.FAIL, subject, f"refused: {answer.get('description', '?')}", hint)
