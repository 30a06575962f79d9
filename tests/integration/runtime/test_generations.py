"""Generations of the forkserver: new code beside old, and no supervision that waits for a forkserver in trouble."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from botctl.runtime import linux
from botctl.runtime.fork_client import FORK_TIMEOUT
from botctl.runtime.launcher import ForkserverUp, Launched, Launcher, Result
from botctl.runtime.spawn import SpawnRequest
from integration.runtime.daemons import HERE, QUICK, Daemon, gone, wait_until

CHILD = """
import asyncio
from children_for_tests import _work
WORD = {word!r}
def main(channel):
    print("the word is", WORD, "in", channel.configure.incarnation, flush=True)
    return asyncio.run(_work(channel))
"""


class Generations(Daemon):
    """A daemon whose children run `changing_child`, which stands in `code`."""

    def __init__(self, folder: Path, code: Path, fleet: dict[str, dict[str, Any]], *, nudges: bool) -> None:
        self.code = code
        self.write("old")
        self.folder = folder
        self.seen = []
        self._pings = 0
        self._entries: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "generations_driver.py"), str(folder), json.dumps(fleet), str(nudges)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": f"{HERE}{os.pathsep}{code}"},
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def write(self, word: str) -> None:
        """Change the code on disk."""
        (self.code / "changing_child.py").write_text(CHILD.format(word=word))

    def words(self, name: str) -> list[str]:
        """What each incarnation of a bot was made of."""
        lines = [line for line in self.log(name).splitlines() if "the word is" in line]
        return [line.split("the word is ")[1].split()[0] for line in lines]

    def wait_words(self, name: str, *expected: str) -> None:
        """A bot is told to run before its line is written: logs have a thread of their own."""
        wait_until(lambda: len(self.words(name)) >= len(expected))
        assert self.words(name) == list(expected)

    def ready(self) -> dict[str, Any]:
        """A forkserver has become ready."""
        return self.wait(lambda entry: entry["event"] == "forkserver ready")

    def generation(self, verb: str, number: int = 0) -> int:
        """Command a generation; its number."""
        self.say(f"generation {verb} {number}")
        answer = self.wait(lambda entry: entry["event"] == "answered")
        assert answer["done"], answer
        return int(answer["generation"])

    def snapshot(self) -> dict[str, Any]:
        """The supervisor's whole view."""
        self.say("snapshot")
        found: dict[str, Any] = self.wait(lambda entry: entry["event"] == "snapshot")["snapshot"]
        return found


@pytest.fixture
def generations(tmp_path: Path) -> Iterator[Callable[..., Generations]]:
    made: list[Generations] = []

    def start(*, _nudges: bool = True, **fleet: Any) -> Generations:
        bots = {name: {"habit": habit, "policy": QUICK} for name, habit in fleet.items()}
        made.append(Generations(tmp_path / "logs", tmp_path, bots, nudges=_nudges))
        return made[-1]

    yield start
    for one in made:
        if one.process.poll() is None:
            one.process.kill()
        one.process.wait(10)


CHANGING = "changing_child.changing"


def test_new_code_starts_beside_old_and_then_serves_everybody(generations):
    fleet = generations(one=CHANGING, two=CHANGING)
    first = fleet.ready()
    fleet.wait_running("one", "two")
    fleet.write("new")
    number = fleet.generation("renew")
    second = fleet.ready()
    assert (second["generation"], second["pid"] != first["pid"]) == (number, True)

    fleet.say(f"assign one {number}")
    fleet.say("restart one")
    one = fleet.wait_state("one", "running", incarnation=2)
    two = next(bot for bot in fleet.snapshot()["bots"] if bot["name"] == "two")
    os.kill(two["pid"], signal.SIGKILL)
    fleet.wait_state("two", "running", incarnation=2)
    os.kill(one["pid"], signal.SIGKILL)
    one = fleet.wait_state("one", "running", incarnation=3)
    fleet.wait_words("one", "old", "new", "new")
    fleet.wait_words("two", "old", "old")
    assert {bot["name"]: bot["forkserver"] for bot in fleet.snapshot()["bots"]} == {"one": number, "two": 1}

    fleet.generation("promote", number)
    fleet.generation("retire", 1)
    wait_until(lambda: gone(first["pid"]))
    fleet.say("restart two")
    fleet.wait_state("two", "running", incarnation=3)
    fleet.wait_words("two", "old", "old", "new")
    assert not gone(one["pid"]), "a bot outlives the retirement of another generation"
    assert [server["generation"] for server in fleet.snapshot()["forkservers"]] == [number]
    assert fleet.end() == 0


