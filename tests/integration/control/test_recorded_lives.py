"""What the recorder makes of the transitions of a bot."""

from __future__ import annotations

from typing import Any

from botctl.control.fleet.recorder import Recorder
from botctl.control.ports import Transition
from botctl.storage.runs import recent_runs
from support.fleet_stage import Stage, bot


def transition(seq: int, from_state: str, to_state: str, **more: Any) -> Transition:
    given: dict[str, Any] = {"at": 1_700_000_000.0 + seq, "name": "one", "incarnation": 1, "reason": ""}
    return Transition(seq=seq, from_state=from_state, to_state=to_state, **(given | more))


async def test_a_life_is_recorded_once_however_often_it_is_told(stage: Stage) -> None:
    one = bot("one")
    await stage.apply(one)
    life = [
        transition(1, "configured", "starting", bot_id=one.bot_id),
        transition(2, "starting", "running", bot_id=one.bot_id, pid=77),
        transition(3, "running", "backoff", bot_id=one.bot_id, pid=77, exit="signal 9", failure="signal", duration=1.5),
        transition(4, "backoff", "starting", bot_id=one.bot_id, incarnation=2),
        transition(5, "starting", "running", bot_id=one.bot_id, incarnation=2, pid=78),
        transition(6, "running", "stopping", bot_id=one.bot_id, incarnation=2, pid=78),
        transition(7, "stopping", "starting", bot_id=one.bot_id, incarnation=2, pid=78, exit="exit 0"),
        transition(8, "starting", "running", bot_id=one.bot_id, incarnation=3, pid=79),
    ]
    woken: list[int] = []
    for _ in range(2):
        recorder = Recorder(stage.engine, stage.supervisor, lambda: woken.append(1))
        for one_transition in life:
            recorder.take(one_transition)
        await recorder.write()
    assert stage.supervisor.acknowledged == [8, 8]
    assert woken
    async with stage.engine.connect() as connection:
        runs = await recent_runs(connection, one.bot_id, 10)
    assert [(run.incarnation, run.pid, run.exit, run.failure) for run in runs] == [
        (3, 79, None, None), (2, 78, "exit 0", None), (1, 77, "signal 9", "signal"),
    ]  # fmt: skip
    assert all(run.ready_at is not None for run in runs)
    told = await stage.rows(
        f"SELECT type FROM outbox WHERE bot_id = 0 AND data->>'bot_id' = '{one.bot_id}' ORDER BY seq"
    )
    assert [row[0] for row in told] == [
        "bot.started", "bot.ready", "bot.failed", "bot.started", "bot.ready", "bot.started", "bot.ready",
    ]  # fmt: skip
