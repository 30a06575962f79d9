"""Runs both emulators as ordinary HTTP servers, in a process of their own or inside a test.

Prints one line of JSON when they serve: `{"telegram": URL, "completion": URL}`. The first is a Bot API root
(`/bot<token>/METHOD` follows it), the second an OpenAI base URL (it ends in `/v1`).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import json
import logging
import os
import resource
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web

from botctl.sandbox.completion.app import CompletionWorld, completion_app
from botctl.sandbox.faults.script import ScriptError, add_faults
from botctl.sandbox.telegram.app import telegram_app
from botctl.sandbox.telegram.limits import PRESETS, change_limits
from botctl.sandbox.telegram.world import World

SHUTDOWN_SECONDS = 0.2
"""How long open calls may run on after a stop; then they are cut, long polls above all."""
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Options:
    """How to run. Ports of 0 are chosen by the system."""

    host: str = "127.0.0.1"
    telegram_port: int = 0
    completion_port: int = 0
    bots: tuple[str, ...] = ()
    any_bot: bool = False
    any_chat: bool = False
    strict_polling: bool = False
    chat_burst: int = 0
    chat_rate: float = 1.0
    flood: str = "off"
    https_webhooks: bool = False
    models: tuple[str, ...] = ()
    refused_keys: tuple[str, ...] = ()
    chunk_delay: float = 0.0
    faults: Path | None = None
    """JSON: `{"telegram": [fault, …], "completion": [fault, …]}`, in force from the start."""
    access_log: bool = False
    ready_file: Path | None = None
    die_with_parent: bool = False


class Sandbox:
    """Both emulators, running between `start` and `stop` (or inside `async with`)."""

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or Options()
        chosen = self.options
        self.telegram = World(
            any_bot=chosen.any_bot,
            any_chat=chosen.any_chat,
            strict_polling=chosen.strict_polling,
            https_webhooks=chosen.https_webhooks,
        )
        figures = {"chat_burst": chosen.chat_burst, "chat_rate": chosen.chat_rate} if chosen.chat_burst else {}
        change_limits(self.telegram, {"flood": chosen.flood, **figures})
        self.completion = CompletionWorld(chosen.models, set(chosen.refused_keys), chosen.chunk_delay)
        for token in chosen.bots:
            self.telegram.register(token)
        if chosen.faults is not None:
            add_faults(chosen.faults, {"telegram": self.telegram.faults, "completion": self.completion.faults})
        self.telegram_url = ""
        self.completion_url = ""
        self._runners: list[web.AppRunner] = []

    async def start(self) -> None:
        """Listen. Raises OSError when a port is taken."""
        try:
            self.telegram_url = await self._serve(telegram_app(self.telegram), self.options.telegram_port)
            completion = await self._serve(completion_app(self.completion), self.options.completion_port)
        except BaseException:
            await self.stop()
            raise
        self.completion_url = f"{completion}/v1"

    async def stop(self) -> None:
        """Close both, cutting what is still held."""
        runners, self._runners = self._runners, []
        await asyncio.gather(*(runner.cleanup() for runner in runners))

    async def __aenter__(self) -> Sandbox:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def _serve(self, app: web.Application, port: int) -> str:
        settings: dict[str, Any] = {} if self.options.access_log else {"access_log": None}
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=SHUTDOWN_SECONDS, **settings)
        self._runners.append(runner)
        await runner.setup()
        site = web.TCPSite(runner, self.options.host, port, backlog=1024)
        await site.start()
        bound = runner.addresses[0][1]
        host = f"[{self.options.host}]" if ":" in self.options.host else self.options.host
        return f"http://{host}:{bound}"


async def serve(options: Options) -> None:
    """Run until SIGTERM or SIGINT."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with Sandbox(options) as sandbox:
        line = json.dumps({"telegram": sandbox.telegram_url, "completion": sandbox.completion_url})
        if options.ready_file is not None:
            await asyncio.to_thread(_write_whole, options.ready_file, line + "\n")
        with contextlib.suppress(BrokenPipeError):
            print(line, flush=True)
        await stopped.wait()


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    options = parse_arguments(arguments)
    if options.access_log:
        _log_to_stderr()
    _raise_open_files()
    if options.die_with_parent and not _die_with_parent():
        return 1
    try:
        asyncio.run(serve(options))
    except (ValueError, ScriptError) as error:
        print(f"sandbox: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"sandbox: can't listen on {options.host}: {error}", file=sys.stderr)
        return 1
    return 0


def parse_arguments(arguments: Sequence[str] | None = None) -> Options:
    """Options from a command line."""
    parser = argparse.ArgumentParser(
        prog="python -m botctl.sandbox",
        description="Emulators of the Telegram Bot API and of an OpenAI-compatible completion API.",
    )
    add = parser.add_argument
    add("--host", default="127.0.0.1")
    add("--telegram-port", type=int, default=0, metavar="PORT", help="0 (the default) takes a free one")
    add("--completion-port", type=int, default=0, metavar="PORT", help="0 (the default) takes a free one")
    add("--bot", action="append", default=[], metavar="TOKEN", help="register a bot; repeatable")
    add("--any-bot", action="store_true", help="register a bot at the first sight of any well-formed token")
    add("--any-chat", action="store_true", help="let bots write to chats that never wrote to them")
    add("--strict-polling", action="store_true", help="the 3-second rules of the real getUpdates")
    add("--chat-burst", type=int, default=0, metavar="N", help="messages at once into a chat before 429; 0 is off")
    add("--chat-rate", type=float, default=1.0, metavar="N", help="messages a second into a chat in the long run")
    add("--flood", choices=sorted(PRESETS), default="off", help="telegram: 30/s a bot, 1/s a chat, 20/min a group")
    add("--https-webhooks", action="store_true", help="refuse webhooks without TLS on this machine too")
    add("--model", action="append", default=[], metavar="NAME", help="the only models there are; repeatable")
    add("--refused-key", action="append", default=[], metavar="KEY", help="an API key answered with 401; repeatable")
    add("--chunk-delay", type=float, default=0.0, metavar="SECONDS", help="pause between pieces of a stream")
    add("--faults", type=Path, metavar="FILE", help="JSON of faults in force from the start")
    add("--access-log", action="store_true", help="log every request to stderr")
    add("--ready-file", type=Path, metavar="FILE", help="write the ready line there too")
    add("--die-with-parent", action="store_true", help="end when the starting process ends (Linux)")
    given = parser.parse_args(arguments)
    return Options(
        host=given.host,
        telegram_port=given.telegram_port,
        completion_port=given.completion_port,
        bots=tuple(given.bot),
        any_bot=given.any_bot,
        any_chat=given.any_chat,
        strict_polling=given.strict_polling,
        chat_burst=given.chat_burst,
        chat_rate=given.chat_rate,
        flood=given.flood,
        https_webhooks=given.https_webhooks,
        models=tuple(given.model),
        refused_keys=tuple(given.refused_key),
        chunk_delay=given.chunk_delay,
        faults=given.faults,
        access_log=given.access_log,
        ready_file=given.ready_file,
        die_with_parent=given.die_with_parent,
    )


def _write_whole(path: Path, text: str) -> None:
    """Write a file so that a reader sees all of it or none."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(text)
    partial.replace(path)


def _raise_open_files() -> None:
    """Each bot keeps two connections; the usual soft limit of 1024 descriptors ends near 500 bots."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _die_with_parent() -> bool:
    """Ask the kernel for SIGTERM at the parent's end; False when the parent has ended already."""
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    return os.getppid() == parent


def _log_to_stderr() -> None:
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(message)s")
