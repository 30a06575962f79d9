"""Each class of failure on a real bot: what its end is called, what is done about it, what `botctl why` says, and that
nobody else notices. One fleet for all; a bot whose name is a command of the failing shop breaks on it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
from collections.abc import Iterator

import pytest

from support.failing_fleet import FLEET, IDS, TROUBLED, FailingFleet, Rival, failing_fleet
from support.stack import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

AT_WORK = ("running", "degraded")


@pytest.fixture(scope="module")
def fleet() -> Iterator[FailingFleet]:
    """The fleet; two of its troubles take long to show, and begin at once."""
    with failing_fleet() as made:
        asyncio.run(begin(made))
        with Rival(made.stack, "rival"):
            yield made


async def begin(fleet: FailingFleet) -> None:
    # More at once would look like trouble of the machine, and nobody's own.
    for name in ("licence", "slow"):
        await fleet.until(name, "quarantined")
    for name in FLEET.keys() - TROUBLED:
        await fleet.until(name, "running")
    await fleet.say("hoard", "/hoard")


@contextlib.contextmanager
def nobody_else_notices(fleet: FailingFleet, *names: str) -> Iterator[None]:
    """Bots that were at work are the same processes afterwards, but for those named and for one that leaks."""
    before = {name: bot for name, bot in fleet.bots().items() if bot["state"] in AT_WORK}
    assert len(before) > 8, before
    yield
    after = fleet.bots()
    for name, bot in before.items():
        if name not in (*names, "hoard"):
            assert (after[name]["pid"], after[name]["restarts"]) == (bot["pid"], bot["restarts"]), name
            assert after[name]["state"] in AT_WORK, after[name]


# --- ends -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "failure", "said"),
    [
        ("segfault", "crash", ("killed by SIGSEGV", "Segmentation fault", "in segfault")),
        ("exit_quietly", "exit", ("ended with exit code 0", "os._exit()")),
        ("call_exit", "exit", ("ended with exit code 0", "in call_exit")),
        ("hang", "hang", ("no heartbeat for 2 s", "killed by its supervisor", "in ask_the_till", "asyncio.to_thread")),
        ("overeat", "memory", ("it could get no more memory", "MB taken, 210 MB allowed", "failing/shop.py:")),
        (
            "babble",
            "protocol",
            ("it broke the protocol of its pipe: frame of", "killed by its supervisor", "descriptors"),
        ),
    ],
)
async def test_a_bot_that_breaks_is_started_again_and_says_of_what(
    fleet: FailingFleet, name: str, failure: str, said: tuple[str, ...]
) -> None:
    await fleet.until(name, "running", restarts=0)
    with nobody_else_notices(fleet, name):
        await fleet.say(name, f"/{name}")
        await fleet.died(name, failure)
        bot = await fleet.until(name, "running", restarts=1)
        assert bot["last_failure"] == failure
        # Its update was to blame, and is not tried again; the next one is.
        await fleet.answers(name)
        assert fleet.bot(name)["restarts"] == 1
    told = fleet.why(name)
    assert told.startswith(f"{name} runs (pid {bot['pid']})")
    assert f"Failures in the last 24 h: {failure} once." in told
    assert "Then: next start after" in told
    for words in said:
        assert words in told


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM])
async def test_a_bot_that_is_killed_from_outside_is_back_and_not_to_blame(
    fleet: FailingFleet, sign: signal.Signals
) -> None:
    before = await fleet.until("killed", "running")
    with nobody_else_notices(fleet, "killed"):
        os.kill(before["pid"], sign)
        await fleet.until("killed", "running", restarts=before["restarts"] + 1)
        await eventually(lambda: len(fleet.deaths("killed")) == before["restarts"] + 1, "its death is told")
    assert fleet.deaths("killed")[0]["failure"] == "signal"
    told = fleet.why("killed", "--last", "1")
    assert f"killed by {sign.name}" in told
    assert "outside botctl" in told
    assert "of at most" not in told, "it counts for nothing"


async def test_beyond_its_soft_limit_a_bot_ends_in_order_and_is_started_anew(fleet: FailingFleet) -> None:
    await fleet.died("hoard", "memory")
    bot = await fleet.until("hoard", "running", restarts=1)
    assert (bot["last_failure"], fleet.deaths("hoard")[0]["exit"]) == ("memory", "exit 0")
    told = fleet.why("hoard")
    assert "MB of memory, 73 MB allowed" in told
    assert "memory_soft" in told


async def test_an_update_that_wants_too_much_at_once_fails_alone(fleet: FailingFleet) -> None:
    before = await fleet.until("swallow", "running")
    with nobody_else_notices(fleet):
        await fleet.say("swallow", "/swallow")
        await eventually(lambda: fleet.bot("swallow")["counters"].get("dead_letters") == 1, "a dead letter")
        await fleet.answers("swallow")
    assert (fleet.bot("swallow")["pid"], fleet.deaths("swallow")) == (before["pid"], [])


async def test_a_machine_without_descriptors_costs_time_and_nothing_else(fleet: FailingFleet) -> None:
    before = await fleet.until("no_process", "running")
    with nobody_else_notices(fleet, "no_process"):
        limits = resource.prlimit(fleet.stack.daemon_pid, resource.RLIMIT_NOFILE)
        resource.prlimit(fleet.stack.daemon_pid, resource.RLIMIT_NOFILE, (8, limits[1]))
        try:
            os.kill(before["pid"], signal.SIGKILL)
            await eventually(lambda: any(death["failure"] == "spawn" for death in fleet.deaths("no_process")), "spawn")
        finally:
            resource.prlimit(fleet.stack.daemon_pid, resource.RLIMIT_NOFILE, limits)
        await fleet.until("no_process", "running")
    told = fleet.why("no_process", "--last", "1")
    assert "cannot be started: Too many open files" in told
    assert "botctl doctor" in told
    assert "of at most" not in told, "it counts for nothing"


# --- what no restart mends ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("missing", ("No module named 'no_such_module'. It is not", "beside the fleet file")),
        ("typo", ("SyntaxError: expected ':' (", "failing/typo.py:1)")),
        ("mistaken", ("has no attribute 'ecco'", "failing/shop.py:")),
        ("leaving", ("sys.exit('usage: leaving.py TOKEN')", "failing/leaving.py:5)")),
        ("revoked", ("Telegram refuses the token: Unauthorized (said 127.0.0.1)", "@BotFather", "botctl apply")),
    ],
)
async def test_what_no_restart_mends_is_quarantined_at_the_first_time(
    fleet: FailingFleet, name: str, said: tuple[str, ...]
) -> None:
    failure = "bad_token" if name == "revoked" else "code"
    bot = await fleet.until(name, "quarantined", restarts=0)
    await fleet.died(name, failure)
    assert (bot["last_failure"], bot["incarnation"], bot["pid"]) == (failure, 1, None)
    told = fleet.why(name)
    assert told.startswith(f"{name} is quarantined")
    assert (f"Then: botctl release {name}" in told) == (name != "revoked"), "applying a new token starts it"
    for words in said:
        assert words in told


async def test_a_bot_that_fails_too_often_is_quarantined_until_it_is_mended_and_released(fleet: FailingFleet) -> None:
    bot = await fleet.until("licence", "quarantined", restarts=2)
    assert bot["last_failure"] == "crash"
    told = fleet.why("licence", "--last", "1")
    assert "3 failures within 60 s, the last: FileNotFoundError" in told
    assert "licence.txt' (" in told
    assert "failing/shop.py:" in told
    assert "Failures in the last 24 h: crash 3 times." in told
    with nobody_else_notices(fleet):
        (fleet.stack.folder / "failing" / "licence.txt").write_text("granted")
        fleet.stack.cli("release", "licence")
        await fleet.until("licence", "running")
        await fleet.answers("licence")


async def test_a_bot_that_never_gets_ready_is_ended_and_its_stack_names_the_line(fleet: FailingFleet) -> None:
    bot = await fleet.until("slow", "quarantined", restarts=1)
    assert bot["last_failure"] == "not_ready"
    told = fleet.why("slow", "--last", "1")
    assert "2 failures within 60 s, the last: not ready within 3 s" in told
    assert 'failing/slow_import.py", line 8 in wait_for_warehouse' in told
    assert "restart.ready_timeout" in told


# --- what no restart helps against ----------------------------------------------------------------------------------


async def test_flood_control_never_restarts_a_bot_whatever_it_is_told(fleet: FailingFleet) -> None:
    at_start = await fleet.until("flooded_at_start", "running", restarts=0)
    assert at_start["incarnation"] == 1, "told to wait for longer than its ready_timeout"
    before = await fleet.until("flooded", "running")
    async with fleet.stack.sandbox() as telegram:
        await telegram.inject_fault("sendMessage", bot_id=IDS["flooded"], status=429, retry_after=1, times=2)
        await telegram.inject_fault("getUpdates", bot_id=IDS["flooded"], status=429, retry_after=6)
        await fleet.answers("flooded", "first")  # it ends the poll that is held; the next one is refused
    degraded = await fleet.until("flooded", "degraded")
    assert "telegram asks us not to poll for 6 s" in degraded["reason"]
    assert "It goes on by itself" in fleet.why("flooded")
    await fleet.answers("flooded", "second")
    after = await fleet.until("flooded", "running")
    assert (after["pid"], after["restarts"]) == (before["pid"], 0)
    assert (await fleet.replies("flooded")).count("echo first") == 1


async def test_without_a_completion_api_a_bot_is_degraded_and_tells_its_users(fleet: FailingFleet) -> None:
    before = await fleet.until("thoughtless", "running")
    with nobody_else_notices(fleet):
        await fleet.say("thoughtless", "hello?")
        degraded = await fleet.until("thoughtless", "degraded")

        async def told() -> bool:
            return any("try again" in reply for reply in await fleet.replies("thoughtless"))

        await eventually(told, "its user is told", 20)
        # It polls on: another one is told too.
        await fleet.say("thoughtless", "/help")
        await eventually(lambda: fleet.bot("thoughtless")["counters"]["updates"] == 2, "it polls")
    assert (degraded["pid"], degraded["restarts"]) == (before["pid"], 0)
    said = fleet.why("thoughtless")
    assert "degraded: completion api: unreachable" in said
    assert "base_url" in said


async def test_a_stop_is_no_failure(fleet: FailingFleet) -> None:
    await fleet.until("resting", "running")
    with nobody_else_notices(fleet, "resting"):
        fleet.stack.cli("stop", "resting")
        bot = await fleet.until("resting", "stopped")
    assert (bot["last_failure"], bot["restarts"], fleet.deaths("resting")) == (None, 0, [])
    told = fleet.why("resting")
    assert "resting is stopped" in told
    assert "resting has not died" in told
    assert "botctl restart resting" in told


@pytest.mark.parametrize(("server", "state"), [("valkey", "degraded"), ("postgres", "paused")])
async def test_a_server_that_is_away_restarts_nobody(fleet: FailingFleet, server: str, state: str) -> None:
    name = "bystander"
    before = {one: bot for one, bot in fleet.bots().items() if bot["state"] in AT_WORK}
    # Its disk is gone: whatever the supervisor does, it can't come back.
    folder = fleet.stack.data / server
    pid = await fleet.stack.service_pid(server)
    folder.rename(folder.with_suffix(".away"))
    try:
        os.kill(pid, signal.SIGKILL)
        if server == "valkey":
            await fleet.answers(name, "without redis")
        else:
            await fleet.say(name, "without database")
        await fleet.until(name, state)
        told = fleet.why(name, keep_as=server)
        assert ("is degraded: redis" if server == "valkey" else "the database is away") in told
        assert f"botctl logs {server}" in told
    finally:
        folder.with_suffix(".away").rename(folder)
    for one in before:
        await eventually(lambda one=one: fleet.bot(one)["state"] in AT_WORK, f"{one} is back", 30)
    await eventually(lambda: fleet.bot(name)["state"] == "running", f"{name} is well", 30)
    if server == "postgres":
        await fleet.answers(name, "with database")
        assert "echo without database" in await fleet.replies(name)
    after = fleet.bots()
    assert {one: (after[one]["pid"], after[one]["restarts"]) for one in before} == {
        one: (bot["pid"], bot["restarts"]) for one, bot in before.items()
    }


async def test_who_shares_its_token_is_degraded_and_says_so(fleet: FailingFleet) -> None:
    at_start = await fleet.until("rival_at_start", "starting")
    assert at_start["incarnation"] == 1, fleet.why("rival_at_start")
    assert "another process polls this bot (Conflict: " in at_start["reason"]
    assert "stop it, or have @BotFather revoke the token" in fleet.why("rival_at_start")
    degraded = await fleet.until("rival", "degraded", restarts=0)
    assert "another process polls this bot (Conflict: terminated by other getUpdates request" in degraded["reason"]
    assert "stop it, or have @BotFather revoke the token" in fleet.why("rival")
    assert fleet.deaths("rival") == []


async def test_in_the_end_the_bystander_has_never_been_restarted(fleet: FailingFleet) -> None:
    bot = fleet.bot("bystander")
    assert (bot["state"], bot["restarts"], bot["incarnation"]) == ("running", 0, 1)
    assert set(fleet.bots()) == set(FLEET)
    assert "bystander has not died" in fleet.why("bystander")
