"""A rolling restart against a pretended supervisor: forth, back, and what is left alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from botctl.control import rollout, rollout_environment, rollout_reach
from botctl.control.code_keeper import CodeKeeper
from botctl.control.ports import BotSight, FleetSight, ForkserverSight
from botctl.control.rollout import WaveSize
from botctl.control.rollout_keeper import RolloutKeeper
from botctl.control.starts import Starts
from botctl.control.views import RolloutLine
from botctl.errors import BotctlError, RefusedError
from botctl.fleet import Fleet


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollout_reach, "_POLL", 0.001)
    monkeypatch.setattr(rollout_reach, "_POLL_A_BOT", 0.0)
    monkeypatch.setattr(rollout, "_MARGIN", 0.0)


class Pretended:
    """Bots that are back at once. `fresh` makes of a bot's sight what the new generation makes of it."""

    def __init__(self, fleet: Fleet) -> None:
        self.bots = {
            spec.bot_id: BotSight(name=spec.name, bot_id=spec.bot_id, state="running", incarnation=1, forkserver=1)
            for spec in fleet.bots
        }
        self.servers = {1: ForkserverSight(generation=1, state="ready", promoted=True)}
        self.preloaded = ForkserverSight(generation=0, state="ready")
        self.sources: dict[int, tuple[int, str]] = dict.fromkeys(self.bots, (0, ""))
        self.commands: list[tuple[str, str]] = []
        self.fresh: Callable[[BotSight], BotSight] = lambda bot: bot
        self.silent = False
        self.breaker = ""
        self.meanwhile: Callable[[], None] = lambda: None

    def desire(self, fleet: Any) -> None:
        raise AssertionError

    def rotate(self, bot_id: int, passwords: Any) -> None:
        raise AssertionError

    def recorded(self, seq: int) -> None:
        raise AssertionError

    def assign(self, bots: Iterable[int], generation: int, code: Mapping[int, str]) -> None:
        for bot_id in bots:
            self.sources[bot_id] = (generation, code.get(bot_id, ""))

    async def sight(self) -> FleetSight:
        if self.silent:
            raise TimeoutError
        await asyncio.sleep(0)
        self.meanwhile()
        return FleetSight(
            pid=1, state="running", started_at=0.0, generation=1, breaker=self.breaker,
            bots=tuple(replace(bot, assigned=self.sources[one][0]) for one, bot in self.bots.items()),
            forkservers=tuple(self.servers.values()),
        )  # fmt: skip

    async def generation(self, verb: str, number: int = 0) -> tuple[bool, str, int]:
        if verb == "renew":
            if others := [one for one, server in self.servers.items() if not server.promoted]:
                return False, "there is one already", others[0]
            number = max(self.servers) + 1
            self.servers[number] = replace(self.preloaded, generation=number)
        elif verb == "promote":
            self.servers = {one: replace(server, promoted=one == number) for one, server in self.servers.items()}
            self.sources = dict.fromkeys(self.sources, (0, ""))
        else:
            assert not self.servers[number].promoted
            del self.servers[number]
            self.sources = {one: (0 if of == number else of, copy) for one, (of, copy) in self.sources.items()}
        return True, "", number

    async def command(self, verb: str, name: str = "", reason: str = "") -> tuple[bool, str]:
        self.commands.append((verb, name))
        bot = next(bot for bot in self.bots.values() if bot.name == name)
        if bot.state == "quarantined" and verb != "release":
            return False, "is quarantined"
        promoted = next(one for one, server in self.servers.items() if server.promoted)
        generation = self.sources[bot.bot_id][0] or promoted
        bot = replace(
            bot,
            incarnation=bot.incarnation + 1,
            forkserver=generation,
            state="running",
            wanted=True,
            counters={},
            shut_away=False,
        )
        self.bots[bot.bot_id] = self.fresh(bot) if generation != 1 else bot
        return True, ""

    def change(self, bot_id: int, **fields: Any) -> None:
        self.bots[bot_id] = replace(self.bots[bot_id], **fields)

    def forkservers(self) -> dict[str, int]:
        return {bot.name: bot.forkserver for bot in self.bots.values()}


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    (tmp_path / "shop.py").write_text("old = 1\n")
    bots = [{"name": f"b{n}", "token": f"{n}:secret-of-this-bot", "handlers": "shop:register"} for n in range(1, 5)]
    for bot in bots:
        bot["restart"] = {"stop_timeout": 0.05, "ready_timeout": 0.05}  # type: ignore[assignment]
    return Fleet.model_validate({"bots": bots, "folder": str(tmp_path)})


