"""Parked bots by what is stored: a new `control` and a new daemon go on counting."""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from botctl.control.ports import BotSight, FleetSight
from botctl.control.watching.parked_watch import ParkedWatch, options_of
from botctl.fleet import BotSpec
from botctl.storage.engine import connect

HOUR = 3600.0


class Double:
    """The supervisor, with one bot in a state."""

    def __init__(self, bot_id: int) -> None:
        self.bot = BotSight(name=f"bot-{bot_id}", bot_id=bot_id, state="stopped", reason="on request")

    async def sight(self) -> FleetSight:
        return FleetSight(pid=1, state="running", started_at=0.0, generation=1, bots=(self.bot,))


async def history(database: Any, bot: int, **hours: float | None) -> None:
    """What happened so many hours ago."""
    admin = await connect(database.admin)
    await admin.execute("UPDATE bots SET created_at = now() - interval '9 days' WHERE bot_id = $1", bot)
    for update_id, key in ((1, "update"), (None, "event")):
        if (ago := hours.get(key)) is not None:
            await admin.execute(
                "INSERT INTO inbox (bot_id, cause, update_id, kind, lane, payload, received_at)"
                " VALUES ($1, $2, $3, 'x', 'x', '{}', now() - make_interval(secs => $4))",
                bot, f"{key}:{ago}", update_id, ago * HOUR,
            )  # fmt: skip
    for ready, key in ((True, "polled"), (False, "never_ready")):
        if (ago := hours.get(key)) is not None:
            await admin.execute(
                "INSERT INTO bot_runs (bot_id, incarnation, ready_at, ended_at) VALUES ($1, 1, $2,"
                " now() - make_interval(secs => $3))", bot, None, ago * HOUR,
            )  # fmt: skip
            if ready:
                await admin.execute("UPDATE bot_runs SET ready_at = ended_at WHERE bot_id = $1", bot)
    await admin.close()


def watch(
    engine: AsyncEngine, bot: int, supervisor: Any, pending: dict[int, int], told: list[int], **more: Any
) -> ParkedWatch:
    spec = BotSpec.model_validate({"name": f"bot-{bot}", "token": f"{bot}:AAE-parked", **more})
    return ParkedWatch(engine, lambda: [spec], supervisor, pending, lambda: told.append(1), **options_of({}))


async def events(engine: AsyncEngine, bot: int) -> list[Any]:
    async with engine.connect() as connection:
        rows = await connection.exec_driver_sql(
            "SELECT data FROM outbox WHERE bot_id = 0 AND type = 'bot.parked' AND (data ->> 'bot_id')::bigint = $1",
            (bot,),
        )
        return list(rows.scalars())


async def test_it_counts_from_the_last_update_or_the_end_of_the_last_run_that_had_polled(
    database: Any, engine: AsyncEngine, bot: int
) -> None:
    await history(database, bot, update=13, event=1, polled=12.5, never_ready=2)
    told: list[int] = []
    one = watch(engine, bot, Double(bot), {bot: 5}, told)
    await one.look()
    await one.look()
    assert told == [1]
    (event,) = await events(engine, bot)
    assert (event["threshold_s"], event["pending"], event["state"]) == (12 * HOUR, 5, "stopped")
    assert abs(one.rule.seconds[bot] - 12.5 * HOUR) < 60
    assert "5 wait at Telegram" in one.rule.parked[bot].words
    again = watch(engine, bot, Double(bot), {}, told)
    await again.look()
    assert len(await events(engine, bot)) == 1, "the next control tells nothing anew"


async def test_a_bot_that_polls_in_vain_is_not_parked_and_one_that_is_deaf_is(
    database: Any, engine: AsyncEngine, bot: int
) -> None:
    await history(database, bot, polled=30)
    supervisor: Any = Double(bot)
    started = time.time() - 40 * HOUR
    for age, parked in ((5.0, False), (7 * HOUR, True)):
        supervisor.bot = BotSight(
            name=f"bot-{bot}",
            bot_id=bot,
            state="running",
            started_at=started,
            heartbeat_age=1.0,
            gauges={"last_poll_age_s": age},
        )
        one = watch(engine, bot, supervisor, {}, [])
        await one.look()
        assert bool(one.rule.parked) is parked


async def test_a_webhook_that_does_not_get_through_parks_its_bot(database: Any, engine: AsyncEngine, bot: int) -> None:
    await history(database, bot, update=7)
    supervisor: Any = Double(bot)
    # It runs, and Telegram has said for seven hours that updates wait (`Hook.last_poll`).
    supervisor.bot = BotSight(
        name=f"bot-{bot}", bot_id=bot, state="degraded", heartbeat_age=1.0, gauges={"last_poll_age_s": 7 * HOUR},
        reason="telegram can't deliver updates: Wrong response from the webhook: 503",
    )  # fmt: skip
    one = watch(engine, bot, supervisor, {bot: 3}, [], updates="webhook")
    await one.look()
    (event,) = await events(engine, bot)
    assert (event["threshold_s"], event["pending"], event["state"]) == (6 * HOUR, 3, "degraded")


async def test_a_new_bot_is_not_parked_before_its_time(engine: AsyncEngine, bot: int) -> None:
    one = watch(engine, bot, Double(bot), {}, [])
    await one.look()
    assert one.rule.parked == {}
    assert one.rule.seconds[bot] < 60
