"""Handlers of a bot in a whole stack: `/work` does what bots do, `/attack` what they must not."""

from __future__ import annotations

import http.client
import json
import os
import socket
import sqlite3
import ssl
import subprocess
import sys
import tempfile
from pathlib import Path

from telegram.ext import CommandHandler

HERE = Path(__file__).parent


class _Unix(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(HERE / "data/run/api.sock"))


def ask(path, token):
    connection = _Unix("botctl", timeout=10)
    connection.request("POST", path, headers={"Authorization": f"Bearer {token}"})
    answer = connection.getresponse()
    if answer.status >= 400:
        raise PermissionError(answer.status, answer.read().decode()[:100])
    return answer.status


def with_the_token():
    return ask("/v1/bots/victim/stop", (HERE / "data/api.token").read_text())


def guessing():
    return ask("/v1/bots/victim/stop", "x" * 43)


def import_late():
    import shop.prices

    return shop.prices.BREAD


def keep_a_database():
    with sqlite3.connect("mine.db") as database:
        database.execute("CREATE TABLE IF NOT EXISTS t (a)")
    return Path("mine.db").absolute().as_posix()


def temporary():
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"x")
        return file.name


def run(*arguments):
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def to_stdout():
    with open("/dev/stdout", "w") as out:
        return out.write("a line by name\n")


def zone():
    import zoneinfo

    return str(zoneinfo.ZoneInfo("Europe/Paris"))


WORK = {
    "import a module late": import_late,
    "read a file beside the handlers": lambda: (HERE / "shop/menu.txt").read_text(),
    "keep a database in the working directory": keep_a_database,
    "write where the fleet file allows it": lambda: (HERE / f"state/seen-{os.getpid()}").write_text("x"),
    "make a temporary file": temporary,
    "run a program": lambda: run("/bin/sh", "-c", "echo $HOME; cat shop/menu.txt || true"),
    "run the interpreter": lambda: run(sys.executable, "-c", "import ssl, sqlite3, botctl; print(1)"),
    "run a script beside the handlers": lambda: run("/bin/sh", str(HERE / "shop/script.sh")),
    "write to /dev/stdout": to_stdout,
    "look up a name": lambda: socket.getaddrinfo("localhost", 80)[0][4][0],
    "trust the system's certificates": lambda: ssl.create_default_context().cert_store_stats()["x509_ca"] > 0,
    "know time zones": zone,
    "know its own memory": lambda: Path("/proc/self/smaps_rollup").read_text()[:1],
}

ATTACKS = {
    "stop another bot over the control socket": with_the_token,
    "guess the API's token": guessing,
    "read the fleet's tokens": lambda: (HERE / "fleet.yaml").read_text(),
    "read the password of the database's administrator": lambda: (HERE / "data/postgres/admin.password").read_text(),
    "read the kept copies of handlers": lambda: (HERE / "data/code/index.json").read_text(),
    "read the environment of one's own daemon": lambda: Path(f"/proc/{os.getppid()}/environ").read_bytes(),
}


def attempt(function):
    try:
        return f"done: {function()}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def answering(what, longest=1000):
    async def answer(update, context):
        results = {name: attempt(function)[:longest] for name, function in what.items()}
        await update.message.reply_text(json.dumps({**results, "uid": os.getuid()})[:4000])

    return answer


def register(app, bot):
    app.add_handler(CommandHandler("work", answering(WORK)))
    app.add_handler(CommandHandler("attack", answering(ATTACKS, 20)))  # a secret would be held back