@pytest.fixture
def code(tmp_path: Path) -> CodeKeeper:
    (tmp_path / "data").mkdir()
    return CodeKeeper(tmp_path / "data" / "code")


async def started(fleet: Fleet, code: CodeKeeper) -> Pretended:
    """A fleet that was started with the old code, and whose code has changed since."""
    supervisor = Pretended(fleet)
    await Starts(supervisor, lambda: fleet, code).by_change(fleet, [bot.name for bot in fleet.bots])
    (Path(str(fleet.folder)) / "shop.py").write_text("new = 1\n")
    return supervisor


async def roll(keeper: RolloutKeeper, size: str = "2", settle: float | None = None) -> list[RolloutLine]:
    await keeper.begin(WaveSize.parse(size), settle=settle)
    return [line async for line in keeper.follow()]


def old_path(code: CodeKeeper) -> str:
    assert code.name_of(1)
    return code.path_of(code.name_of(1))


async def until_restarted(supervisor: Pretended, bot_id: int) -> None:
    async with asyncio.timeout(5):
        while supervisor.bots[bot_id].incarnation == 1:  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def test_all_bots_go_over_to_the_new_generation_which_then_serves_everybody(fleet: Fleet, code: CodeKeeper):
    supervisor = await started(fleet, code)
    before = code.name_of(1)
    lines = await roll(RolloutKeeper(supervisor, lambda: fleet, code))
    assert [line.text for line in lines][1:] == [
        "wave 1 of 2: b1, b2 running", "wave 2 of 2: b3, b4 running", "done: 4 bots restarted",
    ]  # fmt: skip
    assert lines[-1].outcome == "done"
    assert supervisor.forkservers() == dict.fromkeys(("b1", "b2", "b3", "b4"), 2)
    assert list(supervisor.servers) == [2]
    assert code.name_of(1) not in ("", before)


async def test_a_quarantined_bot_takes_everything_back_and_the_rest_is_not_touched(fleet: Fleet, code: CodeKeeper):
    supervisor = await started(fleet, code)
    before = code.name_of(1)
    supervisor.fresh = lambda bot: (
        replace(bot, state="quarantined", reason="can't be loaded") if bot.bot_id == 2 else bot
    )
    lines = await roll(RolloutKeeper(supervisor, lambda: fleet, code))
    assert lines[-1].outcome == "rolled back"
    assert lines[-1].text == "rolled back: b2 is quarantined: can't be loaded"
    assert supervisor.forkservers() == dict.fromkeys(("b1", "b2", "b3", "b4"), 1)
    assert [bot.incarnation for bot in supervisor.bots.values()] == [3, 3, 1, 1]
    assert ("release", "b2") in supervisor.commands
    assert set(supervisor.sources.values()) == {(0, old_path(code))}, "crashes stay with the old code"
    assert list(supervisor.servers) == [1]
    assert code.name_of(1) == before


async def test_bots_whose_turn_has_not_come_are_kept_from_the_new_code(fleet: Fleet, code: CodeKeeper):
    supervisor = await started(fleet, code)
    seen: dict[str, tuple[int, str]] = {}

    def look(bot: BotSight) -> BotSight:
        seen[bot.name] = supervisor.sources[4]
        return bot

    supervisor.fresh = look
    before = old_path(code)
    await roll(RolloutKeeper(supervisor, lambda: fleet, code), "1")
    assert seen == {"b1": (0, before), "b2": (0, before), "b3": (0, before), "b4": (2, "")}


