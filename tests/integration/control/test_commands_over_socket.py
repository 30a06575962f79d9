"""Commands against a served API, with a double of `control` behind it; and as real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from botctl.api.app import create_app
from botctl.cli.main import app
from botctl.cli.note import process_started
from botctl.control.serve import make_server, unix_socket
from botctl.control.views import (
    AppliedBody,
    BotView,
    CommandBody,
    DaemonView,
    DeathBody,
    DeathsBody,
    EventBody,
    HealthBody,
    LoginBody,
    RunBody,
    StatusBody,
)
from botctl.errors import NoSuchBotError, RefusedError
from botctl.fleet import Fleet


class ControlDouble:
    """Has one bot, `a`; notes what it is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.failed: dict[str, str] = {}
        self.broken = False

    async def status(self) -> StatusBody:
        daemon = DaemonView(pid=1, state="running", version="9.9", uptime_s=7200.0, problems=["redis: away"])
        state, pid = ("running", 9) if ("restart", "a") in self.asked else ("backoff", None)
        bot = BotView(name="a", bot_id=7, state=state, pid=pid, reason="exit 1", restarts=3, memory_mb=17.5)
        hung = {"last_failure": "hang", "last_exit": "signal 9", "last_failure_at": time.time() - 180}
        return StatusBody(daemon=daemon, bots=[bot, BotView(name="b", bot_id=8, state="running", pid=10, **hung)])

    async def apply(
        self, fleet: Fleet, *, fleet_path: str | None, fleet_env: dict[str, str], dry_run: bool
    ) -> AppliedBody:
        self.asked.append(("apply", [bot.bot_id for bot in fleet.bots], fleet_path, fleet_env, dry_run))
        return AppliedBody(dry_run=dry_run, added=["a"], removed=["b"], changed=[], unchanged=["c"], failed=self.failed)

    async def reload(self) -> AppliedBody:
        self.asked.append(("reload",))
        return AppliedBody(added=[], removed=[], changed=["a"], unchanged=[])

    async def command(self, verb: str, name: str) -> CommandBody:
        if name not in ("", "a"):
            raise NoSuchBotError(f"no bot is called {name!r}", hint="There are: a.")
        if verb == "release":
            raise RefusedError("a is not quarantined")
        self.asked.append((str(verb), name))
        return CommandBody()

    async def shutdown(self) -> CommandBody:
        self.asked.append(("shutdown",))
        return CommandBody()

    async def open_events(self, log: str, after: str, follow: bool) -> AsyncIterator[EventBody]:
        self.asked.append(("events", log, after, follow))

        async def entries() -> AsyncIterator[EventBody]:
            yield EventBody(
                entry="1-0", log="bot", id="i", type="bot.ready", version=1, source="fleet", occurred_at=0.0,
                data={"name": "a"},
            )  # fmt: skip

        return entries()

    async def runs(self, name: str | None, limit: int) -> list[RunBody]:
        return []

    async def deaths(self, name: str, limit: int, planned: bool) -> DeathsBody:
        self.asked.append(("deaths", name, limit, planned))
        if name != "a":
            raise NoSuchBotError(f"no bot is called {name!r}", hint="There are: a.")
        if self.broken:
            raise RuntimeError("a mistake of ours")
        died = DeathBody(
            name="a", bot_id=7, incarnation=2, started_at=time.time() - 90, ended_at=time.time() - 80, duration_s=10.0,
            failure="hang", exit="signal 9", cause="no heartbeat for 10 s", action="restarted in 0.08 s",
            memory_mb=17.5, silent_for_s=10.2, log_tail=["the last line"], stacks="", source="database",
        )  # fmt: skip
        bot = BotView(name="a", bot_id=7, state="backoff", reason="no heartbeat for 10 s")
        return DeathsBody(name="a", bot=bot, deaths=[died], last_end=died, failures_24h={"hang": 1})

    async def psql_login(self, name: str) -> LoginBody:
        return LoginBody(url="postgresql://u:p@h/d", valid_until=0.0)

    async def health(self) -> HealthBody:
        return HealthBody(ok=True)

    async def metrics(self) -> bytes:
        return b""


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    for name in [name for name in os.environ if name.startswith(("BOTCTL_", "OPENAI_"))]:
        monkeypatch.delenv(name)
    (tmp_path / "run").mkdir()
    monkeypatch.setenv("BOTCTL_DATA_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def control(folder: Path) -> Iterator[ControlDouble]:
    double = ControlDouble()
    socket = folder / "run/api.sock"
    listener = unix_socket(socket)
    server = make_server(create_app(double, version="9.9"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    note = {
        "pid": os.getpid(), "process_started": process_started(os.getpid()), "started_at": 1.0, "version": "9.9",
        "state": "serving", "socket": str(socket), "data_dir": str(folder), "telegram_base_url": "http://127.0.0.1:1",
    }  # fmt: skip
    (folder / "run/daemon.json").write_text(json.dumps(note))
    deadline = time.monotonic() + 10
    while not server.started:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    yield double
    server.should_exit = True
    thread.join()


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))


def test_the_socket_is_its_owners_only(control: ControlDouble, folder: Path) -> None:
    assert (folder / "run/api.sock").stat().st_mode & 0o777 == 0o600


def test_status_is_a_table_and_json(control: ControlDouble) -> None:
    shown = run("status")
    assert shown.exit_code == 0
    failed = "last failure: hang (SIGKILL), 3 min ago"
    for word in ("botctl 9.9", "up 2h", "! redis: away", "backoff", "exit 1", "18 MB", failed):
        assert word in shown.stdout
    assert "\x1b" not in shown.stdout
    assert json.loads(run("status", "--json").stdout)["bots"][0]["restarts"] == 3


def test_commands_reach_control(control: ControlDouble) -> None:
    assert run("stop", "a").exit_code == 0
    assert run("restart", "a").exit_code == 0
    assert run("restart").exit_code == 0
    assert run("reload").stdout == "a: changed\n0 bots unchanged\n"
    assert control.asked == [("stop", "a"), ("restart", "a"), ("restart", ""), ("reload",)]


def test_an_unknown_bot_is_4_and_a_refusal_5(control: ControlDouble) -> None:
    unknown = run("stop", "x")
    assert (unknown.exit_code, unknown.stderr) == (4, "botctl: error: no bot is called 'x'\nhint: There are: a.\n")
    assert run("release", "a").exit_code == 5
    assert run("chat", "x").exit_code == 4


def test_chat_is_refused_where_there_is_no_sandbox(control: ControlDouble) -> None:
    result = run("chat", "a")
    assert result.exit_code == 5
    assert "no sandbox" in result.stderr


def test_apply_sends_the_fleet_and_only_the_variables_it_asks_for(
    control: ControlDouble, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "fleet.yaml").write_text("bots:\n  - name: a\n    token: ${A_TOKEN}\n")
    monkeypatch.setenv("A_TOKEN", "7:abc")
    monkeypatch.setenv("UNRELATED", "x")
    result = run("apply", "--dry-run")
    assert result.stdout == "a: would be added\nb: would be removed\n1 bot unchanged\n"
    assert run("apply").stdout == "a: added\nb: removed\n1 bot unchanged\n"
    path = str(folder / "fleet.yaml")
    assert control.asked == [("apply", [7], path, {"A_TOKEN": "7:abc"}, dry) for dry in (True, False)]


def test_a_partly_failed_apply_is_1_and_names_the_bot(control: ControlDouble, folder: Path) -> None:
    (folder / "fleet.yaml").write_text("bots:\n  - name: a\n    token: 7:abc\n")
    control.failed = {"a": "role exists"}
    result = run("apply")
    assert result.exit_code == 1
    assert "a: role exists" in result.stderr


def test_events_are_lines_for_people_and_json_for_scripts(control: ControlDouble) -> None:
    assert "bot.ready" in run("events").stdout
    assert json.loads(run("events", "--json", "-f", "--log", "bot").stdout)["entry"] == "1-0"
    assert control.asked == [("events", "all", "0", False), ("events", "bot", "$", True)]


def test_why_asks_control(control: ControlDouble) -> None:
    told = run("why", "a", "--last", "5", "--all")
    assert told.exit_code == 0
    for words in (
        "a is down: no heartbeat for 10 s. It is started again by itself.", "To do: The stacks show where it stood.",
        "Failures in the last 24 h: hang once.",
        "hang · killed by its supervisor · after 10 s · silent for 10 s · 18 MB",
        "  Then: restarted in 0.08 s", "    the last line",
    ):  # fmt: skip
        assert words in told.stdout
    assert "\x1b" not in told.stdout
    body = json.loads(run("why", "a", "--json").stdout)
    assert list(body["deaths"][0]) == [
        "name", "bot_id", "incarnation", "started_at", "ended_at", "duration_s", "failure", "exit", "cause", "action",
        "memory_mb", "silent_for_s", "log_tail", "stacks", "source",
    ]  # fmt: skip
    assert control.asked == [("deaths", "a", 5, True), ("deaths", "a", 3, False)]
    unknown = run("why", "x")
    assert (unknown.exit_code, unknown.stderr) == (4, "botctl: error: no bot is called 'x'\nhint: There are: a.\n")


def test_why_reads_the_file_when_control_fails_to_answer(control: ControlDouble, folder: Path) -> None:
    control.broken = True
    assert run("why", "a").exit_code == 1
    (folder / "logs").mkdir()
    record = {
        "type": "Lifecycle", "seq": 1, "at": time.time() - 60, "name": "a", "bot_id": 7, "incarnation": 1,
        "from_state": "running", "to_state": "backoff", "reason": "exit 1", "exit": "exit 1", "failure": "crash",
    }  # fmt: skip
    lines = [json.dumps(one, separators=(",", ":")) + "\n" for one in (record, record | {"name": "x", "bot_id": 8})]
    (folder / "logs/deaths.log").write_text("".join(lines))
    told = run("why", "a")
    assert told.exit_code == 0
    assert told.stdout.startswith("How a is now can't be told: internal error: RuntimeError.\n")
    assert f"! This is what {folder}/logs/deaths.log tells." in told.stdout
    assert "crash · exit 1" in told.stdout
    assert run("why", "x").exit_code == 4, "whoever control doesn't know isn't looked for in the file: it has done so"


def test_real_processes_end_with_the_same_codes_and_begin_quickly(control: ControlDouble) -> None:
    def botctl(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-P", "-m", "botctl", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)

    assert botctl("status", "--json").returncode == 0
    unknown = botctl("stop", "x")
    assert (unknown.returncode, "Traceback" in unknown.stderr) == (4, False)
    assert botctl("--nonsense").returncode == 2
    assert botctl("status", "--data-dir", "/nowhere").returncode == 3


def test_slim_commands_import_no_heavy_library() -> None:
    code = (
        "import sys, botctl.cli.main\n"
        "heavy = {'pydantic', 'sqlalchemy', 'redis', 'fastapi', 'telegram', 'openai', 'aiohttp', 'httpx', 'asyncio'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
