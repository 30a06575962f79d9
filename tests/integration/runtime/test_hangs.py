"""Children that hang, in Python, in C, in the kernel: found in time, with their stacks, and restarted."""

from __future__ import annotations

POLICY = {"heartbeat_timeout": 1.0, "ready_timeout": 15.0}
PLACES = {
    "loop": "in do_loop",
    "regex": "in do_regex",
    "lock": "in do_lock",
    "sleep": "in do_sleep",
    "stop": "in do_stop",
}
"""What the stacks must name, by habit of `stuck`."""

TASKS = {"loop", "lock", "sleep", "stop"}
"""Where the interpreter comes to a signal handler, so that tasks can be written too. A regular expression never does,
and a lock only as signals interrupt the wait for it."""


def test_each_way_of_hanging_is_found_in_time_and_its_stacks_name_the_function(daemon):
    fleet = daemon(**{habit: {"habit": f"stuck.{habit}", "policy": POLICY} for habit in PLACES})
    deaths = {}

    def note(entry):
        record = entry.get("record", {})
        if record.get("exit"):
            deaths.setdefault(record["name"], record)
        return len(deaths) == len(PLACES)

    fleet.wait(note, 20)
    for habit, place in PLACES.items():
        death = deaths[habit]
        assert (death["failure"], death["exit"]) == ("hang", "signal 9"), death
        assert death["cause"].startswith("no heartbeat for 1 s"), death["cause"]
        assert place in death["stacks"], (habit, death["stacks"])
        assert 1.0 <= death["silent_for"] < 2.5, (habit, death["silent_for"])
        # From the third on the breaker takes them for the environment's doing, and those that wait for their turn too.
        assert death["action"].startswith(("next start after", "held back by the fleet breaker")), death["action"]
    assert "stopped by a signal" in deaths["stop"]["cause"]
    for habit in TASKS:
        assert "in a_task_that_waits" in deaths[habit]["stacks"], (habit, deaths[habit]["stacks"])
    running = {
        entry["name"] for entry in fleet.seen if entry.get("event") == "bot running" and entry["incarnation"] == 2
    }
    fleet.wait(lambda entry: _again(entry, running) == set(PLACES))
    assert fleet.end() == 0
    for habit, place in PLACES.items():
        assert place in fleet.log(habit)


def test_what_an_acquitted_bot_wrote_explains_no_later_death(daemon):
    policy = {**POLICY, "dump_timeout": 5.0}
    fleet = daemon(late={"habit": "attackers.acquitted", "policy": policy})
    death = fleet.wait_death("late")
    assert (death["failure"], death["stacks"]) == ("crash", "")
    states = [entry["event"] for entry in fleet.seen if entry["event"].startswith("bot ")]
    assert states[:4] == ["bot starting", "bot running", "bot failed", "bot running"]


def _again(entry, running: set[str]) -> set[str]:
    if entry.get("event") == "bot running" and entry["incarnation"] == 2:
        running.add(entry["name"])
    return running