async def test_worse_replies_take_it_back(fleet: Fleet, code: CodeKeeper):
    supervisor = await started(fleet, code)
    for bot_id, bot in supervisor.bots.items():
        supervisor.bots[bot_id] = replace(bot, counters={"handled": 100.0})
    supervisor.fresh = lambda bot: replace(bot, counters={"handled": 2.0, "handler_failures": 4.0})
    lines = await roll(RolloutKeeper(supervisor, lambda: fleet, code), settle=30)
    assert lines[-1].text == "rolled back: 8 of 12 updates were not answered (33%, 100% before)"


async def test_without_watching_replies_don_t_count(fleet: Fleet, code: CodeKeeper):
    supervisor = await started(fleet, code)
    supervisor.fresh = lambda bot: replace(bot, counters={"handler_failures": 40.0})
    assert (await roll(RolloutKeeper(supervisor, lambda: fleet, code)))[-1].outcome == "done"


async def test_a_wave_ends_early_when_every_bot_has_answered_often(fleet: Fleet, code: CodeKeeper):
    supervisor = await started(fleet, code)
    supervisor.fresh = lambda bot: replace(bot, counters={"handled": 15.0})
    async with asyncio.timeout(5):
        lines = await roll(RolloutKeeper(supervisor, lambda: fleet, code), settle=3600)
    assert lines[1].text == "wave 1 of 2: b1, b2 running, 30 of 30 answered"


async def test_a_bot_that_does_not_come_back_takes_it_back(fleet: Fleet, code: CodeKeeper):
    supervisor = await started(fleet, code)
    supervisor.fresh = lambda bot: replace(bot, state="starting")
    lines = await roll(RolloutKeeper(supervisor, lambda: fleet, code))
    assert lines[-1].text == "rolled back: b1 does not come back; it is starting"


@pytest.mark.parametrize(("failures", "outcome"), [(0, "done"), (1, "done"), (2, "rolled back")])
async def test_being_recycled_is_no_harm_and_failing_is(fleet: Fleet, code: CodeKeeper, failures: int, outcome: str):
    supervisor = await started(fleet, code)

    def fresh(bot: BotSight) -> BotSight:
        if bot.bot_id == 3:  # which b1 has had no part in
            supervisor.change(1, incarnation=9, failures=failures)
        return bot

    supervisor.fresh = fresh
    lines = await roll(RolloutKeeper(supervisor, lambda: fleet, code), settle=0.02)
    assert lines[-1].outcome == outcome
    assert ("b1 keeps failing" in lines[-1].text) == (failures == 2)


async def test_a_wave_waits_for_a_database_that_is_away(fleet: Fleet, code: CodeKeeper):
    supervisor = await started(fleet, code)
    back_at = asyncio.get_running_loop().time() + 0.6  # the bots have 0.3 s to come back
    then = iter(["starting"] * 3)

    def meanwhile() -> None:
        if asyncio.get_running_loop().time() >= back_at:
            supervisor.fresh = lambda bot: bot
            state = next(then, "running")
            for bot_id in supervisor.bots:
                supervisor.change(bot_id, state=state, reason="")

    supervisor.meanwhile = meanwhile
    supervisor.fresh = lambda bot: replace(bot, state="paused", reason="database: it is away", failures=2)
    lines = await roll(RolloutKeeper(supervisor, lambda: fleet, code))
    assert [(line.text, line.warning) for line in lines[1:4]] == [
        ("waiting: b1 and 1 more are paused: database: it is away", True),
        ("going on", False),
        ("wave 1 of 2: b1, b2 running", False),
    ]
    assert lines[-1].outcome == "done"