def test_the_way_back_runs_the_old_code_and_ends_the_new_generation(generations):
    fleet = generations(one=CHANGING)
    fleet.ready()
    fleet.wait_running("one")
    fleet.write("new")
    number = fleet.generation("renew")
    second = fleet.ready()
    for incarnation, generation in ((2, number), (3, 0)):
        fleet.say(f"assign one {generation}")
        fleet.say("restart one")
        one = fleet.wait_state("one", "running", incarnation=incarnation)
    fleet.wait_words("one", "old", "new", "old")
    fleet.generation("retire", number)
    wait_until(lambda: gone(second["pid"]))
    assert not gone(one["pid"])
    fleet.say("generation retire 1")
    refused = fleet.wait(lambda entry: entry["event"] == "answered")
    assert not refused["done"]
    assert fleet.end() == 0


def test_what_a_rollout_must_know_of_a_bot_is_in_the_view(generations):
    fleet = generations(one=CHANGING, killed="well", bad="bad_token", crash="crash")
    fleet.ready()
    fleet.wait_running("one", "killed")
    killed = next(bot for bot in fleet.snapshot()["bots"] if bot["name"] == "killed")
    os.kill(killed["pid"], signal.SIGKILL)
    fleet.wait_state("killed", "running", incarnation=2)
    fleet.say("quarantine one")
    fleet.say("assign one 2")

    def settled() -> bool:
        return all(bot["state"] == "quarantined" for bot in fleet.snapshot()["bots"] if bot["name"] != "killed")

    wait_until(settled)
    bots = {bot["name"]: bot for bot in fleet.snapshot()["bots"]}
    assert {name: bot["failures"] for name, bot in bots.items()} == {"one": 0, "killed": 0, "bad": 1, "crash": 6}
    assert [name for name, bot in bots.items() if bot["shut_away"]] == ["one"]
    assert {name: bot["assigned"] for name, bot in bots.items()} == {"one": 2, "killed": 0, "bad": 0, "crash": 0}
    fleet.say("release one")
    fleet.say("stop one")
    fleet.say("start one")
    wait_until(lambda: not fleet.snapshot()["bots"][0]["shut_away"])
    assert fleet.end() == 0


def test_each_generation_is_started_again_when_it_dies(generations):
    fleet = generations(one=CHANGING)
    first = fleet.ready()
    fleet.wait_running("one")
    number = fleet.generation("renew")
    second = fleet.ready()
    for before in (first, second):
        os.kill(before["pid"], signal.SIGKILL)
        again = fleet.ready()
        assert (again["generation"], again["pid"] != before["pid"]) == (before["generation"], True)
    fleet.say(f"assign one {number}")
    fleet.say("restart one")
    fleet.wait_state("one", "running", incarnation=2)
    assert fleet.end() == 0


def test_code_that_can_not_be_loaded_leaves_the_current_generation_alone(generations):
    fleet = generations(one=CHANGING)
    fleet.ready()
    fleet.wait_running("one")
    (fleet.code / "changing_child.py").write_text("this is no Python\n")
    number = fleet.generation("renew")
    failed = fleet.wait(lambda entry: entry["event"] == "forkserver failed")
    assert (failed["generation"], "SyntaxError" in failed["error"]) == (number, True)
    server = fleet.snapshot()["forkservers"][-1]
    assert (server["state"], server["promoted"]) == ("failed", False)
    fleet.say("generation promote 2")
    assert not fleet.wait(lambda entry: entry["event"] == "answered")["done"]
    fleet.say("restart one")
    fleet.wait_state("one", "running", incarnation=2)
    fleet.wait_words("one", "old", "old")
    fleet.generation("retire", number)
    fleet.write("new")
    assert fleet.generation("renew") == number + 1
    assert fleet.ready()["generation"] == number + 1
    assert fleet.end() == 0


