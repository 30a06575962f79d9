"""`botctl audit`: who changed what, and whether anybody has tampered with that. Changes nothing."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from botctl.cli.client import ApiClient
from botctl.cli.shared import Commands, DataDir, data_folder, say
from botctl.errors import BotctlError, ExitCode, UsageError
from botctl.settings.places import DataFolder

if TYPE_CHECKING:
    from botctl.control.views import AuditReportBody

app = typer.Typer(cls=Commands, no_args_is_help=True, help="The audit log: who changed what, and is it intact.")

_AGE = re.compile(r"(\d+)([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}

AsJson = Annotated[bool, typer.Option("--json", help="As JSON, one entry a line.")]
Bot = Annotated[str | None, typer.Option("--bot", metavar="NAME", help="One bot, by name or id; 0 is the fleet.")]


@app.command()
def tail(
    data_dir: DataDir = None,
    bot: Bot = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    count: Annotated[int, typer.Option("-n", min=0, max=10_000, help="How many of the latest.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Show the latest entries, oldest first."""
    client = ApiClient.of(data_folder(data_dir))
    if count:
        _print_all(_asked(client, {"bot": bot, "limit": count}), as_json)
    if follow:
        for line in client.lines("/v1/audit/follow", _given({"bot": bot})):
            _print(json.loads(line), as_json)


@app.command()
def search(
    data_dir: DataDir = None,
    bot: Bot = None,
    actor: Annotated[str | None, typer.Option(help="Begins like this: operator, operator:ann, bot_123.")] = None,
    action: Annotated[str | None, typer.Option(help="Begins like this: update, login., command.stop.")] = None,
    entity: Annotated[str | None, typer.Option(help="Begins like this: bots, bot_credentials.")] = None,
    since: Annotated[str | None, typer.Option(help="A time, or an age such as 30m, 12h, 7d.")] = None,
    until: Annotated[str | None, typer.Option(help="A time, or an age.")] = None,
    text: Annotated[str | None, typer.Option(help="Stands anywhere in the entry.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many of the latest.")] = 200,
    as_json: AsJson = False,
) -> None:
    """Show the entries that match, oldest first."""
    begin, end = span(since, until, time.time())
    wanted = {
        "bot": bot,
        "actor": actor,
        "action": action,
        "entity": entity,
        "text": text,
        "since": begin,
        "until": end,
        "limit": limit,
    }
    found = _asked(ApiClient.of(data_folder(data_dir)), wanted)
    _print_all(found, as_json)
    if len(found) == limit:
        say(f"these are the latest {limit}; there may be more (--limit)")


@app.command()
def verify(
    data_dir: DataDir = None,
    head: Annotated[Path | None, typer.Option("--head", help="A copy of audit.head; else the data folder's.")] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Ask the database itself, not the daemon.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for scripts.")] = False,
) -> None:
    """Recompute the chain of seals; exit code 1 if an entry was changed, removed, put in, or the log cut off."""
    from botctl.control.views import FindingView
    from botctl.storage import audit_chain
    from botctl.storage.audit_head import NAME, Head, read_head

    folder = data_folder(data_dir)
    path = head if head is not None else folder.root / NAME
    # Before the database is asked: what is published meanwhile may be newer than what it answers.
    published, missing = Head([], []), None
    try:
        published = read_head(path)
    except BotctlError as error:
        if head is not None:
            raise
        missing = error
    report, known = _offline(data_dir) if offline else _online(folder)
    if missing is None:
        found = audit_chain.compare_head(published, known)
        report.findings += [FindingView(fault=one.fault.value, text=one.text, seal=one.seal) for one in found]
    elif known:
        report.findings.append(FindingView(fault="head", text=missing.message))
    _tell(report, path, len(published.lines), as_json)
    if report.findings:
        raise typer.Exit(int(ExitCode.FAILED))


def moment(text: str | None, now: float, option: str) -> float | None:
    """A time in seconds since the epoch, from an ISO time (local unless it says otherwise) or an age."""
    if text is None:
        return None
    if match := _AGE.fullmatch(text):
        return now - int(match[1]) * _SECONDS[match[2]]
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        raise UsageError(f"{option} {text!r} is neither a time nor an age", hint="2026-05-01T12:00, or 7d.") from None


