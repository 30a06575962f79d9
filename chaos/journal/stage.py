"""What the trials are played on: bots as real processes, and the servers that they need."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

from botctl.bus.client import connect as connect_redis
from botctl.embedded.postgres import prepare_postgres
from botctl.embedded.probes import ping_postgres, ping_valkey
from botctl.embedded.valkey import prepare_valkey
from botctl.sandbox.process import start_sandbox
from botctl.storage.bootstrap import prepare
from botctl.storage.engine import parse_database_url
from chaos.journal import steps
from chaos.journal.rounds import Rounds
from chaos.journal.stops import Stops
from chaos.journal.tally import Tally
from integration.conftest import Database, RunningServer, run_async, server_folder
from support.bot_process import BotMaker, bot_maker, warm_forkserver

BOTS_FOLDER = Path(__file__).parents[1] / "bots"


@dataclass(frozen=True)
class Stage:
    """What there is when the servers run."""

    maker: BotMaker
    database: Any
    folder: Path
    """Of the bots' logs."""


@asynccontextmanager
async def new_stage() -> AsyncIterator[Stage]:
    """Servers, emulators and a forkserver for one run; all end with it."""
    with contextlib.ExitStack() as kept:
        folder = kept.enter_context(server_folder())
        admin_url, valkey_url = kept.enter_context(_servers(folder))
        sandbox = start_sandbox("--any-chat")
        kept.callback(sandbox.stop)
        database = Database(admin=parse_database_url(admin_url), control=run_async(prepare(admin_url)).control)
        redis = connect_redis(valkey_url)
        try:
            async with bot_maker(warm_forkserver(), sandbox, redis, valkey_url) as maker:
                yield Stage(maker, database, folder)
        finally:
            await redis.aclose()


@contextlib.contextmanager
def _servers(folder: Path) -> Iterator[tuple[str, str]]:
    postgres, valkey = prepare_postgres(folder / "postgres", max_connections=120), prepare_valkey(folder / "valkey")
    # Nobody kills these servers here: their files are lost with the machine anyway.
    running = [RunningServer(postgres.spec, lambda: ping_postgres(postgres.admin_url), "-c", "fsync=off")]
    try:
        running.append(RunningServer(valkey.spec, lambda: ping_valkey(valkey.admin_url)))
        yield postgres.admin_url, valkey.admin_url
    finally:
        for server in running:
            server.stop()


async def play(
    stage: Stage, kills: int, seed: int, *, bots: int = 2, told: Callable[[int, int], None] = lambda done, all_: None
) -> Tally:
    """`kills` of each step, mode and policy, by so many bots of each policy at the same time."""
    connection = await asyncpg.connect(stage.database.admin_url)
    own: list[asyncpg.Connection] = []
    try:
        stops = Stops(connection)
        await stops.install()
        trials = steps.draw(seed, kills)
        running: list[tuple[Rounds, list[list[steps.Trial]]]] = []
        for policy in (True, False):
            rounds = steps.rounds([trial for trial in trials if trial.resend is policy], seed)
            for number in range(bots):
                bot = await stage.maker.make(stage.database, stage.folder / f"bot-{policy:d}-{number}.log")
                bot.folder = str(BOTS_FOLDER)
                own.append(await asyncpg.connect(stage.database.admin_url))
                playing = Rounds(bot, stops, own[-1], resend=policy, seed=seed + number)
                running.append((playing, rounds[number::bots]))
        number_of = sum(len(rounds) for _, rounds in running)
        done = 0

        def one_more() -> None:
            nonlocal done
            done += 1
            told(done, number_of)

        asked = len(await _asked(stage))
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(playing.run(rounds, one_more)) for playing, rounds in running]
        tally = sum((task.result() for task in tasks), Tally())
        asked = len(await _asked(stage)) - asked
        tally.stories += list(_sums(tally, trials, asked))
    finally:
        for one in (connection, *own):
            await one.close()
    return tally


async def _asked(stage: Stage) -> list[dict[str, Any]]:
    """Calls of the completion API so far."""
    return [call for call in await stage.maker.completion.calls(limit=100_000) if "responses" in call["method"]]


def _sums(tally: Tally, trials: list[steps.Trial], asked: int) -> Iterator[str]:
    """What must hold of all rounds together."""
    twice = sum(trial.seen_in_the_end().count(2) for trial in trials)
    if tally.twice != twice:
        yield f"users have {tally.twice} parts twice, not {twice}"
    if not tally.twice <= tally.uncertain == tally.metric:
        yield f"{tally.twice} parts twice, {tally.uncertain} uncertain in the journal, {tally.metric} in the metric"
    answers = sum(trial.mode is steps.Mode.DEFERRED for trial in trials)
    if asked != answers:
        yield f"the model was asked {asked} times for {answers} answers"
