"""The audit trail: sealed and published by `control`, read and verified by commands, told what operators do."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
from sqlalchemy.ext.asyncio import AsyncEngine
from typer.testing import CliRunner

from botctl.api.app import create_app
from botctl.cli import audit as commands
from botctl.cli.client import ApiClient
from botctl.cli.main import app
from botctl.cli.note import process_started
from botctl.control.defence.audit_desk import AuditDesk
from botctl.control.serve import make_server, unix_socket
from botctl.control.views import AppliedBody, CommandBody, LoginBody
from botctl.errors import RefusedError, UsageError
from botctl.storage import audit
from botctl.storage.audit_head import HeadLine, append_head, last_line, read_head
from botctl.storage.engine import login_engine

BOT = 4101
USER = pwd.getpwuid(os.getuid()).pw_name


@pytest.fixture
async def control(new_database: Any) -> AsyncIterator[AsyncEngine]:
    made = login_engine(new_database.control)
    yield made
    await made.dispose()


@pytest.fixture
async def superuser(new_database: Any) -> AsyncIterator[AsyncEngine]:
    made = login_engine(new_database.admin)
    yield made
    await made.dispose()


@pytest.fixture
def desk(control: AsyncEngine, tmp_path: Path) -> AuditDesk:
    return AuditDesk(control, tmp_path, {}, lambda: {BOT: "nora"})


async def write(engine: AsyncEngine, action: str = "tested") -> None:
    async with engine.begin() as connection:
        await audit.record(connection, BOT, action, "thing")


async def published(desk: AuditDesk, above: int = 0) -> HeadLine:
    """Tick until a seal above this one is in the file: other tests' transactions may hold seals back."""
    deadline = time.monotonic() + 20
    while True:
        assert await desk.sealer.tick() is None
        line = await asyncio.to_thread(last_line, desk.sealer.head)
        if line is not None and line.seal > above:
            return line
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def test_every_seal_is_published_once_and_by_any_successor(desk: AuditDesk, control: AsyncEngine) -> None:
    await write(control)
    first = await published(desk)
    assert desk.sealer.head.stat().st_mode & 0o777 == 0o600
    async with control.begin() as connection:  # sealed, and control dies before it is published
        await audit.record(connection, BOT, "tested", "thing")
    deadline = time.monotonic() + 20
    while True:
        async with control.begin() as connection:
            if await audit.seal(connection):
                break
        assert time.monotonic() < deadline
    with desk.sealer.head.open("ab") as file:
        file.write(b'{"seal": 9')  # and an earlier one in the middle of a line
    successor = AuditDesk(control, desk.sealer.head.parent, {}, lambda: {})
    assert (await published(successor, first.seal)).seal == first.seal + 1
    head = read_head(desk.sealer.head)
    assert [line.seal for line in head.lines] == [1, 2]
    assert head.broken == [2]


async def test_a_log_that_was_cut_off_is_a_problem_and_nothing_is_published_over_it(
    desk: AuditDesk, control: AsyncEngine, superuser: AsyncEngine
) -> None:
    await write(control)
    line = await published(desk)
    async with superuser.begin() as connection:
        await connection.exec_driver_sql("DELETE FROM audit_log")
        await connection.exec_driver_sql("TRUNCATE audit_seals")
    await write(control)
    problem = await desk.sealer.tick()
    assert problem is not None
    assert "another one in the database" in problem
    assert last_line(desk.sealer.head) == line
    desk.sealer.head.rename(desk.sealer.head.with_suffix(".evidence"))
    assert (await published(desk)).digest != line.digest


async def test_a_head_that_can_not_be_written_is_a_problem(desk: AuditDesk, control: AsyncEngine) -> None:
    desk.sealer.head.mkdir()
    await write(control)
    deadline = time.monotonic() + 20
    while (problem := await desk.sealer.tick()) is None:
        assert time.monotonic() < deadline
    assert "can't be written" in problem


