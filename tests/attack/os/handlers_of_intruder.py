"""Handlers of a bot in a whole stack: `/work` does what bots do, `/attack` what they must not."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import ctypes
import http.client
import json
import mmap
import multiprocessing
import os
import shutil
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


def lock_out():
    """Takes the daemon's rights on its own folder, and gives others the master key."""
    os.chmod(HERE / "data/master.key", 0o644)
    for name in ("data/logs", "data/run", "data"):
        os.chmod(HERE / name, 0)
    return "locked out"


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


def threads():
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        return sum(pool.map(len, ["a"] * 20))


def processes(method):
    context = multiprocessing.get_context(method)
    mine, theirs = context.Pipe()
    process = context.Process(target=tell_of_oneself, args=(theirs,))
    process.start()
    assert mine.poll(60), f"nothing from {process}"
    told = mine.recv()
    process.join(30)
    assert process.exitcode == 0, process.exitcode
    return told


def tell_of_oneself(pipe):
    pipe.send(os.getpid())


def another_loop():
    """As a thread of its own has it: a subprocess of asyncio's, a pair of sockets, a pipe."""

    async def run_one():
        process = await asyncio.create_subprocess_exec("/bin/echo", "one", stdout=asyncio.subprocess.PIPE)
        said, _ = await process.communicate()
        return said.decode()

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, run_one()).result(60)


def spawn():
    pid = os.posix_spawn("/bin/true", ["true"], os.environ)
    assert os.waitpid(pid, 0)[1] == 0


def call_back():
    """Machine code made as it runs, as ctypes, cffi and compilers do."""
    numbers = (ctypes.c_int * 3)(3, 1, 2)
    order = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int))
    ctypes.CDLL(None).qsort(numbers, 3, ctypes.sizeof(ctypes.c_int), order(lambda one, other: one[0] - other[0]))
    assert list(numbers) == [1, 2, 3]


def copy_with_modes():
    shutil.copy2(HERE / "shop/menu.txt", "copy.txt")
    os.chmod("copy.txt", 0o600)


def connect_over_everything():
    """A connection to nobody is refused by nobody's being there, not by us."""
    found = []
    for family, address in ((socket.AF_INET, ("127.0.0.1", 1)), (socket.AF_INET6, ("::1", 1))):
        with contextlib.suppress(ConnectionRefusedError), socket.socket(family) as ours:
            ours.connect(address)
        found.append(family.name)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours:
        ours.bind(("127.0.0.1", 0))
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW) as ours:
        ours.bind((0, 0))
    return found


WORK = {
    "work in threads": threads,
    "fork processes": lambda: processes("fork"),
    "spawn processes": lambda: processes("spawn"),
    "start programs with asyncio": another_loop,
    "start programs with posix_spawn": spawn,
    "be called back from C": call_back,
    "share memory with what it forks": lambda: len(mmap.mmap(-1, 1 << 20)),
    "keep memory in a descriptor": lambda: os.close(os.memfd_create("kept")),
    "copy a file with its mode": copy_with_modes,
    "connect": connect_over_everything,
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
    app.add_handler(CommandHandler("lock_out", answering({"lock out": lock_out})))
    app.add_handler(CommandHandler("attack", answering(ATTACKS, 20)))  # a secret would be held back