# --- a forkserver in trouble ---------------------------------------------------------------------------------------


def _pause(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)


def _kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def _slow(pid: int) -> None:
    """Away for a second."""
    os.kill(pid, signal.SIGSTOP)
    threading.Timer(1.0, lambda: os.kill(pid, signal.SIGCONT)).start()


@pytest.mark.parametrize(
    ("harm", "nudges", "not_before", "within"),
    [
        pytest.param(_pause, True, 0.0, 2.5, id="paused, and told to go on"),
        pytest.param(_slow, False, 1.0, 3.5, id="slow"),
        pytest.param(_kill, True, 0.0, 6.0, id="killed"),
        pytest.param(_pause, False, FORK_TIMEOUT, 10.0, id="hung, and replaced"),
    ],
)
def test_a_forkserver_in_trouble_stalls_nobodys_supervision(
    generations, harm: Any, nudges: bool, not_before: float, within: float
):
    fleet = generations(_nudges=nudges, dead="well", stopped="well", stubborn="ignore_stop", hung="well", well="well")
    server = fleet.ready()
    fleet.wait_running("dead", "stopped", "stubborn", "hung", "well")
    pids = {bot["name"]: bot["pid"] for bot in fleet.snapshot()["bots"]}
    harm(server["pid"])
    begun = time.monotonic()
    os.kill(pids["dead"], signal.SIGKILL)  # wants a fork that can't be had now
    os.kill(pids["hung"], signal.SIGSTOP)
    fleet.say("stop stopped")
    fleet.say("stop stubborn")
    wanted = {("dead", "running"), ("stopped", "stopped"), ("stubborn", "stopped"), ("hung", "backoff")}
    times: dict[str, float] = {}

    def note(entry: dict[str, Any]) -> bool:
        for name, state in wanted:
            if entry["event"] == f"bot {state}" and entry["name"] == name:
                times.setdefault(name, time.monotonic() - begun)
        return len(times) == len(wanted)

    fleet.wait(note, within + 5.0)
    assert not_before <= times["dead"] <= within, times
    assert times["stopped"] < 0.5, times
    assert times["stubborn"] < 1.5, times  # stop_timeout, then TERM, then KILL
    assert times["hung"] < 2.5, times  # heartbeat_timeout, then its stacks
    view = fleet.snapshot()
    assert view["gauges"]["longest_turn_ms"] < 250
    well = next(bot for bot in view["bots"] if bot["name"] == "well")
    assert (well["pid"], well["heartbeat_age"] < 1.0) == (pids["well"], True)
    wait_until(lambda: all(bot["state"] in ("running", "stopped") for bot in fleet.snapshot()["bots"]))
    assert fleet.end() == 0


def test_a_forkserver_that_does_not_answer_is_dead_before_anybody_tries_again(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    monkeypatch.setattr("botctl.runtime.fork_client.NUDGE_AFTER", 1e9)
    results: queue.SimpleQueue[Result] = queue.SimpleQueue()
    states: list[str] = []
    pid = 0

    def report(result: Result) -> None:
        if isinstance(result, Launched):
            states.append(linux.process_state(pid))
        results.put(result)

    launcher = Launcher(["children_for_tests"], lambda: os.open(os.devnull, os.O_WRONLY), report)
    launcher.start()
    try:
        up = results.get(timeout=60)
        assert isinstance(up, ForkserverUp)
        pid = up.pid
        _pause(pid)
        pipe = os.pipe()
        request = SpawnRequest(id=1, name="x", entry="children_for_tests:main", mark="1/1")
        launcher.fork(1, request, (*pipe, os.dup(pipe[0])))
        while not isinstance(result := results.get(timeout=30), Launched):
            pass
        assert result.pid is None
        assert "no answer within 3 s" in result.error
        assert states[0] in ("", "Z"), "told only when it can't fork any more"
        again = results.get(timeout=60)
        assert isinstance(again, ForkserverUp)
        os.waitpid(pid, 0)
        pid = again.pid
    finally:
        launcher.stop(5)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)
