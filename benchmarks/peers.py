"""supervisord, circus and PM2 for benchmarks: put into a temporary folder, run from there, nothing global touched.

Each runs the same program twice: with its default settings, and with the fastest that are sensible (every setting that
can shorten the way from a death to a new process, short of a busy loop).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

INSTALL_TIMEOUT = 300.0


class SkippedError(Exception):
    """A peer can't be had here; the message says why."""


@dataclass(frozen=True)
class Variant:
    """One way to run a peer: `start` begins to supervise the command, in a folder of its own."""

    peer: str
    settings: str
    start: Callable[[Path, Sequence[str]], None]


@dataclass(frozen=True)
class Peer:
    """An installed peer."""

    version: str
    variants: tuple[Variant, ...]


def clean_environment(**more: str) -> dict[str, str]:
    """The environment without what is ours or would keep Python from storing compiled modules."""
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("BOTCTL_", "OPENAI_", "PM2_")) and key != "PYTHONDONTWRITEBYTECODE"
    }
    return kept | more


def _run(*command: str | Path, **more: str) -> str:
    try:
        done = subprocess.run(
            command,
            env=clean_environment(**more),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=INSTALL_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SkippedError(f"{Path(command[0]).name}: {error}") from error
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise SkippedError(f"{Path(command[0]).name}: {said[-1] if said else f'exit {done.returncode}'}")
    return done.stdout.strip()


def _daemon(folder: Path, *command: str | Path) -> None:
    """Start a peer that stays in the foreground, in a session of its own: Ctrl-C is for the benchmark."""
    with (folder / "daemon.log").open("wb") as log:
        subprocess.Popen(
            command,
            env=clean_environment(),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _python_package(folder: Path, package: str) -> tuple[Path, str]:
    """A package in a virtual environment of its own: the folder of its programs, and its version."""
    environment = folder / package
    _run(sys.executable, "-m", "venv", environment)
    python = environment / "bin" / "python"
    _run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", package)
    show = f"import importlib.metadata as m; print(m.version({package.partition('[')[0]!r}))"
    return environment / "bin", _run(python, "-c", show)


def supervisord(folder: Path) -> Peer:
    """Its loop looks every second, and needs a look to see a death and another to start anew: no setting for that."""
    programs, version = _python_package(folder, "supervisor")

    def start(settings: str) -> Callable[[Path, Sequence[str]], None]:
        def run(at: Path, command: Sequence[str]) -> None:
            text = f"[supervisord]\nnodaemon=true\n\n[program:bot]\ncommand={' '.join(command)}\n{settings}\n"
            (at / "supervisord.conf").write_text(text)
            _daemon(at, programs / "supervisord", "-c", at / "supervisord.conf")

        return run

    return Peer(
        version,
        (
            Variant("supervisord", "default", start("")),
            Variant("supervisord", "startsecs=0, autorestart=true", start("startsecs=0\nautorestart=true")),
        ),
    )


def circus(folder: Path) -> Peer:
    """Looks for deaths every `check_delay` seconds, 5 by default."""
    programs, version = _python_package(folder, "circus")

    def start(settings: str) -> Callable[[Path, Sequence[str]], None]:
        def run(at: Path, command: Sequence[str]) -> None:
            ends = "".join(f"{end}=ipc://{at}/{end}\n" for end in ("endpoint", "pubsub_endpoint"))
            text = f"[circus]\n{ends}{settings}\n[watcher:bot]\ncmd={' '.join(command)}\n"
            (at / "circus.ini").write_text(text)
            _daemon(at, programs / "circusd", at / "circus.ini")

        return run

    return Peer(
        version,
        (
            Variant("circus", "default", start("")),
            Variant("circus", "check_delay=0.1", start("check_delay=0.1")),
        ),
    )


def pm2(folder: Path) -> Peer:
    """Starts anew at once, without delay or exponential backoff; what can be spared is its look for version control."""
    if shutil.which("npm") is None:
        raise SkippedError("there is no npm")
    at = folder / "pm2"
    at.mkdir()
    quiet = ("--no-fund", "--no-audit", "--no-save", "--loglevel=error", f"--cache={folder / 'npm-cache'}")
    _run("npm", "install", *quiet, f"--prefix={at}", "pm2")
    program = at / "node_modules" / ".bin" / "pm2"
    version = json.loads((at / "node_modules" / "pm2" / "package.json").read_text())["version"]

    def start(**settings: object) -> Callable[[Path, Sequence[str]], None]:
        def run(where: Path, command: Sequence[str]) -> None:
            interpreter, script, *arguments = command
            app = {"name": "bot", "script": script, "interpreter": interpreter, "args": arguments, **settings}
            (where / "bot.json").write_text(json.dumps({"apps": [app]}))
            _run(program, "start", where / "bot.json", PM2_HOME=str(where))

        return run

    fast = start(vizion=False, pmx=False, automation=False)
    node = _run("node", "--version").removeprefix("v")
    return Peer(
        f"{version} (node {node})",
        (
            Variant("PM2", "default", start()),
            Variant("PM2", "vizion, pmx, automation off", fast),
        ),
    )


INSTALLERS: dict[str, Callable[[Path], Peer]] = {"supervisord": supervisord, "circus": circus, "PM2": pm2}
