"""The history of deaths: recorded, told from the database and the file, closed after a daemon that was killed."""

from __future__ import annotations

import itertools
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from botctl.control.fleet.historian import Historian
from botctl.control.fleet.recorder import Recorder
from botctl.control.ports import Transition
from botctl.control.watching.database_watch import DatabaseWatch
from botctl.errors import NoSuchBotError
from botctl.handover import DatabaseLogin, DatabaseTarget
from botctl.storage import runs
from botctl.storage.engine import connect, login_engine

_seqs = itertools.count(1)
NOWHERE = DatabaseLogin(target=DatabaseTarget(host="127.0.0.1", port=1), user="nobody", password="secret")


class Acknowledged:
    """The only thing the recorder asks of the supervisor."""

    def __init__(self) -> None:
        self.seqs: list[int] = []

    def recorded(self, seq: int) -> None:
        self.seqs.append(seq)


@pytest.fixture
async def away() -> AsyncIterator[AsyncEngine]:
    made = login_engine(NOWHERE)
    yield made
    await made.dispose()


def begin(bot_id: int, incarnation: int, at: float) -> Transition:
    return Transition(
        seq=next(_seqs), at=at, name=f"bot-{bot_id}", bot_id=bot_id, incarnation=incarnation,
        from_state="backoff", to_state="starting", reason="",
    )  # fmt: skip


def end(bot_id: int, incarnation: int, at: float, **more: Any) -> Transition:
    given: dict[str, Any] = {
        "reason": "no heartbeat for 10 s", "exit": "signal 9", "failure": "hang", "duration": 30.0, "pid": 77,
        "log_tail": ("one", "two\0"), "cause": "no heartbeat for 10 s", "action": "restarted in 0.1 s",
        "stacks": 'Thread 0x1 (most recent call first):\n  File "h.py", line 3 in busy', "memory_mb": 17.5,
        "silent_for": 10.5, "from_state": "failed", "to_state": "backoff", "name": f"bot-{bot_id}",
    }  # fmt: skip
    return Transition(seq=next(_seqs), at=at, bot_id=bot_id, incarnation=incarnation, **(given | more))


async def record(engine: AsyncEngine, *transitions: Transition) -> None:
    recorder = Recorder(engine, Acknowledged(), lambda: None)  # type: ignore[arg-type]
    for one in transitions:
        recorder.take(one)
    await recorder.write()


def write(logs: Path, *deaths: Transition, rest: bytes = b"") -> None:
    lines = [msgspec.json.encode({"type": "Lifecycle", **asdict(death)}) + b"\n" for death in deaths]
    (logs / "deaths.log").write_bytes(b"".join(lines) + rest)


async def test_a_recorded_death_is_told_in_full(engine: AsyncEngine, bot: int, tmp_path: Path) -> None:
    now = time.time()
    life = begin(bot, 1, now - 30), (death := end(bot, 1, now)), begin(bot, 2, now)
    for _ in range(2):  # a new control is told everything again
        await record(engine, *life)
    body = await Historian(engine, tmp_path).tell(f"bot-{bot}", bot, None, limit=5, planned=False)
    (told,) = body.deaths
    assert told.model_dump() == {
        "name": f"bot-{bot}", "bot_id": bot, "incarnation": 1, "started_at": pytest.approx(now - 30, abs=1e-3),
        "ended_at": pytest.approx(now, abs=1e-3), "duration_s": 30.0, "failure": "hang", "exit": "signal 9",
        "cause": "no heartbeat for 10 s", "action": "restarted in 0.1 s", "memory_mb": 17.5, "silent_for_s": 10.5,
        "log_tail": ["one", "two"], "stacks": death.stacks, "source": "database",
    }  # fmt: skip
    assert body.last_end == told
    assert (body.failures_24h, body.notes) == ({"hang": 1}, [])
    assert body.since == pytest.approx(now - 30, abs=1e-3)


async def test_what_only_the_file_has_yet_is_told_too(
    engine: AsyncEngine, bot: int, tmp_path: Path, bot_ids: Iterator[int]
) -> None:
    now = time.time()
    first, old, second = begin(bot, 1, now - 90), end(bot, 1, now - 60), begin(bot, 2, now - 60)
    await record(engine, first, old, second)
    write(tmp_path, old, end(bot, 2, now, failure="crash"), end(next(bot_ids), 3, now))
    body = await Historian(engine, tmp_path).tell(f"bot-{bot}", bot, None, limit=5, planned=False)
    assert [(death.incarnation, death.source) for death in body.deaths] == [(2, "file"), (1, "database")]
    assert body.last_end is not None
    assert body.last_end.incarnation == 2


