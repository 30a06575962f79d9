"""Hostile and broken children: each is judged, and nobody else's supervision stalls meanwhile."""

from __future__ import annotations

import os
import signal
import statistics
import threading
import time
from typing import Any

import pytest

from integration.runtime.daemons import Daemon, children_of, gone, wait_until

STALL = 0.05
"""Seconds for which supervision may stall at most."""

CROWDED = 100.0
"""Of a thousand moments, those in which the supervisor could have run and had no processor. Its bots are nicer than it:
so much is others' doing, and then trips and lags across processes tell of the machine."""

POLICY = {"heartbeat_timeout": 1.0, "ready_timeout": 15.0, "stop_timeout": 0.2, "max_delay": 0.05, "intensity": 10_000}
WELL = {"habit": "attackers.metronome", "policy": POLICY}
WELLS = ("well0", "well1", "well2")

VERDICTS = {
    "half_frame": ("hang", "no heartbeat for 1 s"),
    "announce": ("protocol", "frame of 104857600 bytes announced, 65536 allowed"),
    "write_100_mb": ("protocol", "frame of 104857600 bytes announced, 65536 allowed"),
    "write_100_mb_in_frames": ("protocol", "announced, 65536 allowed"),
    "flood_small": ("protocol", "more than 25 frames a second"),
    "flood_huge": ("protocol", "more than 25 frames a second, or longer ones than usual"),
    "last_words": ("protocol", "more than 3 last words"),
    "excuse": ("protocol", "signal is not for a child to say"),
    "end_amidst": ("bad_token", "at last"),
    "garbage": ("protocol", "frame"),
    "wrong_type": ("protocol", "frame of 37 bytes refused"),
    "unknown_type": ("protocol", "refused: Invalid value '123456789:***'"),
    "long_type": ("protocol", "frame of 60011 bytes refused: Invalid value …"),
    "deep": ("protocol", "refused"),
    "long_string": ("protocol", "announced, 65536 allowed"),
    "play_control": ("protocol", "refused"),
    "hang_up": ("hang", "no heartbeat for 1 s"),
    "heir": ("signal", "SIGKILL"),
    "fill_stacks": ("signal", "SIGKILL"),
    "deaf": ("protocol", "the child does not read its commands"),
}
"""What becomes of each way of attacking, and why."""

HARMLESS = ("dribble", "flood_flapping", "print_long", "print_short", "print_secrets", "orphans")
"""Ways that break no rule and are to cost nobody anything."""


def attack(daemon, *habits: str, **configure: Any) -> Daemon:
    """A daemon with three that are well, and children with these habits."""
    fleet = daemon(
        **dict.fromkeys(WELLS, WELL),
        **{
            f"bad{number} {habit}": {"habit": f"attackers.{habit}", "policy": POLICY, **configure}
            for number, habit in enumerate(habits)
        },
    )
    fleet.wait_running(*WELLS)
    fleet.measure()
    return fleet


def judge(fleet: Daemon, seconds: float) -> dict[str, float]:
    """Go on for so long; nobody who is well may be harmed or kept waiting. Gives the figures, in milliseconds."""
    began, waited = time.monotonic(), fleet.measure()["waited"]
    trips: list[float] = []
    while time.monotonic() < began + seconds:
        trips.append(fleet.ping())
        threading.Event().wait(0.01)
    measured = fleet.measure()
    wells = [bot for bot in fleet.snapshot()["bots"] if bot["name"] in WELLS]
    assert [(bot["state"], bot["restarts"]) for bot in wells] == [("running", 0)] * 3, wells
    lags = measured["lags"]
    figures = {
        "turn": measured["turn"],
        "turn_own": measured["turn_own"],
        "waited": (measured["waited"] - waited) / (time.monotonic() - began),
        "lag": max(lags),
        "median lag": statistics.median(lags),
        "trip": max(trips),
        "median trip": statistics.median(trips),
    }
    figures = {name: round(value * 1e3, 1) for name, value in figures.items()}
    # A turn is a stall of everybody, whatever it was spent on, but for the time that others had the processor.
    assert measured["turn_own"] < STALL, figures
    if figures["waited"] < CROWDED:
        assert statistics.median(lags) < STALL, figures
        assert statistics.median(trips) < STALL, figures
    return figures


def test_each_attacker_gets_its_verdict_and_nobody_else_notices(daemon):
    fleet = attack(daemon, *VERDICTS, *HARMLESS)
    deaf = f"bad{list(VERDICTS).index('deaf')} deaf"
    verdicts: dict[str, tuple[str, str]] = {}
    deadline = time.monotonic() + 20
    while VERDICTS.keys() - verdicts.keys():
        assert time.monotonic() < deadline, VERDICTS.keys() - verdicts.keys()
        if "deaf" not in verdicts:
            fleet.say(f"adjust {deaf} 60000")
        fleet.ping()
        for entry in fleet.seen:
            record = entry.get("record", {})
            if record.get("failure"):
                verdicts.setdefault(record["name"].split()[1], (record["failure"], record["cause"]))
        fleet.seen.clear()
    for habit, (failure, cause) in VERDICTS.items():
        assert verdicts[habit][0] == failure, (habit, verdicts[habit])
        assert cause in verdicts[habit][1], (habit, verdicts[habit])
    assert not verdicts.keys() & set(HARMLESS) - {"orphans", "print_short", "print_secrets", "print_long"}
    judge(fleet, 0.5)
    assert fleet.end() == 0


