"""After a bot has put its secrets wherever a careless program would, nobody finds one: the whole stack is searched."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path

import pytest
import pytest_asyncio

from attack.cases import ATTACKS, CASES, attack
from attack.secrets import handlers_that_spill as theirs
from attack.secrets.search import files, forms, found_in
from botctl.security import master_keys
from botctl.security.vault import unwrap
from support.stack import Stack, descendants, eventually, new_stack, process_gone, token

AREA = "secrets"
ALICE, BOB = 7600000011, 7600000012
COMPLETION_KEY = "sk-spilled-0123456789abcdef0123456789abcdef"
NOWHERE = "nowhere"
COMMANDS = (
    ("status", "--json"),
    ("status",),
    ("why", "alice"),
    ("logs", "alice"),
    ("logs",),
    ("doctor",),
    ("audit", "tail"),
    ("secrets", "status"),
)


class Spilled:
    """A stack in which Alice has spilled what she knows, and the needles to look for."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.secrets: dict[str, bytes] = {}

    async def say(self, text: str, *, answered: bool = True) -> None:
        async with self.stack.sandbox() as telegram:
            await telegram.say(ALICE, 7, text)
            if answered:
                assert await telegram.wait_for_reply(ALICE, 7, wait=30) is not None, self.stack.logs()[-3000:]

    async def learn(self) -> None:
        """All secrets of the stack: Alice's by what she finds in her memory, the others by where they are kept."""
        await self.say("/secrets")
        told = self.stack.data / "bots" / str(ALICE) / "needles.json"
        for name, value in json.loads(told.read_text()).items():
            secret = value.partition(":")[2] if name == "token" else value
            self.secrets[f"alice's {name}"] = secret.encode()
        told.unlink()
        assert "alice's completion key" not in self.secrets, "she has no use for it"
        self.secrets["the fleet's completion key"] = COMPLETION_KEY.encode()
        data = self.stack.data
        self.secrets["bob's token"] = token(BOB).partition(":")[2].encode()
        self.secrets["the API's token"] = (data / "api.token").read_bytes().strip()
        self.secrets["the password of the database's administrator"] = self.kept("postgres/admin.password")
        self.secrets["the password of Redis's administrator"] = self.kept("valkey/admin.password")
        masters = master_keys.read_file(data)
        assert masters is not None
        self.secrets["the master key"] = masters.current.material
        for row in await self.stack.rows("SELECT bot_id, key_id, wrapped FROM bot_keys"):
            key = unwrap(masters, row["bot_id"], row["key_id"], row["wrapped"])
            self.secrets[f"data key {row['key_id']} of {row['bot_id']}"] = key.material

    def kept(self, name: str) -> bytes:
        return (self.stack.data / name).read_bytes().strip()

    @property
    def homes(self) -> list[Path]:
        """Where secrets have to stand."""
        names = ("api.token", "master.key", "postgres/admin.password", "valkey/admin.password")
        return [self.stack.fleet_file, *(self.stack.data / name for name in names)]

    def search(self, places: Iterable[tuple[str, bytes]]) -> str:
        return "; ".join(found_in(self.secrets, places)) or NOWHERE


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def spilled() -> AsyncIterator[Spilled]:
    with new_stack() as stack:
        stack.environment["OPENAI_API_KEY"] = COMPLETION_KEY
        shutil.copy(Path(theirs.__file__), stack.folder / "spill.py")
        stack.write_fleet(
            {"name": "alice", "token": token(ALICE), "handlers": "spill:register", "assistant": None},
            {"name": "bob", "token": token(BOB), "assistant": {"instructions": "Be short."}},
        )
        stack.start()
        await stack.until_running("alice", "bob")
        made = Spilled(stack)
        await made.learn()
        await made.say("/spill")
        await made.say("/fail", answered=False)
        await made.say("/say", answered=False)
        await eventually(lambda: "botctl_sends_held_back_total{" in stack.metrics(), "the token was held back")
        pid = stack.bot("alice")["pid"]
        await made.say("/die", answered=False)
        await eventually(lambda: process_gone(pid), "alice died")
        await eventually(lambda: stack.status()["bots"][0]["restarts"], "alice was started again")
        yield made