async def test_an_entry_that_waits_too_long_for_its_seal_is_a_problem(
    desk: AuditDesk, control: AsyncEngine, superuser: AsyncEngine
) -> None:
    async with superuser.connect() as holder:
        await holder.exec_driver_sql("SELECT pg_current_xact_id()")  # left open
        await write(control)
        assert await desk.sealer.tick() is None
        async with superuser.begin() as connection:
            await connection.exec_driver_sql(
                "INSERT INTO audit_log (bot_id, at, action, entity) VALUES (0, now() - interval '1 hour', 'x', 'y')"
            )
        problem = await desk.sealer.tick()
        assert problem is not None
        assert "left open" in problem


async def test_an_entry_of_a_transaction_that_has_never_been_is_no_open_transaction(
    desk: AuditDesk, control: AsyncEngine, superuser: AsyncEngine
) -> None:
    await write(control)
    await published(desk)
    async with superuser.begin() as connection:
        await connection.exec_driver_sql(
            "INSERT INTO audit_log (bot_id, at, actor, action, entity, tx)"
            " VALUES (0, now() - interval '2 hours', 'operator:ann', 'command.release', 'x', 9223372036854775806)"
        )
    problem = await desk.sealer.tick()
    assert problem == "audit: 1 entry was put in by hand: look with `botctl audit verify`"


async def test_retention_runs_and_is_published(desk: AuditDesk, control: AsyncEngine, superuser: AsyncEngine) -> None:
    async with superuser.begin() as connection:
        await connection.exec_driver_sql(
            "INSERT INTO audit_log (bot_id, at, action, entity, tx)"
            " VALUES (1, now() - interval '200 days', 'x', 'y', 0)"
        )
    deadline = time.monotonic() + 20
    while not any(line.kind == "retention" for line in _lines(desk)):
        desk.sealer._forget_at = 0.0
        assert await desk.sealer.tick() is None
        assert time.monotonic() < deadline
    assert [line.seal for line in _lines(desk)] == list(range(1, len(_lines(desk)) + 1))
    async with control.connect() as connection:
        assert (await connection.exec_driver_sql("SELECT count(*) FROM audit_log WHERE action = 'x'")).scalar_one() == 0


def _lines(desk: AuditDesk) -> list[HeadLine]:
    return read_head(desk.sealer.head).lines if desk.sealer.head.exists() else []


class ControlDouble:
    """Accepts two commands, refuses others."""

    async def command(self, verb: str, name: str) -> CommandBody:
        if verb == "stop":
            raise RefusedError("not now")
        return CommandBody(message="done")

    async def apply(self, fleet: Any, **options: Any) -> AppliedBody:
        return AppliedBody(dry_run=options["dry_run"], added=[], removed=[], changed=[], unchanged=[])

    async def psql_login(self, name: str) -> LoginBody:
        return LoginBody(url="postgresql://x:the-password@h/d", valid_until=0.0)


class Served:
    """The API with this log, on a Unix socket and in a thread and loop of its own."""

    def __init__(self, database: Any, data: Path) -> None:
        self.data = data
        (data / "run").mkdir()
        self.socket = data / "run" / "api.sock"
        note = {
            "pid": os.getpid(), "process_started": process_started(os.getpid()), "started_at": 1.0, "version": "9.9",
            "state": "serving", "socket": str(self.socket), "data_dir": str(data),
            "telegram_base_url": "http://127.0.0.1:1",
        }  # fmt: skip
        (data / "run" / "daemon.json").write_text(json.dumps(note))
        (data / "api.token").write_text("sesame")
        self._login = database.control
        self._stop = threading.Event()
        self._ready = threading.Event()
        self.desk: AuditDesk
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        self._thread.start()
        assert self._ready.wait(20)

    async def _serve(self) -> None:
        engine = login_engine(self._login)
        self.desk = AuditDesk(engine, self.data, {}, lambda: {BOT: "nora"})
        self.desk.sealer._interval = 0.02
        application = create_app(ControlDouble(), token="sesame", audit=self.desk)  # type: ignore[arg-type]
        server = make_server(application)
        serving = asyncio.create_task(server.serve(sockets=[unix_socket(self.socket)]))
        working = asyncio.create_task(self.desk.run())
        while not server.started:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        self._ready.set()
        await asyncio.to_thread(self._stop.wait)
        working.cancel()
        server.should_exit = True
        await asyncio.gather(serving, working, return_exceptions=True)
        await engine.dispose()

    def end(self) -> None:
        self._stop.set()
        self._thread.join(20)

    def post(self, path: str, body: Any = None, token: str = "sesame") -> int:
        transport = httpx.HTTPTransport(uds=str(self.socket))
        with httpx.Client(transport=transport, headers={"Authorization": f"Bearer {token}"}) as client:
            return client.post(f"http://botctl{path}", json=body).status_code

    def cli(self, *arguments: str) -> Any:
        return CliRunner().invoke(app, [*arguments, "--data-dir", str(self.data)])

    def until(self, *arguments: str, has: int) -> list[dict[str, Any]]:
        """Entries of `search`, once there are so many."""
        deadline = time.monotonic() + 20
        while True:
            done = self.cli("audit", "search", "--json", *arguments)
            assert done.exit_code == 0, done.output
            found = [json.loads(line) for line in done.stdout.splitlines()]
            if len(found) >= has:
                return found
            assert time.monotonic() < deadline, found
            time.sleep(0.02)

    def until_sealed(self) -> None:
        deadline = time.monotonic() + 20
        while json.loads(self.cli("audit", "verify", "--json").stdout)["unsealed"]:
            assert time.monotonic() < deadline
            time.sleep(0.02)