@pytest.mark.parametrize(
    "habit",
    [
        "flood_huge",
        "flood_small",
        "last_words",
        "deep",
        "fill_stacks",
        "print_short",
        "print_secrets",
    ],
)
def test_ten_of_a_kind_at_once_stall_nobody(daemon, habit: str):
    judge(attack(daemon, *[habit] * 10), 1.0)


def test_ten_that_talk_of_something_else_when_their_heartbeat_is_due_stall_nobody(daemon):
    """Their backlogs are put off when their deadlines have them looked at."""
    fleet = daemon(
        **dict.fromkeys(WELLS, WELL),
        **{
            f"bad{number}": {"habit": "attackers.straddle", "policy": POLICY, "offset": 0.95 + number * 0.01}
            for number in range(10)
        },
    )
    fleet.wait_running(*WELLS)
    fleet.measure()
    judge(fleet, 4.0)
    assert not [entry for entry in fleet.seen if entry["event"] == "an error of the supervisor itself"]


def test_ten_that_send_all_they_may_in_the_same_moment_stall_nobody(daemon):
    judge(attack(daemon, *["flood_flapping"] * 10, at=time.monotonic() + 1.5), 1.5)


@pytest.mark.parametrize("habit", ["print_short", "print_secrets"])
def test_ten_that_die_with_their_pipes_full_stall_nobody(daemon, habit: str):
    judge(attack(daemon, *[habit] * 10, die_after=0.2), 1.0)


def test_hundreds_of_orphans_of_living_bots_stall_nobody_when_others_die(daemon):
    fleet = attack(daemon, "orphans", "orphans", "fill_stacks", number=400)
    wait_until(lambda: len(children_of(fleet.process.pid)) > 800, 20)
    fleet.measure()
    judge(fleet, 1.0)
    assert fleet.end() == 0


def test_fifty_deaths_at_once_stall_nobody(daemon):
    fleet = attack(daemon, *["slow_beat"] * 50)
    bots = [name for name in (bot["name"] for bot in fleet.snapshot()["bots"]) if name not in WELLS]
    wait_until(lambda: all(bot["state"] == "running" for bot in fleet.snapshot()["bots"]), 20)
    pids = [bot["pid"] for bot in fleet.snapshot()["bots"] if bot["name"] in bots]
    fleet.measure()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    judge(fleet, 1.0)
    wait_until(lambda: all(bot["state"] == "running" for bot in fleet.snapshot()["bots"]), 20)
    assert all(bot["restarts"] == (bot["name"] in bots) for bot in fleet.snapshot()["bots"])
    assert all(map(gone, pids))


def test_a_bot_that_does_not_read_costs_bounded_memory(daemon):
    fleet = attack(daemon, *["deaf"] * 4)
    wait_until(lambda: all(bot["state"] == "running" for bot in fleet.snapshot()["bots"]), 20)
    before = resident(fleet)
    for number in range(4):
        for _ in range(200):  # 12 MB each
            fleet.say(f"adjust bad{number} deaf 60000")
    judged = set()

    def note(entry) -> bool:
        if entry.get("record", {}).get("cause") == "the child does not read its commands":
            judged.add(entry["record"]["name"])
        return len(judged) == 4

    fleet.wait(note)
    assert resident(fleet) - before < 12e6
    judge(fleet, 0.2)


def resident(fleet: Daemon) -> float:
    """Bytes of the supervisor's memory that are there."""
    with open(f"/proc/{fleet.process.pid}/statm") as file:
        return int(file.read().split()[1]) * 4096.0


@pytest.mark.parametrize("frame", ["heartbeat", "failing"])
def test_a_kill_at_every_byte_of_a_frame_costs_one_restart(daemon, frame: str):
    policy = {**POLICY, "first_delay": 0.005, "max_delay": 0.005}
    fleet = daemon(cut={"habit": "attackers.cut", "frame": frame, "policy": policy}, well0=WELL)
    running = fleet.wait_state("cut", "running", 30)
    deaths = [entry["record"] for entry in fleet.seen if entry.get("record", {}).get("exit")]
    size = running["incarnation"] - 1
    assert size > 40
    assert [death["exit"] for death in deaths] == ["signal 9"] * size
    whole = "crash" if frame == "failing" else "signal"
    assert [death["failure"] for death in deaths] == ["signal"] * (size - 1) + [whole]
    assert next(bot for bot in fleet.snapshot()["bots"] if bot["name"] == "well0")["restarts"] == 0


def test_a_pipe_that_somebody_inherited_is_nobodys_voice(daemon):
    """A subprocess that hid itself goes on writing into the pipe of an incarnation that has ended."""
    fleet = attack(daemon, "heir")
    name = "bad0 heir"
    fleet.wait_death(name)
    wait_until(lambda: "heir: nobody listens" in fleet.log(name))
    assert fleet.end() == 0