async def test_a_database_that_stays_away_ends_it_without_a_word_against_the_code(
    fleet: Fleet, code: CodeKeeper, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(rollout_environment, "PATIENCE", 0.05)
    supervisor = await started(fleet, code)

    def meanwhile() -> None:
        if supervisor.commands:
            for bot_id in (1, 2):
                supervisor.change(bot_id, state="paused", reason="database: it is away")

    supervisor.meanwhile = meanwhile
    lines = await roll(RolloutKeeper(supervisor, lambda: fleet, code))
    assert lines[-1].text == (
        "rolled back: b1 and 1 more are paused: database: it is away, for 0.05 s; nothing is known against the code; "
        "these are paused: b1, b2"
    )
    assert lines[-1].outcome == "rolled back"
    assert supervisor.forkservers() == dict.fromkeys(("b1", "b2", "b3", "b4"), 1)


async def test_no_wave_begins_while_the_breaker_holds_restarts_back(
    fleet: Fleet, code: CodeKeeper, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(rollout_environment, "PATIENCE", 0.05)
    supervisor = await started(fleet, code)
    supervisor.breaker = "many bots failed"
    lines = await roll(RolloutKeeper(supervisor, lambda: fleet, code))
    assert lines[-1].text == ("nothing was restarted: many bots failed, for 0.05 s; nothing is known against the code")
    assert supervisor.commands == []
    assert list(supervisor.servers) == [1]


@pytest.mark.parametrize(("others", "outcome"), [(True, "done"), (False, "rolled back")])
async def test_failures_under_the_breaker_count_unless_old_code_fails_too(
    fleet: Fleet, code: CodeKeeper, others: bool, outcome: str
):
    supervisor = await started(fleet, code)
    looks = 0

    def meanwhile() -> None:
        nonlocal looks
        if supervisor.bots[1].forkserver != 2 or looks >= 6:
            return
        looks += 1
        for bot_id in (1, 2, *((3, 4) if others else ())):
            failed = {"last_failure": "crash", "last_failure_at": float(looks), "failures": looks}
            supervisor.change(bot_id, state="backoff", reason="it broke", **failed)
        supervisor.breaker = "many bots failed"
        if looks == 6:
            supervisor.breaker = ""
            for bot_id in supervisor.bots:
                supervisor.change(bot_id, state="running")

    supervisor.meanwhile = meanwhile
    lines = await roll(RolloutKeeper(supervisor, lambda: fleet, code))
    assert lines[1].text == "waiting: many bots failed"
    assert lines[-1].outcome == outcome
    assert ("keeps failing (crash)" in lines[-1].text) is not others


async def test_a_generation_that_can_not_start_changes_nothing(fleet: Fleet, code: CodeKeeper):
    supervisor = await started(fleet, code)
    supervisor.preloaded = ForkserverSight(generation=0, state="failed", error="SyntaxError: oh")
    lines = await roll(RolloutKeeper(supervisor, lambda: fleet, code))
    assert lines[-1].text == "nothing was restarted: the new generation can't start: SyntaxError: oh"
    assert lines[-1].outcome == "failed"
    assert supervisor.commands == []
    assert list(supervisor.servers) == [1]
    assert set(supervisor.sources.values()) == {(0, "")}


async def test_stopped_and_quarantined_bots_are_left_alone(fleet: Fleet, code: CodeKeeper):
    supervisor = await started(fleet, code)
    supervisor.bots[1] = replace(supervisor.bots[1], state="stopped", wanted=False)
    supervisor.bots[2] = replace(supervisor.bots[2], state="quarantined")
    lines = await roll(RolloutKeeper(supervisor, lambda: fleet, code))
    assert lines[-1].text == "done: 2 bots restarted"
    assert {name for _, name in supervisor.commands} == {"b3", "b4"}
    for bot_id in (3, 4):
        supervisor.bots[bot_id] = replace(supervisor.bots[bot_id], state="stopped", wanted=False)
    with pytest.raises(BotctlError, match="no bot runs"):
        await RolloutKeeper(supervisor, lambda: fleet, code).begin(WaveSize.parse("1"), settle=None)


async def test_a_bot_that_an_operator_stops_meanwhile_stays_stopped(fleet: Fleet, code: CodeKeeper):
    supervisor = await started(fleet, code)
    stopped = {"state": "stopped", "wanted": False}
    supervisor.fresh = lambda bot: (
        replace(bot, **stopped) if bot.bot_id == 1 else replace(bot, state="quarantined") if bot.bot_id == 3 else bot
    )
    lines = await roll(RolloutKeeper(supervisor, lambda: fleet, code))
    assert lines[-1].outcome == "rolled back"
    assert supervisor.bots[1].state == "stopped"
    assert supervisor.commands.count(("restart", "b1")) == 1


@pytest.mark.parametrize("state", ["quarantined", "stopping"])
async def test_a_bot_that_is_shut_away_on_purpose_meanwhile_is_left_alone(fleet: Fleet, code: CodeKeeper, state: str):
    supervisor = await started(fleet, code)
    shut_away = {"state": state, "shut_away": True, "reason": "taken over"}

    def shut_b1_away(bot: BotSight) -> BotSight:
        if bot.bot_id == 3:
            supervisor.bots[1] = replace(supervisor.bots[1], **shut_away)
        return replace(bot, state="quarantined", reason="can't be loaded") if bot.bot_id == 4 else bot

    supervisor.fresh = shut_b1_away
    lines = await roll(RolloutKeeper(supervisor, lambda: fleet, code), settle=0.02)
    assert lines[-1].text == "rolled back: b4 is quarantined: can't be loaded"
    assert lines[-1].outcome == "rolled back"
    assert supervisor.bots[1].shut_away
    assert [verb for verb, name in supervisor.commands if name == "b1"] == ["restart"]
    assert supervisor.commands[-1] == ("release", "b4")


async def test_shutting_a_bot_away_is_no_harm_and_it_has_no_turn(fleet: Fleet, code: CodeKeeper):
    supervisor = await started(fleet, code)

    def shut_away(bot: BotSight) -> BotSight:
        if bot.bot_id == 1:
            supervisor.bots[4] = replace(supervisor.bots[4], state="stopping", shut_away=True)
            return replace(bot, state="quarantined", shut_away=True)
        return bot

    supervisor.fresh = shut_away
    lines = await roll(RolloutKeeper(supervisor, lambda: fleet, code), settle=0.02)
    assert lines[-1].outcome == "done"
    assert {name for _, name in supervisor.commands} == {"b1", "b2", "b3"}


async def test_only_one_at_a_time_and_an_abort_takes_it_back(fleet: Fleet, code: CodeKeeper):
    supervisor = await started(fleet, code)
    keeper = RolloutKeeper(supervisor, lambda: fleet, code)
    with pytest.raises(RefusedError):
        keeper.abort()
    await keeper.begin(WaveSize.parse("1"), settle=3600)
    lines = keeper.follow()
    await anext(lines)
    await until_restarted(supervisor, 1)
    with pytest.raises(RefusedError, match="under way"):
        await keeper.begin(WaveSize.parse("1"), settle=None)
    with pytest.raises(RefusedError, match="under way"):
        keeper.refuse_beside("a reload")
    keeper.abort()
    rest = [line async for line in lines]
    assert rest[-1].text == "rolled back: aborted by operator"
    assert not keeper.running
    assert supervisor.forkservers() == dict.fromkeys(("b1", "b2", "b3", "b4"), 1)
    assert [line.text async for line in keeper.follow()][-1] == rest[-1].text, "whoever comes late is told too"


async def test_the_next_control_takes_back_what_was_left_half_done(fleet: Fleet, code: CodeKeeper):
    supervisor = await started(fleet, code)
    keeper = RolloutKeeper(supervisor, lambda: fleet, code)
    await keeper.begin(WaveSize.parse("2"), settle=3600)
    await until_restarted(supervisor, 2)
    await keeper.close()
    heir = RolloutKeeper(supervisor, lambda: fleet, CodeKeeper(Path(str(fleet.folder)) / "data" / "code"))
    await heir.recover()
    lines = [line async for line in heir.follow()]
    assert lines[-1].outcome == "rolled back"
    assert supervisor.forkservers() == dict.fromkeys(("b1", "b2", "b3", "b4"), 1)
    assert set(supervisor.sources.values()) == {(0, old_path(code))}
    assert list(supervisor.servers) == [1]
    await heir.recover()
    assert not heir.running, "nothing is left to take back"


async def test_the_next_control_also_takes_back_whom_the_new_code_has_quarantined(fleet: Fleet, code: CodeKeeper):
    supervisor = await started(fleet, code)
    supervisor.servers[2] = ForkserverSight(generation=2, state="ready")
    supervisor.assign([1, 2, 3], 2, {})
    gone = {"state": "quarantined", "incarnation": 2, "forkserver": 0}
    supervisor.bots[1] = replace(supervisor.bots[1], **gone, reason="can't be loaded")
    supervisor.bots[2] = replace(supervisor.bots[2], incarnation=2, forkserver=2)
    supervisor.bots[3] = replace(supervisor.bots[3], **gone, shut_away=True)
    supervisor.bots[4] = replace(supervisor.bots[4], state="backoff", forkserver=0)
    keeper = RolloutKeeper(supervisor, lambda: fleet, code)
    await keeper.recover()
    lines = [line async for line in keeper.follow()]
    assert lines[0].text.startswith("rolling back b1, b2: ")
    assert lines[-1].outcome == "rolled back"
    assert supervisor.commands == [("release", "b1"), ("restart", "b2")]
    assert supervisor.forkservers() == {"b1": 1, "b2": 1, "b3": 0, "b4": 0}
    assert set(supervisor.sources.values()) == {(0, old_path(code))}


async def test_a_way_back_that_is_broken_off_is_gone_to_its_end_by_the_next_control(fleet: Fleet, code: CodeKeeper):
    supervisor = await started(fleet, code)
    supervisor.fresh = lambda bot: replace(bot, state="quarantined", reason="can't be loaded")
    broken_off = asyncio.Event()
    obeyed = supervisor.command

    async def command(verb: str, name: str = "", reason: str = "") -> tuple[bool, str]:
        answer = await obeyed(verb, name, reason)
        if verb == "release":
            broken_off.set()
            await asyncio.Event().wait()
        return answer

    supervisor.command = command  # type: ignore[method-assign]
    keeper = RolloutKeeper(supervisor, lambda: fleet, code)
    await keeper.begin(WaveSize.parse("3"), settle=None)
    await asyncio.wait_for(broken_off.wait(), 5)
    await keeper.close()
    supervisor.command = obeyed  # type: ignore[method-assign]
    heir = RolloutKeeper(supervisor, lambda: fleet, code)
    await heir.recover()
    lines = [line async for line in heir.follow()]
    assert lines[-1].outcome == "rolled back"
    assert supervisor.forkservers() == dict.fromkeys(("b1", "b2", "b3", "b4"), 1)
    assert {bot.state for bot in supervisor.bots.values()} == {"running"}


async def test_a_bot_that_waits_for_its_turn_to_start_is_taken_back_too(fleet: Fleet, code: CodeKeeper):
    supervisor = await started(fleet, code)
    supervisor.fresh = lambda bot: (
        replace(bot, state="configured") if bot.bot_id == 1 else replace(bot, state="quarantined", reason="it can't")
    )
    lines = await roll(RolloutKeeper(supervisor, lambda: fleet, code))
    assert lines[-1].text == "rolled back: b2 is quarantined: it can't"
    assert supervisor.commands == [("restart", "b1"), ("restart", "b2"), ("restart", "b1"), ("release", "b2")]


class Unanswered:
    """A supervisor that does not answer one verb about generations, the first `times`; it `obeys` all the same."""

    def __init__(self, supervisor: Pretended, verb: str, *, times: int = 1000, obeys: bool = False) -> None:
        self.asked = 0
        self._verb, self._times, self._obeys = verb, times, obeys
        self._real = supervisor.generation
        supervisor.generation = self  # type: ignore[assignment]

    async def __call__(self, verb: str, number: int = 0) -> tuple[bool, str, int]:
        if verb != self._verb:
            return await self._real(verb, number)
        self.asked += 1
        if self.asked > self._times:
            return await self._real(verb, number)
        if self._obeys:
            await self._real(verb, number)
        raise TimeoutError


async def test_what_fails_after_the_promotion_does_not_take_a_finished_rollout_back(fleet: Fleet, code: CodeKeeper):
    supervisor = await started(fleet, code)
    silence = Unanswered(supervisor, "retire")
    lines = await roll(RolloutKeeper(supervisor, lambda: fleet, code), "4")
    assert [line.warning for line in lines[-2:]] == [True, False]
    assert lines[-2].text == (
        "generation 1 of the forkserver could not be ended: the supervisor does not answer; "
        "the next rolling restart ends it"
    )
    assert (lines[-1].text, lines[-1].outcome) == ("done: 4 bots restarted", "done")
    assert silence.asked > 1, "tried again"
    assert [bot.incarnation for bot in supervisor.bots.values()] == [2, 2, 2, 2]
    assert supervisor.servers[2].promoted


async def test_a_new_generation_that_is_not_ended_does_not_make_a_rollback_fail(fleet: Fleet, code: CodeKeeper):
    supervisor = await started(fleet, code)
    supervisor.fresh = lambda bot: replace(bot, state="quarantined", reason="it can't")
    Unanswered(supervisor, "retire")
    lines = await roll(RolloutKeeper(supervisor, lambda: fleet, code))
    assert "generation 2 of the forkserver could not be ended" in lines[-2].text
    assert (lines[-1].text, lines[-1].outcome) == ("rolled back: b1 is quarantined: it can't", "rolled back")


async def test_an_old_generation_that_is_not_ended_at_once_is_ended_later(fleet: Fleet, code: CodeKeeper):
    supervisor = await started(fleet, code)
    Unanswered(supervisor, "retire", times=1)
    lines = await roll(RolloutKeeper(supervisor, lambda: fleet, code), "4")
    assert not any(line.warning for line in lines)
    assert list(supervisor.servers) == [2]
    Unanswered(supervisor, "retire", times=3)
    assert (await roll(RolloutKeeper(supervisor, lambda: fleet, code), "4"))[-1].outcome == "done"
    assert list(supervisor.servers) == [2, 3]
    assert (await roll(RolloutKeeper(supervisor, lambda: fleet, code), "4"))[-1].outcome == "done"
    assert len(supervisor.servers) == 1


@pytest.mark.parametrize(("obeys", "outcome", "generation"), [(True, "done", 2), (False, "rolled back", 1)])
async def test_a_promotion_without_an_answer_is_looked_for_in_the_view(
    fleet: Fleet, code: CodeKeeper, obeys: bool, outcome: str, generation: int
):
    supervisor = await started(fleet, code)
    Unanswered(supervisor, "promote", obeys=obeys)
    lines = await roll(RolloutKeeper(supervisor, lambda: fleet, code), "4")
    assert lines[-1].outcome == outcome
    assert supervisor.forkservers() == dict.fromkeys(("b1", "b2", "b3", "b4"), generation)
    assert list(supervisor.servers) == [generation]


async def test_an_abort_after_the_promotion_is_refused(fleet: Fleet, code: CodeKeeper):
    supervisor = await started(fleet, code)
    promoted, go_on = asyncio.Event(), asyncio.Event()
    real = supervisor.generation

    async def generation(verb: str, number: int = 0) -> tuple[bool, str, int]:
        if verb == "retire":
            promoted.set()
            await go_on.wait()
        return await real(verb, number)

    supervisor.generation = generation  # type: ignore[method-assign]
    keeper = RolloutKeeper(supervisor, lambda: fleet, code)
    await keeper.begin(WaveSize.parse("4"), settle=None)
    await asyncio.wait_for(promoted.wait(), 5)
    with pytest.raises(RefusedError, match="is done"):
        keeper.abort()
    go_on.set()
    assert [line async for line in keeper.follow()][-1].outcome == "done"


async def test_the_next_control_only_ends_the_old_generation_after_a_promotion(fleet: Fleet, code: CodeKeeper):
    supervisor = await started(fleet, code)
    before = code.name_of(1)
    supervisor.servers = {
        1: ForkserverSight(generation=1, state="ready"),
        2: ForkserverSight(generation=2, state="ready", promoted=True),
    }
    for bot_id in (1, 2, 3):
        supervisor.bots[bot_id] = replace(supervisor.bots[bot_id], incarnation=2, forkserver=2)
    supervisor.bots[3] = replace(supervisor.bots[3], state="backoff", forkserver=0)
    keeper = RolloutKeeper(supervisor, lambda: fleet, code)
    await keeper.recover()
    lines = [line async for line in keeper.follow()]
    assert [(line.text, line.outcome) for line in lines] == [
        ("done: the control process ended after every bot was restarted, and the next one has cleared up", "done")
    ]
    assert supervisor.commands == []
    assert list(supervisor.servers) == [2]
    assert set(supervisor.sources.values()) == {(0, "")}
    assert code.name_of(1) not in ("", before), "the next rollback would come back to what runs now"


async def test_without_a_copy_of_the_old_code_that_is_said_before_anything_is_done(fleet: Fleet, code: CodeKeeper):
    supervisor = Pretended(fleet)
    lines = await roll(RolloutKeeper(supervisor, lambda: fleet, code))
    assert lines[0].warning
    assert lines[0].text == "the old code of b1, b2, b3, b4 can't be brought back: no copy was kept"
    assert lines[-1].outcome == "done"


async def test_a_supervisor_that_falls_silent_ends_it_with_a_word(
    fleet: Fleet, code: CodeKeeper, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(rollout_reach, "_PATIENCE", 0.0)
    supervisor = await started(fleet, code)

    def fall_silent(bot: BotSight) -> BotSight:
        supervisor.silent = True
        return bot

    supervisor.fresh = fall_silent
    lines = await roll(RolloutKeeper(supervisor, lambda: fleet, code))
    assert lines[-1].text == "it could not be rolled back: the supervisor does not answer"
    assert lines[-1].outcome == "failed"


async def test_an_operators_start_takes_what_stands_on_disk(fleet: Fleet, code: CodeKeeper):
    supervisor = await started(fleet, code)
    starts = Starts(supervisor, lambda: fleet, code)
    old = code.name_of(1)
    supervisor.sources = dict.fromkeys(supervisor.bots, (0, old_path(code)))
    supervisor.bots[2] = replace(supervisor.bots[2], state="stopped", pid=None)
    supervisor.bots[3] = replace(supervisor.bots[3], state="quarantined")
    supervisor.bots[4] = replace(supervisor.bots[4], pid=44)
    sight = await supervisor.sight()
    await starts.by_command("restart", "b3", sight)  # which is refused
    assert (supervisor.sources[3], code.name_of(3)) == ((0, code.path_of(old)), old)
    for verb, name, fresh in (("restart", "b1", 1), ("start", "b2", 2), ("release", "b3", 3)):
        await starts.by_command(verb, name, sight)
        assert supervisor.sources[fresh] == (0, "")
        assert code.name_of(fresh) != old
    for verb, name in (("start", "b4"), ("release", "b4")):
        await starts.by_command(verb, name, sight)
    assert supervisor.sources[4] == (0, code.path_of(old))
    assert code.name_of(4) == old