@pytest.fixture(autouse=True)
def _no_log_among_the_output() -> Iterator[None]:
    with structlog.testing.capture_logs():
        yield


@pytest.fixture
def served(new_database: Any, tmp_path: Path) -> Iterator[Served]:
    made = Served(new_database, tmp_path)
    try:
        yield made
    finally:
        made.end()


def test_what_operators_command_is_recorded_with_their_name(served: Served) -> None:
    assert served.post("/v1/bots/nora/restart") == 202
    assert served.post("/v1/bots/nora/stop") == 403
    assert served.post("/v1/psql-login", {"bot": "nora"}) == 200
    assert served.post("/v1/apply", {"fleet": {"bots": []}, "dry_run": True}) in (200, 422)
    assert served.post("/v1/bots/nora/restart", token="wrong") == 401
    assert served.post("/v1/release") == 202
    found = served.until("--actor", "operator", has=4)
    assert [(entry["action"], entry["bot"], entry["entity"], entry["after"]["accepted"]) for entry in found] == [
        ("command.restart", "nora", "bot nora", True),
        ("command.stop", "nora", "bot nora", False),
        ("command.psql-login", "nora", "bot nora", True),
        ("command.release", None, "fleet", True),
    ]
    assert {entry["actor"] for entry in found} == {f"operator:{USER}"}
    assert "the-password" not in json.dumps(found)


def test_search_finds_and_tail_shows(served: Served) -> None:
    for verb in ("restart", "stop", "release"):
        served.post(f"/v1/bots/nora/{verb}")
    served.until("--actor", "operator", has=3)
    assert len(served.until("--action", "command.st", has=1)) == 1
    assert len(served.until("--bot", "nora", "--text", "COMMAND.RELEASE", has=1)) == 1
    assert served.until("--bot", "nora", "--until", "1h", has=0) == []
    assert len(served.until("--entity", "bot nora", "--since", "1h", has=3)) == 3
    shown = served.cli("audit", "tail", "-n", "2").stdout.splitlines()
    assert len(shown) == 2
    assert f"nora  operator:{USER}  command.release bot nora  accepted=true" in shown[1]
    assert served.cli("audit", "search", "--bot", "nobody").exit_code == 4
    assert served.cli("audit", "search", "--since", "soon").exit_code == 2


def test_tail_follows(served: Served) -> None:
    seen: list[dict[str, Any]] = []
    client = ApiClient(_note(served))
    lines = client.lines("/v1/audit/follow", {"bot": "nora"})

    def read() -> None:
        seen.extend(json.loads(next(lines)) for _ in range(3))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    deadline = time.monotonic() + 20
    while reader.is_alive() and time.monotonic() < deadline:
        served.post("/v1/bots/nora/restart")
        time.sleep(0.1)
    lines.close()
    assert [entry["action"] for entry in seen] == ["command.restart"] * 3
    assert len({entry["id"] for entry in seen}) == 3


