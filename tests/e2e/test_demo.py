"""`botctl demo --once` as a newcomer runs it: with its own servers, and with external ones, whose rows are read."""

from __future__ import annotations

import json
import re
import subprocess
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
import redis.asyncio as redis

from botctl.embedded.address import valkey_admin_url
from support.stack import BOTCTL, ROOT, Stack, descendants, eventually, process_gone

pytestmark = pytest.mark.e2e


def run_demo(stack: Stack, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(ROOT / "scripts" / "botctl"), "demo", "--once"],
        env={**stack.environment, "BOTCTL_DATA_DIR": str(stack.folder / "demo"), **environment},
        cwd="/",
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def check_transcript(done: subprocess.CompletedProcess[str]) -> int:
    """Number of messages; the transcript holds what the demo is to show."""
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.strip().splitlines()
    match = re.fullmatch(r"demo: (\d+) messages sent, (\d+) answered, 0 lost", lines[-1])
    assert match is not None, lines[-1]
    assert match[1] == match[2]
    text = done.stdout
    told, killed, answered = (
        text.index("my favourite colour is teal"), text.index("is killed"), text.index("Your favourite colour is teal"),
    )  # fmt: skip
    assert told < killed < answered, "told, killed, and remembered"
    for persona in ("Nora here", "Softly speaks Pip", "Gus. Hmph."):
        assert persona in text
    return int(match[1])


def test_the_demo_with_its_own_servers_leaves_no_process(stack: Stack):
    done = run_demo(stack)
    check_transcript(done)
    note = stack.folder / "demo" / "run" / "daemon.json"
    assert not note.exists()
    processes = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert str(stack.folder / "demo") not in processes


async def test_a_killed_demo_takes_its_daemon_with_it(stack: Stack):
    data = stack.folder / "demo"
    demo = subprocess.Popen(
        [*BOTCTL, "demo", "--data-dir", str(data)],
        env=stack.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        note = data / "run" / "daemon.json"
        await eventually(lambda: note.exists() and json.loads(note.read_text())["state"] == "serving", "serving")
        daemon = json.loads(note.read_text())["pid"]
        family = descendants(daemon)
    finally:
        demo.kill()
        demo.wait(10)
    await eventually(lambda: all(process_gone(pid) for pid in (daemon, *family)), "nothing is left", 20)


async def test_the_demo_with_external_servers_leaves_its_rows_and_events(stack: Stack):
    # The servers of one stack are the external ones of the demo; its database is made anew.
    stack.write_fleet({"name": "idle", "token": "7400000001:AAexternal-servers-only"})
    stack.start()
    database_url = urlunsplit(urlsplit(stack.database_url)._replace(path="/demo_external"))
    redis_url = valkey_admin_url(stack.data / "valkey")
    done = run_demo(
        stack, BOTCTL_DATABASE_URL=database_url, BOTCTL_REDIS_URL=redis_url, BOTCTL_NAMESPACE="demo-external"
    )
    sent = check_transcript(done)
    assert not (stack.folder / "demo" / "postgres").exists()
    assert not process_gone(stack.daemon_pid)

    rows = await stack.rows("SELECT bot_id, direction, text FROM messages", url=database_url)
    assert any(row["direction"] == "in" and "colour is teal" in row["text"] for row in rows)
    assert any(row["direction"] == "out" and "Your favourite colour is teal" in row["text"] for row in rows)
    bots = {row["bot_id"] for row in rows}
    assert len(bots) == 3
    assert sum(row["direction"] == "out" for row in rows) >= sent

    connection = await asyncpg.connect(database_url)
    try:
        for bot in bots:
            await connection.execute(f"SET SESSION AUTHORIZATION bot_{bot}")
            assert {row[0] for row in await connection.fetch("SELECT bot_id FROM messages")} == {bot}
            await connection.execute("RESET SESSION AUTHORIZATION")
    finally:
        await connection.close()

    client = redis.Redis.from_url(redis_url, decode_responses=True)
    try:
        events = [
            json.loads(body)
            for log in ("bot", "system", "user")
            for _, fields in await client.xrange(f"demo-external:events:{log}")
            for body in fields.values()
        ]
    finally:
        await client.aclose()
    types = {event["type"] for event in events}
    assert {"bot.started", "bot.failed", "message.received", "message.sent"} <= types
    by_id = {event["id"]: event for event in events}
    reactions = [
        (by_id[cause], event)
        for event in events
        if (cause := event["causation_id"].removeprefix("event:")) in by_id
        and by_id[cause]["source"] != event["source"]
    ]
    assert reactions, "one bot's event that another bot's event has caused"
