"""A whole stack: bots go on doing what bots do, and one that is taken over commands nobody and reads no secret."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from attack.cases import CASES, Level, attack
from attack.os import handlers_of_intruder as theirs
from botctl.runtime.confinement import landlock
from support.stack import Stack, new_stack, token

AREA = "processes"
OPEN = "succeeds"
BOTS = {"auto": 7600000001, "landlock": 7600000002, "none": 7600000003, "victim": 7600000004}

attack("stop another bot over the control socket", area=AREA, none=OPEN)(theirs.with_the_token)
attack("guess the API's token", area=AREA)(theirs.guessing)
OF_ITS_DAEMON = "read the environment of one's own daemon"
for _name in list(theirs.ATTACKS)[2:]:
    attack(_name, area=AREA, none=OPEN if _name != OF_ITS_DAEMON else None)(theirs.ATTACKS[_name])


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    if landlock.abi() < 1:
        pytest.skip("the kernel has no Landlock")
    with new_stack() as made:
        shop = made.folder / "shop"
        shop.mkdir()
        (shop / "prices.py").write_text("BREAD = 3\n")
        (shop / "menu.txt").write_text("bread\n")
        (shop / "script.sh").write_text("echo scripted\n")
        (made.folder / "state").mkdir()
        (made.folder / "state").chmod(0o777)
        shutil.copy(Path(theirs.__file__), made.folder / "hand.py")
        made.write_fleet(
            *(
                {"name": name, "token": token(bot_id), "isolation": "auto" if name == "victim" else name}
                for name, bot_id in BOTS.items()
            ),
            handlers="hand:register",
            files={"write": ["state"]},
        )
        made.start()
        yield made


async def ask(stack: Stack, name: str, command: str) -> dict[str, str]:
    async with stack.sandbox() as telegram:
        chat = len(command)  # one of its own, so that the first answer there is the one
        await telegram.say(BOTS[name], chat, command)
        reply = await telegram.wait_for_reply(BOTS[name], chat, wait=30)
    assert reply is not None, stack.logs()[-3000:]
    answer: dict[str, str] = json.loads(reply.text)
    return answer


def level_of(name: str) -> Level:
    if name == "auto":
        return Level.UID if os.geteuid() == 0 else Level.LANDLOCK
    return Level(name)


@pytest.mark.parametrize("name", ["auto", "landlock", "none"])
async def test_bots_do_what_bots_do(stack: Stack, name: str) -> None:
    await stack.until_running(*BOTS)
    bot = stack.bot(name)
    assert bot["isolation"] == level_of(name)
    done = await ask(stack, name, "/work")
    uid = done.pop("uid")
    assert {what: said for what, said in done.items() if not said.startswith("done: ")} == {}
    home = stack.data / "bots" / str(BOTS[name])
    assert done["keep a database in the working directory"] == f"done: {home}/mine.db"
    assert done["make a temporary file"].startswith(f"done: {home}/tmp/")
    assert uid == (bot["uid"] or os.geteuid())
    assert (bot["uid"] is not None) == (level_of(name) is Level.UID)


@pytest.mark.parametrize("name", ["auto", "landlock", "none"])
async def test_one_that_is_taken_over_gets_what_is_declared(stack: Stack, name: str) -> None:
    await stack.until_running(*BOTS)
    ended = await ask(stack, name, "/attack")
    ended.pop("uid")
    for what, said in ended.items():
        expected = CASES[what].at(level_of(name))
        if what == OF_ITS_DAEMON and name == "none" and os.geteuid() == 0:
            expected = OPEN  # the daemon can't be dumped; root reads it all the same
        assert said.startswith("done: ") == expected.startswith(OPEN), (what, said)
    if name != "none":
        assert stack.bot("victim")["state"] == "running"


PUT_BACK = f"{OPEN}; put back within seconds, and told"


@attack("lock the daemon out of its data folder (chmod)", area=AREA, landlock=PUT_BACK, none=PUT_BACK)
@pytest.mark.parametrize("name", ["auto", "landlock", "none"])
async def test_a_daemon_that_is_locked_out_of_its_folder_gets_in_again(stack: Stack, name: str) -> None:
    await stack.until_running(name)
    log = stack.data / "logs/daemon.log"
    told = log.read_text().count("rights were put back")
    expected = CASES["lock the daemon out of its data folder (chmod)"].at(level_of(name))
    ended = await ask(stack, name, "/lock_out")
    assert ended["lock out"].startswith("done: ") == expected.startswith(OPEN), ended
    places = {"": 0o700, "logs": 0o700, "run": 0o700, "master.key": 0o600}

    def right() -> bool:
        try:
            return all((stack.data / place).stat().st_mode & 0o777 & bits == bits for place, bits in places.items())
        except PermissionError:
            return False

    deadline = time.monotonic() + 10
    while not right() or (stack.data / "master.key").stat().st_mode & 0o077:
        assert time.monotonic() < deadline, "nobody has put it back"
        await asyncio.sleep(0.1)
    assert stack.cli("status", check=False).returncode == 0
    lines = [line for line in log.read_text().splitlines() if "rights were put back" in line]
    if expected.startswith(OPEN):
        assert name in json.loads(lines[-1])["by_one_of"]  # told once a minute, of whoever did it first
    else:
        assert len(lines) == told


def test_a_command_without_the_token_is_refused_with_5(stack: Stack) -> None:
    file = stack.data / "api.token"
    assert file.stat().st_mode & 0o777 == 0o600
    kept = file.read_text()
    try:
        file.write_text("another")
        done = stack.cli("restart", "victim", check=False)
        assert done.returncode == 5, done
        assert "token" in done.stderr
        file.unlink()
        assert stack.cli("status", check=False).returncode == 5
    finally:
        file.touch(mode=0o600)
        file.write_text(kept)
    assert stack.cli("status", check=False).returncode == 0


def test_no_secret_stands_in_arguments_titles_or_environments(stack: Stack) -> None:
    from support.stack import descendants

    secrets = [token(bot_id).partition(":")[2] for bot_id in BOTS.values()]
    secrets += [(stack.data / "api.token").read_text(), "sk-e2e-0123456789abcdef0123456789abcdef"]
    secrets += [line for line in (stack.data / "master.key").read_text().split('"') if len(line) > 30]
    seen = 0
    for pid in (stack.daemon_pid, *descendants(stack.daemon_pid)):
        for name in ("cmdline", "environ", "comm"):
            try:
                body = Path(f"/proc/{pid}/{name}").read_bytes()
            except OSError:
                continue
            seen += 1
            for secret in secrets:
                assert secret.encode() not in body, (pid, name)
    assert seen > 10
    assert not [path for path in stack.data.rglob("core*") if path.is_file() and path.suffix != ".py"]


def test_our_own_processes_cant_be_dumped(stack: Stack) -> None:
    """A file in /proc of a process that can't be dumped belongs to root, whoever runs it; as root its limit tells."""
    from support.stack import descendants

    for pid in (stack.daemon_pid, *descendants(stack.daemon_pid)):
        title = Path(f"/proc/{pid}/cmdline").read_bytes()
        if not title.startswith(b"botctl: "):
            continue
        limits = Path(f"/proc/{pid}/limits").read_text()
        core = next(line for line in limits.splitlines() if line.startswith("Max core file size"))
        assert core.split()[4:6] == ["0", "0"], (title, core)
        assert os.stat(f"/proc/{pid}/environ").st_uid == 0, f"{title!r} can be dumped"


def test_doctor_tells_what_is_in_force(stack: Stack) -> None:
    said = stack.cli("doctor", "--fleet", str(stack.fleet_file)).stdout
    assert "switched off in the fleet file for none" in said
    assert "isolation in force: none: none" in said
    assert "isolation in force: landlock: " in said
    assert "bots' own folders: 4 in " in said