def _note(served: Served) -> Any:
    from botctl.cli.note import require_note
    from botctl.settings.places import DataFolder

    return require_note(DataFolder(served.data))


def test_verify_says_intact_and_names_what_is_not(
    served: Served, new_database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        served.post("/v1/bots/nora/restart")
    found = served.until("--actor", "operator", has=3)
    served.until_sealed()
    monkeypatch.setenv("BOTCTL_DATABASE_URL", new_database.admin_url)
    for how in ((), ("--offline",)):
        done = served.cli("audit", "verify", *how)
        assert done.exit_code == 0, done.output
        assert "the audit log is intact" in done.output
    copy = served.data / "copy.head"
    copy.write_bytes((served.data / "audit.head").read_bytes())

    async def tamper(statement: str) -> None:
        engine = login_engine(new_database.admin)
        async with engine.begin() as connection:
            await connection.exec_driver_sql(statement)
        await engine.dispose()

    middle = found[1]["id"]
    asyncio.run(tamper(f"UPDATE audit_log SET actor = 'operator:mallory' WHERE audit_id = {middle}"))
    for how in ((), ("--offline",), ("--head", str(copy))):
        done = served.cli("audit", "verify", *how)
        assert done.exit_code == 1
        assert f"entry {middle} (command.restart of bot nora, bot {BOT}) was changed" in done.output
        assert "NOT intact" in done.output
    told = json.loads(served.cli("audit", "verify", "--json").stdout)
    assert (told["intact"], told["findings"][0]["fault"], told["findings"][0]["audit_id"]) == (False, "changed", middle)
    asyncio.run(tamper("TRUNCATE audit_log, audit_seals"))
    told = json.loads(served.cli("audit", "verify", "--json", "--head", str(copy)).stdout)
    assert told["findings"][-1]["fault"] == "truncated"
    assert served.cli("audit", "verify", "--head", str(served.data / "none")).exit_code == 1
    for at in ("infinity", "-infinity", "200000-01-01"):
        asyncio.run(tamper(f"INSERT INTO audit_log (bot_id, at, action, entity) VALUES (1, '{at}', 'forged', 'x')"))
    assert served.cli("audit", "tail").stdout.count("forged x") == 3
    assert served.cli("audit", "verify").exit_code == 1


def test_a_head_file_that_is_gone_is_no_intact_log(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    served.until_sealed()
    assert served.cli("audit", "verify").exit_code == 0
    monkeypatch.setattr("botctl.storage.audit_head.NAME", "elsewhere.head")
    done = served.cli("audit", "verify")
    assert done.exit_code == 1
    assert "is not there" in done.output


def test_times_are_moments_or_ages() -> None:
    assert commands.moment("2h", 10_000.0, "--since") == 2800.0
    assert commands.moment("1970-01-02T00:00:00+00:00", 0.0, "--since") == 86400.0
    assert commands.moment(None, 0.0, "--since") is None
    with pytest.raises(UsageError, match="neither a time nor an age"):
        commands.moment("soon", 0.0, "--since")


async def test_commands_wait_for_the_database_and_cost_nothing_without_it(tmp_path: Path, new_database: Any) -> None:
    import msgspec

    nowhere = msgspec.structs.replace(new_database.control.target, port=1)
    engine = login_engine(msgspec.structs.replace(new_database.control, target=nowhere))
    desk = AuditDesk(engine, tmp_path, {}, lambda: {})
    for number in range(1200):
        desk.note("ann", "command.stop", "fleet", None, {"number": number})
    assert len(desk._waiting) == 1000
    desk._engine = login_engine(new_database.control)
    await desk.write()
    async with desk._engine.connect() as connection:
        found = await audit.search(connection, audit.Search(actor="operator:ann"), 5000)
    assert len(found) == 1000
    assert found[0].after is not None
    assert found[0].after["number"] == 1199
    await desk._engine.dispose()
    await engine.dispose()


def test_a_half_line_and_a_link_are_no_head(tmp_path: Path) -> None:
    head, target = tmp_path / "audit.head", tmp_path / "target"
    head.symlink_to(target)
    with pytest.raises(OSError, match="symbolic links"):
        append_head(head, [HeadLine(1, "aa")])
    assert not target.exists()