@attack("find a secret in arguments, titles or environments of processes", NOWHERE, area=AREA)
def in_processes(ground: Spilled) -> str:
    places = []
    pid = ground.stack.daemon_pid
    for one in (pid, *descendants(pid)):
        for name in ("cmdline", "comm", "environ"):
            try:
                places.append((f"/proc/{one}/{name}", Path(f"/proc/{one}/{name}").read_bytes()))
            except OSError:
                continue  # it can't be dumped, and nobody but root reads it
    assert len(places) > 10
    return ground.search(places)


@attack("find a secret that a bot has printed, logged or died with, in logs and tracebacks", NOWHERE, area=AREA)
def in_logs(ground: Spilled) -> str:
    logs = ground.stack.data / "logs"
    text = ground.stack.logs()
    for words in ("printed token", "to stderr redis", "raw database", "logged token", "SpilledError", "last words",
                  "from a subprocess", "warned of"):  # fmt: skip
        assert words in text, f"{words!r} is in no log: nothing was looked for"
    return ground.search(list(files(logs)))


@attack("find a secret in metrics or answers of the local API", NOWHERE, area=AREA)
def in_answers(ground: Spilled) -> str:
    places = [("metrics", ground.stack.metrics().encode())]
    for command in COMMANDS:
        done = ground.stack.cli(*command, check=False)
        places.append((" ".join(command), (done.stdout + done.stderr).encode()))
    return ground.search(places)


@attack("find a secret on the disk, in tables, write-ahead log and Redis's files, beside the files they are kept in",
        NOWHERE, area=AREA)  # fmt: skip
def on_the_disk(ground: Spilled) -> str:
    return ground.search(files(ground.stack.folder, ground.homes))


@attack("find a secret in what bots have sent", NOWHERE, area=AREA)
async def in_messages(ground: Spilled) -> str:
    async with ground.stack.sandbox() as telegram:
        sent = [str(one).encode() for one in await telegram.transcript(ALICE, 7)]
    assert len(sent) > 5
    return ground.search([("a message", one) for one in sent])


@attack("find a core dump of a bot that was aborted", NOWHERE, area=AREA)
def core_dumps(ground: Spilled) -> str:
    found = [path for path in ground.stack.folder.rglob("*core*") if path.is_file() and path.suffix != ".py"]
    return "; ".join(map(str, found)) or NOWHERE


MINE = sorted(name for name, case in CASES.items() if case.area == AREA)


@pytest.mark.parametrize("name", MINE)
async def test_no_secret_is_found(spilled: Spilled, name: str) -> None:
    function: Callable[[Spilled], object] = ATTACKS[name]
    outcome = function(spilled)
    if not isinstance(outcome, str):
        outcome = await outcome  # type: ignore[misc]
    assert outcome == CASES[name].must


async def test_the_search_finds_every_secret_in_every_form(spilled: Spilled, tmp_path: Path) -> None:
    assert len(spilled.secrets) >= 11, sorted(spilled.secrets)
    for name, secret in spilled.secrets.items():
        for number, form in enumerate(forms(secret)):
            path = tmp_path / f"{number}"
            path.write_bytes(os.urandom(100) + form + os.urandom(100))
            assert spilled.search(files(tmp_path)) == f"{name} in {number}"
            path.unlink()


async def test_it_finds_them_where_they_are_kept(spilled: Spilled) -> None:
    """The same search without the exceptions: what would be seen if one of them stood somewhere else."""
    said = spilled.search(files(spilled.stack.folder))
    for place in ("alice's token in fleet.yaml", "bob's token in fleet.yaml", "the master key in data/master.key"):
        assert place in said