def span(since: str | None, until: str | None, now: float) -> tuple[float | None, float | None]:
    """What --since and --until say, in seconds since the epoch. Raises UsageError, also when they are upside down."""
    begin, end = moment(since, now, "--since"), moment(until, now, "--until")
    if begin is not None and end is not None and begin > end:
        raise UsageError(
            f"--since {since} is later than --until {until}", hint="From 2h ago up to 1h ago: --since 2h --until 1h."
        )
    return begin, end


def _asked(client: ApiClient, wanted: dict[str, Any]) -> list[dict[str, Any]]:
    return list(reversed(client.get("/v1/audit", _given(wanted), timeout=60.0)["entries"]))


def _given(wanted: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in wanted.items() if value is not None}


def _online(folder: DataFolder) -> tuple[AuditReportBody, dict[int, bytes]]:
    from botctl.control.views import AuditReportBody

    known: dict[int, bytes] = {}
    last: dict[str, Any] = {}
    for line in ApiClient.of(folder).lines("/v1/audit/verify", {}):
        last = json.loads(line)
        if "digest" in last:
            known[last["seal"]] = bytes.fromhex(last["digest"])
    if "findings" not in last:
        raise BotctlError("the daemon has not ended its answer", hint="`botctl logs control` says more.")
    return AuditReportBody.model_validate(last), known


def _offline(data_dir: Path | None) -> tuple[AuditReportBody, dict[int, bytes]]:
    import asyncio

    from botctl.cli.database import admin_url
    from botctl.control.defence.audit_desk import report_body, verify_with
    from botctl.control.trouble import DATABASE_TROUBLE, DatabaseAwayError
    from botctl.storage.engine import login_engine
    from botctl.storage.url import parse_database_url

    async def work() -> tuple[AuditReportBody, dict[int, bytes]]:
        engine = login_engine(parse_database_url(admin_url(data_dir)), pool_size=1, application_name="botctl audit")
        try:
            report, known = await verify_with(engine)
        except DATABASE_TROUBLE as error:
            raise DatabaseAwayError(error) from error
        finally:
            await engine.dispose()
        return report_body(report), known

    return asyncio.run(work())


def _print_all(entries: list[dict[str, Any]], as_json: bool) -> None:
    for entry in entries:
        _print(entry, as_json)


def _print(entry: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(entry, ensure_ascii=False), flush=True)
        return
    try:
        at = datetime.fromtimestamp(entry["at"], UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        at = str(entry["at"])  # whoever forges an entry may date it as he likes
    bot = entry.get("bot") or ("fleet" if entry["bot_id"] == 0 else str(entry["bot_id"]))
    changes = " ".join(_changes(entry.get("before"), entry.get("after")))
    # Names and texts are others' words: no control characters of theirs reach the terminal.
    line = f"{at}  {bot}  {entry['actor']}  {entry['action']} {entry['entity']}  {changes}".rstrip()
    print("".join(one if one.isprintable() else "�" for one in line), flush=True)


def _changes(before: dict[str, Any] | None, after: dict[str, Any] | None) -> Iterator[str]:
    if before is not None and after is not None:
        for key in sorted(before.keys() | after.keys()):
            if before.get(key) != after.get(key):
                yield f"{key}: {_short(before.get(key))} → {_short(after.get(key))}"
        return
    for key, value in (after or before or {}).items():
        if value not in (None, {}, []) and key != "bot_id":
            yield f"{key}={_short(value)}"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:79] + "…"


def _tell(report: AuditReportBody, path: Path, lines: int, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"intact": not report.findings, **report.model_dump()}, indent=2))
        return
    for finding in report.findings:
        where = f"batch {finding.seal}: " if finding.seal is not None and finding.audit_id is not None else ""
        print(f"{finding.fault.upper()}  {where}{finding.text}")
    if report.unnamed:
        print(f"… and {report.unnamed} entries more")
    if report.cutoff is not None:
        since = datetime.fromtimestamp(report.cutoff, UTC).strftime("%Y-%m-%d")
        say(f"entries before {since} were forgotten, as audit_retention says")
    if report.unsealed:
        say(f"{report.unsealed} of the newest entries have no seal yet")
    state = "the audit log is NOT intact" if report.findings else "the audit log is intact"
    say(f"{state}: {report.entries} entries in {report.seals} seals, compared with {lines} lines of {path}")
