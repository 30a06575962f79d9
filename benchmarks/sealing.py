"""What `encrypt_messages` costs: messages stored and read, clear and sealed in turns, in one run on an embedded server.

One round stores an update in the inbox and a message with its send, each committed, as a bot does, and reads the last
twenty messages. `--messages N` rounds a kind, 2000 unless told. Prints medians; the ratio is what counts.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from botctl.embedded.postgres import prepare_postgres
from botctl.embedded.probes import ping_postgres
from botctl.security.vault import Cipher, DataKey
from botctl.storage import scram
from botctl.storage.bootstrap import prepare
from botctl.storage.conversations import Conversations, StoredMessage
from botctl.storage.engine import bot_engine, login_engine
from botctl.storage.inbox import Inbox, NewRow
from botctl.storage.logins import ensure_login
from botctl.storage.sealing import Sealing
from botctl.storage.sends import SendRow, Sends

BOT = 1001
TEXT = "Could you tell me whether the red bicycle with eight gears is still there, and what it costs? " * 2
UPDATE = json.dumps(
    {
        "update_id": 1,
        "message": {
            "message_id": 1,
            "date": 0,
            "chat": {"id": 7, "type": "private", "first_name": "Ada"},
            "from": {"id": 7, "is_bot": False, "first_name": "Ada", "language_code": "en"},
            "text": TEXT,
        },
    }
)


@contextlib.contextmanager
def server() -> Iterator[str]:
    """The administrator's URL of an embedded PostgreSQL, as in production."""
    folder = Path(tempfile.mkdtemp(prefix="botctl-sealing-"))
    folder.chmod(0o755)
    made = prepare_postgres(folder / "postgres", max_connections=20)
    spec = made.spec
    groups = None if spec.uid is None else []
    process = subprocess.Popen(
        spec.argv, env=spec.env, cwd=spec.cwd, user=spec.uid, group=spec.gid, extra_groups=groups,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        while not ping_postgres(made.admin_url):
            time.sleep(0.02)
        yield made.admin_url
    finally:
        process.send_signal(spec.stop_signal)
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


class Kind:
    """One way of storing, and how long its rounds took, in seconds."""

    def __init__(self, name: str, sealing: Sealing) -> None:
        self.name = name
        self.inbox, self.sends = Inbox(BOT, sealing), Sends(BOT, sealing)
        self.conversations = Conversations(BOT, sealing)
        self.conversation = 0
        self.stored: list[float] = []
        self.read: list[float] = []


async def measure(url: str, rounds: int) -> list[Kind]:
    """Rounds of both kinds, one after the other."""
    login = (await prepare(url)).control
    control = login_engine(login)
    password = scram.new_password()
    async with control.begin() as connection:
        await ensure_login(connection, BOT, password)
    engine = bot_engine(login.target, BOT, lambda: (password,))
    single = engine.execution_options(isolation_level="AUTOCOMMIT")
    kinds = [Kind("clear", Sealing()), Kind("sealed", Sealing(Cipher(BOT, [DataKey.new(BOT, 1)]), seals=True))]
    async with engine.begin() as connection:
        for number, kind in enumerate(kinds):
            kind.conversation, _ = await kind.conversations.open(connection, number + 1, 0)
    for number in range(rounds):
        for kind in kinds if number % 2 else reversed(kinds):
            cause = f"{kind.name}:{number}"
            message = StoredMessage(kind.conversation, 7, 0, "in", "user", TEXT, cause)
            row = SendRow(cause, 0, "deferred", "sendMessage", 7, {"chat_id": 7, "text": TEXT}, "sending")
            begun = time.perf_counter()
            async with single.connect() as connection:
                await kind.inbox.add(connection, [NewRow(cause, number, "message", "chat:7", UPDATE, "")])
            async with engine.begin() as connection:
                await kind.conversations.add(connection, [message])
                await kind.sends.plan(connection, [row])
            stored = time.perf_counter()
            async with single.connect() as connection:
                turns = await kind.conversations.history(connection, kind.conversation, "", 20)
            kind.read.append(time.perf_counter() - stored)
            kind.stored.append(stored - begun)
            assert turns[-1].text == TEXT
    await engine.dispose()
    await control.dispose()
    return kinds


def ciphers(rounds: int = 20_000) -> float:
    """Seconds to seal and to open what one round seals: update, message and send."""
    sealing = Sealing(Cipher(BOT, [DataKey.new(BOT, 1)]), seals=True)
    begun = time.perf_counter()
    for _ in range(rounds):
        sealing.read_json("inbox", "payload", sealing.json("inbox", "payload", UPDATE))
        sealing.read_text("messages", "text", sealing.text("messages", "text", TEXT))
        sealing.read_json("sends", "payload", sealing.json("sends", "payload", UPDATE))
    return (time.perf_counter() - begun) / rounds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=2000)
    rounds = parser.parse_args().messages
    with server() as url:
        clear, sealed = asyncio.run(measure(url, rounds))
    pure = ciphers()
    print(f"{rounds} messages of each kind, {os.cpu_count()} cores; medians in µs")
    print(f"{'':24}{'clear':>10}{'sealed':>10}{'ratio':>8}")
    for name, before, after in (("store a message", clear.stored, sealed.stored), ("read the last 20", clear.read, sealed.read)):  # fmt: skip  # noqa: E501
        one, two = statistics.median(before) * 1e6, statistics.median(after) * 1e6
        print(f"{name:24}{one:10.0f}{two:10.0f}{two / one:8.3f}")
    print(f"sealing and opening all of one message: {pure * 1e6:.1f} µs, {pure / statistics.median(clear.stored):.1%}")


if __name__ == "__main__":
    main()
