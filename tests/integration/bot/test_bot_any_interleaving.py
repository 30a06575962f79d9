"""However often and wherever a bot's process ends: every update has the same rows and sends as without any end.

What may differ is said by the journal itself: a send that it counts as uncertain may have been made once more
(`on_uncertain: resend`), or not at all (`skip`).
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import sys
from collections import Counter
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))

from bot_waiting import until
from crash_points import CrashError, Fuse, Life
from scripted_handlers import ELSEWHERE

from botctl.bus.caretaking.admin import BusAdmin
from botctl.bus.client import connect as connect_redis
from botctl.bus.topology import Topology
from botctl.sandbox.client import SandboxClient
from botctl.sandbox.process import SandboxProcess

pytestmark = pytest.mark.filterwarnings("ignore:The garbage collector is trying to clean up:sqlalchemy.exc.SAWarning")
"""A process that is gone has not given its connections back."""

EXAMPLES = int(os.environ.get("BOTCTL_TEST_INTERLEAVINGS", "15"))
"""Histories that are drawn; each takes more than a second. From a hundred on, no single step is left out either."""

_numbers = count(7_500_001)
CHATS = (101, 102, 103)


@dataclass(frozen=True)
class Script:
    """Messages (chat, text) in the order in which they are written, and what goes wrong.

    `crashes` are the steps at which incarnations end, one after another. In each of them `lost` are the sends whose
    answers get lost without a crash, `unsure` the commits whose outcome nobody learns, both numbered from 0.
    """

    messages: tuple[tuple[int, str], ...]
    crashes: tuple[int, ...] = ()
    lost: frozenset[int] = frozenset()
    unsure: frozenset[int] = frozenset()
    resend: bool = True


@dataclass
class Outcome:
    """What is left in the end."""

    inbox: dict[str, str] = field(default_factory=dict)
    sends: dict[tuple[str, int], dict[str, Any]] = field(default_factory=dict)
    events: Counter[str] = field(default_factory=Counter)
    messages: Counter[tuple[str, str, int, str]] = field(default_factory=Counter)
    heard: dict[int, list[str]] = field(default_factory=dict)
    edits: set[str] = field(default_factory=set)
    deleted: int = 0
    counted: int = 0
    crashes: list[str] = field(default_factory=list)
    steps: list[list[str]] = field(default_factory=list)


@dataclass
class World:
    """Servers, and what it takes to put a new bot among them."""

    database: Any
    sandbox: SandboxProcess
    redis_url: str

    async def play(self, script: Script) -> Outcome:
        """Let a new bot live through the script."""
        telegram = SandboxClient(self.sandbox.telegram)
        redis = connect_redis(self.redis_url)
        bot_id = next(_numbers)
        token = f"{bot_id}:secret-{secrets.token_hex(8)}"
        admin = await asyncpg.connect(self.database.admin_url)
        life: Life | None = None
        try:
            login = await self.database.add_bot(bot_id)
            password = secrets.token_urlsafe(24)
            bus = BusAdmin(redis, Topology("test"))
            await bus.check_version()
            await bus.ensure_bot(bot_id, [hashlib.sha256(password.encode()).hexdigest()])
            await telegram.register_bot(token, first_name="Nora", username=f"nora_{bot_id}_bot")
            life = Life(
                {
                    "folder": str(Path(__file__).parent),
                    "database": self.database.target,
                    "redis_url": self.redis_url.split("://")[0] + "://" + self.redis_url.split("@")[-1],
                    "namespace": "test",
                    "telegram_base_url": self.sandbox.telegram,
                    "openai_api_key": "sk-test-0000000000000001",
                    "openai_base_url": self.sandbox.completion,
                },
                {
                    "name": "nora",
                    "token": token,
                    "assistant": {"instructions": "You are Nora, a librarian."},
                    "handlers": "scripted_handlers:register",
                    "on_uncertain": "resend" if script.resend else "skip",
                },
                login.password,
                password,
                bot_id,
            )
            await telegram.say_many(bot_id, list(script.messages))
            outcome = Outcome()
            await self._live(life, script, admin, bot_id, outcome)
            await self._look(telegram, admin, bot_id, outcome)
            outcome.counted = life.uncertain
            return outcome
        finally:
            if life is not None:
                await life.end()
            await telegram.remove_bot(bot_id)
            await telegram.close()
            await redis.aclose()
            await admin.close()

    async def _live(self, life: Life, script: Script, admin: Any, bot_id: int, outcome: Outcome) -> None:
        async def quiet() -> bool:
            row = await admin.fetchrow(
                "SELECT (SELECT count(*) FROM inbox WHERE bot_id = $1 AND state <> 'new'),"
                "       (SELECT count(*) FROM sends WHERE bot_id = $1 AND state IN ('planned', 'sending'))",
                bot_id,
            )
            return bool(row[0] >= len(script.messages) and row[1] == 0)

        for at in (*script.crashes, None):
            fuse = Fuse(at, script.lost, script.unsure)
            incarnation = life.begin(fuse)

            async def over(fuse: Fuse = fuse, task: asyncio.Task[None] = incarnation._task) -> bool:
                if task.done() and not fuse.blown.is_set():
                    await task
                    raise AssertionError("the bot has ended by itself")
                return fuse.blown.is_set() or await quiet()

            await until(over, f"the end of {script}; steps so far: {fuse.steps[-12:]}")
            crashed = fuse.blown.is_set()
            if crashed:
                outcome.crashes.append(fuse.steps[-1])
            await life.end()
            outcome.steps.append(fuse.steps)
            if not crashed:
                return

    async def _look(self, telegram: SandboxClient, admin: Any, bot_id: int, outcome: Outcome) -> None:
        for row in await admin.fetch("SELECT cause, state FROM inbox WHERE bot_id = $1 ORDER BY inbox_id", bot_id):
            outcome.inbox[row["cause"]] = row["state"]
        for row in await admin.fetch("SELECT * FROM sends WHERE bot_id = $1", bot_id):
            outcome.sends[row["cause"], row["n"]] = dict(row)
        for row in await admin.fetch("SELECT event_id, type FROM outbox WHERE bot_id = $1", bot_id):
            outcome.events[row["type"]] += 1
        for row in await admin.fetch("SELECT cause, direction, part, text FROM messages WHERE bot_id = $1", bot_id):
            outcome.messages[row["cause"], row["direction"], row["part"], row["text"] or ""] += 1
        outcome.heard = {chat: [] for chat in (*CHATS, ELSEWHERE)}
        for event in await telegram.events(bot_id):
            if event.type == "send":
                outcome.heard[event.chat_id].append(event.text)
            elif event.type == "edit":
                outcome.edits.add(event.text)
            elif event.type == "delete":
                outcome.deleted += 1


@pytest.fixture
def world(database: Any, sandbox: SandboxProcess, valkey_admin_url: str) -> World:
    return World(database, sandbox, valkey_admin_url)


def compare(script: Script, plain: Outcome, harmed: Outcome) -> None:
    """The demands. `plain` is the same script without any crash and without lost answers."""
    try:
        _compare(script, plain, harmed)
    except AssertionError as error:
        error.add_note(f"{script}\ncrashes: {harmed.crashes}\nheard: {harmed.heard}\nsends: {_states(harmed)}")
        raise


def _compare(script: Script, plain: Outcome, harmed: Outcome) -> None:
    first = _offset(plain, harmed)
    assert list(harmed.inbox.values()) == list(plain.inbox.values())
    expected_rows, rows = _shape(plain, first), _shape(harmed, {})
    cut_short = {cause for (cause, _), row in harmed.sends.items() if row["state"] == "skipped"}
    assert rows.items() <= expected_rows.items(), "another send than without a crash"
    assert all(cause in cut_short for cause, _ in expected_rows.keys() - rows.keys()), "a send is missing"
    if cut_short and any("r" in text for _, text in script.messages):
        return  # What is counted depends on what a handler does after its `skip`: nothing.
    uncertain = sum(row["uncertain"] for row in harmed.sends.values())
    surplus = 0
    for chat, heard in harmed.heard.items():
        expected, told = Counter(plain.heard[chat]), Counter(heard)
        assert told.keys() <= expected.keys(), "somebody heard what nobody said"
        surplus += sum((told - expected).values())
        missing = sum((expected - told).values())
        assert not missing or not script.resend, f"lost in chat {chat}: {expected - told}"
        if chat != ELSEWHERE:
            order = list(dict.fromkeys(heard))
            assert order == [text for text in dict.fromkeys(plain.heard[chat]) if text in told], "order in the chat"
    assert surplus <= uncertain, "sent twice without being counted"
    assert surplus == 0 or script.resend
    skipped = sum(row["state"] == "skipped" for row in harmed.sends.values())
    assert skipped <= uncertain
    assert not script.resend or not skipped
    assert harmed.edits <= plain.edits
    assert harmed.edits == plain.edits or not script.resend
    assert harmed.deleted == plain.deleted or not script.resend
    for cause in cut_short:  # Their handlers ended there, as `skip` says.
        assert harmed.inbox[cause] == "done"
    if cut_short:
        return
    assert harmed.events["script.played"] == plain.events["script.played"]
    assert harmed.events["message.received"] == plain.events["message.received"]


def _offset(plain: Outcome, harmed: Outcome) -> dict[str, str]:
    """The causes of one by those of the other: ids of updates begin anywhere."""
    return dict(zip(plain.inbox, harmed.inbox, strict=True))


def _shape(outcome: Outcome, causes: Any) -> dict[tuple[str, int], tuple[Any, ...]]:
    names = causes or {cause: cause for cause in outcome.inbox}
    return {
        (names.get(cause, cause), n): (row["mode"], row["method"], row["chat_id"])
        for (cause, n), row in outcome.sends.items()
    }


def _states(outcome: Outcome) -> list[tuple[Any, ...]]:
    return [(*key, row["method"], row["state"], row["uncertain"]) for key, row in sorted(outcome.sends.items())]


def play(world: World, script: Script) -> Outcome:
    """Play a script in an event loop of its own, from which nothing gets into the next."""

    async def main() -> Outcome:
        asyncio.get_running_loop().set_exception_handler(_ignore_crashes)
        return await world.play(script)

    return asyncio.run(main())


def _ignore_crashes(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    if not isinstance(context.get("exception"), CrashError):
        loop.default_exception_handler(context)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("resend", [True, False])
def test_a_crash_at_each_single_step(world: World, resend: bool) -> None:
    script = Script(
        ((101, "a:scpsy"), (102, "b please write a long answer"), (101, "c:csedr"), (102, "d:s")), resend=resend
    )
    plain = play(world, script)
    steps = len(plain.steps[-1])
    assert steps > 15
    for at in range(resend, steps, 1 if EXAMPLES >= 100 else 4):
        compare(script, plain, play(world, replace(script, crashes=(at,))))


_texts = st.text("spyedobfccr", min_size=1, max_size=4).map(lambda letters: f":{letters}") | st.sampled_from(
    [" what is my name?", " please write a long answer"]
)
_messages = st.lists(st.tuples(st.sampled_from(CHATS), _texts), min_size=1, max_size=5).map(
    lambda written: tuple((chat, f"{chr(97 + number)}{rest}") for number, (chat, rest) in enumerate(written))
)
_crashes = st.lists(st.integers(0, 60), max_size=4).map(tuple)
_lost = st.frozensets(st.integers(0, 8), max_size=2)
_unsure = st.frozensets(st.integers(0, 40), max_size=2)


@pytest.mark.timeout(3600)
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(script=st.builds(Script, _messages, _crashes, _lost, _unsure, st.booleans()))
def test_any_history_of_crashes(world: World, script: Script) -> None:
    plain = play(world, replace(script, crashes=(), lost=frozenset(), unsure=frozenset()))
    compare(script, plain, play(world, script))
