"""The demo's course: sandbox and daemon come up, a scripted conversation runs, a bot is killed and still remembers.

What is counted is what a user sees: messages sent to bots, and messages that came back.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import socket
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from rich.text import Text

from botctl.cli import starting
from botctl.cli.boot import daemon_environment
from botctl.cli.client import ApiClient
from botctl.cli.demo_script import FACT, KILLED, PEOPLE, SCRIPT, Kill, Press, Say
from botctl.cli.shared import console, say
from botctl.errors import BotctlError, RefusedError
from botctl.handover import ExecSpec
from botctl.sandbox.client import SandboxClient
from botctl.settings.load import load_settings
from botctl.settings.model import Settings
from botctl.settings.places import DataFolder, default_data_dir

if TYPE_CHECKING:
    import subprocess

REPLY_WAIT = 30.0
_READY_WAIT = 60.0
_STOP_WAIT = 30.0
_POLL = 0.02


@dataclass
class Score:
    """What the user has seen."""

    sent: int = 0
    answered: int = 0
    complaints: list[str] = field(default_factory=list)

    @property
    def lost(self) -> int:
        """Messages without an answer."""
        return self.sent - self.answered


def run_demo(data_dir: Path | None, *, once: bool) -> int:
    """Run it; returns the exit code."""
    chosen = data_dir or (None if os.environ.get("BOTCTL_DATA_DIR") else default_data_dir() / "demo")
    telegram, completion, api = _free_ports(3)
    settings = load_settings(data_dir=chosen, fleet=_fleet_file()).model_copy(
        update={
            "telegram_base_url": f"http://127.0.0.1:{telegram}",
            "openai_base_url": f"http://127.0.0.1:{completion}/v1",
            "api_listen": f"127.0.0.1:{api}",
        }
    )
    fleet, _ = starting.read_fleet(settings.fleet, {})
    folder = DataFolder(settings.data_dir)
    starting.refuse_second(folder)
    if settings.database_url is not None:
        asyncio.run(_refuse_foreign_fleet(settings.database_url.get_secret_value(), [bot.bot_id for bot in fleet.bots]))
    payload = msgspec.structs.replace(
        starting.payload_of(settings, fleet, {}, foreground=False),
        openai_api_key="sk-sandbox-needs-no-key",
        sandbox=_sandbox(telegram, completion),
        ends_with=os.getpid(),
    )
    say(f"starting in {folder.root}")
    process, words = starting.spawn_daemon(payload)
    try:
        note = starting.wait_until_serving(process, words, folder)
        score = asyncio.run(_Conversation(ApiClient(note), settings).run())
        if not once:
            _stay(process, folder, settings, [bot.name for bot in fleet.bots])
    finally:
        _end(process)
    for complaint in score.complaints:
        say(complaint)
    print(f"demo: {score.sent} messages sent, {score.answered} answered, {score.lost} lost", flush=True)
    return 1 if score.lost or score.complaints else 0


class _Conversation:
    def __init__(self, client: ApiClient, settings: Settings) -> None:
        self._client = client
        self._settings = settings
        self._screen = console()
        self._score = Score()
        self._seen: dict[int, int] = {}
        self._last_message: dict[int, int] = {}
        self._bots: dict[str, dict[str, Any]] = {}
        # A chat nobody has used: the fleet's folder may remember an earlier demo.
        self._chats = {person: 1_000_000 + secrets.randbelow(1_000_000_000) for person in PEOPLE}

    async def run(self) -> Score:
        await self._until_running()
        async with SandboxClient(self._settings.telegram_base_url) as sandbox:
            for step in SCRIPT:
                match step:
                    case Kill(bot):
                        self._kill(bot)
                    case Press():
                        await self._press(sandbox, step)
                    case Say():
                        await self._exchange(sandbox, step)
        await self._until_running()
        now = self._bots[KILLED]
        self._note(f"{KILLED} has been restarted {now['restarts']} time(s); it is process {now['pid']} now")
        return self._score

    async def _exchange(self, sandbox: SandboxClient, step: Say) -> None:
        bot_id, chat_id = int(self._bots[step.bot]["bot_id"]), self._chats[step.person]
        seen = self._seen.get(bot_id, 0)
        begun = time.monotonic()
        await sandbox.say(bot_id, chat_id, step.text, {"id": chat_id, "first_name": step.person})
        self._score.sent += 1
        self._line(step.person, step.bot, step.text, "cyan")
        reply = await sandbox.wait_for_reply(bot_id, chat_id, seen, REPLY_WAIT)
        if reply is None:
            self._score.complaints.append(f"{step.bot} has not answered {step.person!r} within {REPLY_WAIT:g} s")
            return
        self._seen[bot_id] = reply.seq
        if reply.message_id is not None:
            self._last_message[bot_id] = reply.message_id
        self._score.answered += 1
        took = (time.monotonic() - begun) * 1000
        self._line(step.bot, step.person, reply.text, "green", f"  ({took:.0f} ms)")
        if step.expect and step.expect.lower() not in reply.text.lower():
            self._score.complaints.append(f"{step.bot} should have said {step.expect!r}: {FACT} was not remembered")

    async def _press(self, sandbox: SandboxClient, step: Press) -> None:
        bot_id, chat_id = int(self._bots[step.bot]["bot_id"]), self._chats[step.person]
        await sandbox.press(
            bot_id, chat_id, self._last_message[bot_id], step.data, {"id": chat_id, "first_name": step.person}
        )
        self._line(step.person, step.bot, f"[presses {step.label}]", "cyan")
        reply = await sandbox.wait_for_reply(bot_id, chat_id, self._seen.get(bot_id, 0), REPLY_WAIT)
        if reply is None or step.expect not in reply.text:
            self._score.complaints.append(f"{step.bot} should have said {step.expect!r}: no event came back")
            return
        self._seen[bot_id] = reply.seq
        self._line(step.bot, step.person, reply.text, "green")
        self._note("two events made that: the order went to gus, and gus told nora that it is cooked")

    def _kill(self, name: str) -> None:
        pid = int(self._bots[name]["pid"])
        os.kill(pid, signal.SIGKILL)
        self._note(f"{name} (process {pid}) is killed with SIGKILL")

    async def _until_running(self) -> None:
        deadline = time.monotonic() + _READY_WAIT
        while True:
            bots = (await asyncio.to_thread(self._client.get, "/v1/status"))["bots"]
            self._bots = {bot["name"]: bot for bot in bots}
            if all(bot["state"] == "running" for bot in bots) and bots:
                return
            hopeless = any(bot["state"] == "quarantined" for bot in bots)
            if hopeless or time.monotonic() > deadline:
                states = ", ".join(f"{bot['name']} is {bot['state']} ({bot['reason']})" for bot in bots)
                raise BotctlError(f"not every bot runs: {states}", hint="`botctl logs` says why.")
            await asyncio.sleep(_POLL)

    def _line(self, who: str, to: str, text: str, colour: str, tail: str = "") -> None:
        self._screen.print(Text.assemble((f"{who:>5} → {to:5}", colour), "  ", text, (tail, "dim")), soft_wrap=True)

    def _note(self, text: str) -> None:
        self._screen.print(Text(f"{'':13}  · {text}", style="yellow"), soft_wrap=True)


def _stay(process: subprocess.Popen[bytes], folder: DataFolder, settings: Settings, names: list[str]) -> None:
    where = f"--data-dir {folder.root}"
    say(f"talk: botctl chat {names[0]} {where}   (also: {', '.join(names[1:])})")
    say(f"look: botctl status {where};  botctl events -f {where}")
    say(f"status and metrics: http://{settings.api_listen}/v1/status  http://{settings.api_listen}/metrics")
    say("Ctrl-C ends the demo")
    try:
        process.wait()
    except KeyboardInterrupt:
        say("ending")


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
    deadline = time.monotonic() + _STOP_WAIT
    while process.poll() is None:
        if time.monotonic() > deadline:
            process.kill()
        time.sleep(_POLL)


def _sandbox(telegram: int, completion: int) -> ExecSpec:
    argv = [sys.executable, "-P", "-m", "botctl.sandbox", "--any-bot", "--any-chat"]
    ports = ["--telegram-port", str(telegram), "--completion-port", str(completion)]
    return ExecSpec(name="sandbox", argv=[*argv, *ports], env=daemon_environment(), stop_timeout=5.0)


def _free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [int(one.getsockname()[1]) for one in held]
    finally:
        for one in held:
            one.close()


def _fleet_file() -> Path:
    """`examples/` of the checkout, or of the installed package."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "examples", package.parents[1] / "examples"):
        file = folder / "concierge" / "demo.yaml"
        if file.is_file():
            return file
    raise BotctlError("the demo's fleet file is missing from this installation", hint="Install botctl again.")


async def _refuse_foreign_fleet(address: str, demo_bots: list[int]) -> None:
    """A daemon owns its database's registry; the demo must not take another fleet's."""
    import asyncpg

    from botctl.storage.engine import connect, parse_database_url

    try:
        connection = await connect(parse_database_url(address))
    except (asyncpg.PostgresError, OSError, TimeoutError):
        return  # Not there yet, or unusable: the daemon says so with more words.
    try:
        if await connection.fetchval("SELECT to_regclass('public.bots') IS NULL"):
            return
        async with connection.transaction(readonly=True):
            await connection.execute("SET LOCAL ROLE botctl_owner")
            others = await connection.fetchval(
                "SELECT count(*) FROM bots WHERE removed_at IS NULL AND bot_id <> ALL($1::bigint[])", demo_bots
            )
    finally:
        await connection.close()
    if others:
        raise RefusedError(
            f"the database of BOTCTL_DATABASE_URL holds another fleet ({others} bots)",
            hint="Give the demo a database of its own; it is created if it does not exist.",
        )