@pytest.mark.parametrize("known", [True, False])
async def test_without_the_database_the_file_answers_and_says_so(
    away: AsyncEngine, tmp_path: Path, known: bool
) -> None:
    now = time.time()
    write(tmp_path, end(5, 1, now - 60), end(5, 2, now, failure=None, exit="exit 0"), end(6, 1, now - 9))
    body = await Historian(away, tmp_path).tell("bot-5", 5 if known else None, None, limit=5, planned=False)
    assert [(death.incarnation, death.source) for death in body.deaths] == [(1, "file")]
    assert body.last_end is not None
    assert body.last_end.exit == "exit 0"
    (note,) = body.notes
    assert note == f"the database can't be used (not reachable): told from {tmp_path}/deaths.log"
    assert "secret" not in note
    assert body.failures_24h == {"hang": 1}
    with pytest.raises(NoSuchBotError):
        await Historian(away, tmp_path).tell("bot-7", None, None, limit=5, planned=False)


async def test_a_bot_that_was_removed_is_known_to_the_database(
    database: Any, engine: AsyncEngine, bot: int, tmp_path: Path
) -> None:
    now = time.time()
    await record(engine, begin(bot, 1, now - 30), end(bot, 1, now))
    admin = await connect(database.admin)
    await admin.execute("UPDATE bots SET removed_at = now() WHERE bot_id = $1", bot)
    await admin.close()
    historian = Historian(engine, tmp_path)
    body = await historian.tell(f"bot-{bot}", None, None, limit=5, planned=False)
    assert [death.bot_id for death in body.deaths] == [bot]
    with pytest.raises(NoSuchBotError):
        await historian.tell("never-heard-of", None, None, limit=5, planned=False)


async def test_after_a_killed_daemon_runs_are_closed_as_the_file_tells(
    engine: AsyncEngine, bot: int, tmp_path: Path, bot_ids: Iterator[int]
) -> None:
    """The second of three open runs stands in the file, between garbage and a line that the daemon could not end."""
    now, other, third = time.time(), next(bot_ids), next(bot_ids)
    await record(engine, begin(other, 1, now - 500), begin(bot, 1, now - 500), begin(third, 1, now - 500))
    half = msgspec.json.encode({"type": "Lifecycle", **asdict(end(third, 1, now - 470))})[:-30]
    write(tmp_path, end(bot, 1, now - 470.4), end(other, 2, now - 470), rest=b"\xff\n" + half)
    historian = Historian(engine, tmp_path)
    await record(engine, begin(bot, 1, now))  # of the new daemon: the same incarnation's number again
    await historian.close_old_runs(now - 1)
    await historian.close_old_runs(now - 1)
    (mine,) = (await historian.tell(f"bot-{bot}", bot, None, limit=5, planned=False)).deaths
    assert (mine.failure, mine.exit, mine.cause) == ("hang", "signal 9", "no heartbeat for 10 s")
    assert (mine.ended_at, mine.source) == (pytest.approx(now - 470.4, abs=1e-3), "database")
    assert mine.stacks.endswith("in busy")
    for lost in (other, third):
        ends = (await historian.tell("x", lost, None, limit=5, planned=False)).deaths
        (told,) = [death for death in ends if death.source == "database"]
        assert (told.failure, told.exit, told.duration_s) == (None, "unknown", None)
        assert "without recording how" in told.cause
    async with engine.connect() as connection:
        still_open = [run for run in await runs.open_runs(connection, now + 1) if run.bot_id in (bot, other, third)]
    assert [run.bot_id for run in still_open] == [bot]


async def test_an_unreadable_file_hinders_nothing(engine: AsyncEngine, bot: int, tmp_path: Path) -> None:
    now = time.time()
    await record(engine, begin(bot, 1, now - 500))
    (tmp_path / "deaths.log").mkdir()
    historian = Historian(engine, tmp_path)
    await historian.close_old_runs(now)
    body = await historian.tell(f"bot-{bot}", bot, None, limit=5, planned=False)
    assert [death.exit for death in body.deaths] == ["unknown"]
    assert body.notes == [f"the file {tmp_path}/deaths.log can't be read: Is a directory"]


async def test_control_forgets_old_runs_when_it_tidies(
    engine: AsyncEngine, bot: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    await record(engine, begin(bot, 1, time.time() - 30), end(bot, 1, time.time()))
    asked: list[dict[str, Any]] = []
    prune: Callable[..., Any] = runs.prune_runs

    async def noted(connection: Any, **more: Any) -> int:
        asked.append(more)
        return await prune(connection, **more)

    monkeypatch.setattr(runs, "prune_runs", noted)
    watch = DatabaseWatch(engine)
    await watch.check(tidy=False)
    assert asked == []
    await watch.check(tidy=True)
    assert asked == [{}]
    async with engine.connect() as connection:
        assert len(await runs.deaths(connection, bot, 5)) == 1
