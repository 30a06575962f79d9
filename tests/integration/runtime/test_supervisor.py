"""The real supervisor, forkserver and pipes over children with bad habits."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from integration.runtime.daemons import HERE, QUICK, children_of, gone, wait_until


def test_a_killed_bot_is_back_at_once_and_the_others_do_not_notice(daemon):
    fleet = daemon(one="well", two="well")
    first, other = fleet.wait_running("one", "two")
    os.kill(first["pid"], signal.SIGKILL)
    backoff = fleet.wait_state("one", "backoff")
    assert backoff["reason"] == "signal 9"
    again = fleet.wait_state("one", "running")
    assert again["incarnation"] == 2
    assert not gone(other["pid"])
    assert fleet.end() == 0


def test_a_crashing_bot_is_quarantined_and_its_traceback_is_in_its_log_without_the_token(daemon):
    fleet = daemon(bad="crash", good="well")
    entry = fleet.wait_state("bad", "quarantined")
    assert "6 failures within 60 s" in entry["reason"]
    assert "AAEhBOweik6ad9r" not in json.dumps(fleet.seen)
    fleet.end()
    log = fleet.log("bad")
    assert "RuntimeError: this child crashes" in log
    assert "AAEhBOweik6ad9r" not in log


def test_a_bad_token_is_quarantined_at_the_first_time(daemon):
    fleet = daemon(bad="bad_token")
    entry = fleet.wait_state("bad", "quarantined")
    assert (entry["reason"], entry["incarnation"]) == ("Telegram says 401", 1)


def test_a_hung_bot_is_killed_and_its_stack_names_the_function(daemon):
    fleet = daemon(stuck="freeze")
    fleet.wait_state("stuck", "failed")
    fleet.wait_state("stuck", "running", incarnation=2)
    assert "a_function_that_hangs" in fleet.log("stuck")


def test_a_bot_that_beats_before_it_is_killed_is_let_live(daemon):
    fleet = daemon(late={"habit": "nap", "policy": {**QUICK, "dump_timeout": 10.0}})
    pid = fleet.wait_state("late", "running")["pid"]
    assert fleet.wait_state("late", "failed")["reason"] == "no heartbeat for 1 s"
    entry = fleet.wait_state("late", "running")
    assert (entry["pid"], entry["was"], entry["incarnation"]) == (pid, "failed", 1)


def test_deaths_by_updates_that_were_given_up_do_not_add_up_to_quarantine(daemon):
    fleet = daemon(poisoned={"habit": "poisoned", "policy": {"intensity": 5, "max_delay": 0.05}})
    fleet.wait_state("poisoned", "running", incarnation=7)
    said = [entry for entry in fleet.seen if entry["event"] == "updates given up"]
    assert [(entry["bot"], entry["failures_pardoned"]) for entry in said] == [("poisoned", True)] * 2


def test_a_bot_that_always_blames_updates_is_quarantined_all_the_same(daemon):
    fleet = daemon(forgiven={"habit": "forgiven", "policy": {"intensity": 5, "max_delay": 0.02}})
    entry = fleet.wait_state("forgiven", "quarantined")
    assert "6 failures within 60 s" in entry["reason"]
    # Three pardons, each asked for by the incarnation after a failure that it then forgets; then six failures.
    assert entry["incarnation"] <= 3 + 6


def test_a_stopped_process_counts_as_hung(daemon):
    fleet = daemon(frozen="well")
    entry = fleet.wait_state("frozen", "running")
    os.kill(entry["pid"], signal.SIGSTOP)
    fleet.wait_state("frozen", "failed")
    fleet.wait_state("frozen", "running", incarnation=2)
    assert gone(entry["pid"])


def test_a_bot_that_is_never_ready_is_judged(daemon):
    fleet = daemon(slow={"habit": "never_ready", "policy": {**QUICK, "ready_timeout": 0.5}})
    assert fleet.wait_state("slow", "failed")["reason"] == "not ready within 0.5 s"


@pytest.mark.parametrize("habit", ["garbage", "huge_frame", "flood", "flood_unready"])
def test_a_bot_that_breaks_the_protocol_is_killed(daemon, habit: str):
    fleet = daemon(hostile=habit, other="well")
    assert "frame" in fleet.wait_state("hostile", "failed")["reason"]
    fleet.wait_state("hostile", "backoff")


@pytest.mark.parametrize("habit", ["half_frame", "flood", "flood_unready", "flap", "print_flood"])
def test_a_half_frame_or_a_flood_costs_the_others_nothing(daemon, habit: str):
    fleet = daemon(
        hostile={"habit": habit, "policy": {**QUICK, "heartbeat_timeout": 3.0}},
        other={"habit": "well", "policy": {**QUICK, "heartbeat_timeout": 3.0}},
    )
    fleet.wait_state("other", "running")
    ages = []
    for _ in range(20):
        fleet.say("snapshot")
        entry = fleet.wait(lambda entry: entry["event"] == "snapshot")
        other = next(bot for bot in entry["snapshot"]["bots"] if bot["name"] == "other")
        assert (other["state"], other["restarts"]) == ("running", 0)
        ages.append(other["heartbeat_age"] or 0.0)
    assert max(ages) < 2.0
    assert sum(entry.get("name") == "hostile" for entry in fleet.seen) < 100, "nobody fills the log by flapping"
    began = time.monotonic()
    assert fleet.end() == 0
    assert time.monotonic() - began < 5.0


def test_a_print_flood_stays_within_the_rotated_files(daemon):
    fleet = daemon(loud={"habit": "print_flood", "policy": {**QUICK, "heartbeat_timeout": 30.0}})
    wait_until(lambda: (fleet.folder / "loud.log.2").exists(), 15)
    fleet.end()
    assert sum(path.stat().st_size for path in fleet.folder.glob("loud.log*")) <= 3 * 200_000 + 65_536


def test_a_bot_that_ignores_stop_and_term_is_killed_within_the_deadline(daemon):
    fleet = daemon(deaf="ignore_stop")
    entry = fleet.wait_state("deaf", "running")
    began = time.monotonic()
    fleet.say("stop deaf")
    fleet.wait_state("deaf", "stopped")
    assert time.monotonic() - began < 0.5 + 0.3 + 1.0
    assert gone(entry["pid"])


def test_stop_start_and_restart_are_idempotent(daemon):
    fleet = daemon(one="well")
    fleet.wait_state("one", "running")
    for line in ("start one", "stop one", "stop one"):
        fleet.say(line)
    fleet.wait_state("one", "stopped")
    for line in ("stop one", "start one", "start one"):
        fleet.say(line)
    assert fleet.wait_state("one", "running")["incarnation"] == 2
    for line in ("restart one", "restart one"):
        fleet.say(line)
    assert fleet.wait_state("one", "running")["incarnation"] == 3
    assert fleet.end() == 0
    assert sum(entry["event"] == "bot starting" for entry in fleet.seen) == 3


def test_what_a_bot_prints_last_is_in_its_log(daemon):
    fleet = daemon(chatty="print_on_stop")
    fleet.wait_state("chatty", "running")
    fleet.end()
    assert fleet.log("chatty").endswith("last line\n")


def test_a_bots_own_subprocesses_end_with_it(daemon):
    fleet = daemon(parent="grandchild")
    entry = fleet.wait_state("parent", "running")
    wait_until(lambda: "grandchild" in fleet.log("parent"))
    grandchild = int(fleet.log("parent").split("grandchild ")[-1].split()[0])
    assert not gone(grandchild)
    os.kill(entry["pid"], signal.SIGKILL)
    fleet.wait_state("parent", "running", incarnation=2)
    wait_until(lambda: gone(grandchild))


@pytest.mark.parametrize("end", ["bot", "stop", "supervisor"])
def test_a_subprocess_in_a_session_of_its_own_ends_too(daemon, end: str):
    fleet = daemon(parent="daemonize")
    entry = fleet.wait_state("parent", "running")
    wait_until(lambda: "grandchild" in fleet.log("parent"))
    grandchild = int(fleet.log("parent").split("grandchild ")[-1].split()[0])
    assert not gone(grandchild)
    if end == "bot":
        os.kill(entry["pid"], signal.SIGKILL)
        fleet.wait_state("parent", "running", incarnation=2)
    elif end == "stop":
        fleet.end()
    else:
        fleet.process.kill()
    wait_until(lambda: gone(grandchild))


def test_a_log_folder_that_vanishes_costs_log_lines_only(daemon):
    fleet = daemon(one="well", loud={"habit": "print_flood", "policy": {**QUICK, "heartbeat_timeout": 60.0}})
    first = fleet.wait_running("one")[0]
    vanished = fleet.folder.rename(fleet.folder.with_name("vanished"))  # at once, while somebody writes into it
    shutil.rmtree(vanished, ignore_errors=True)
    for number in range(2, 5):
        os.kill(first["pid"], signal.SIGKILL)
        first = fleet.wait_state("one", "running", incarnation=number)
    fleet.folder.mkdir()
    wait_until(lambda: (fleet.folder / "loud.log").exists(), 10)
    assert fleet.end() == 0


def test_no_descriptors_left_means_a_later_start_and_not_the_end_of_the_daemon(daemon):
    fleet = daemon(_limit=28, one="well", two="well", three="well", four="well", five="well", six="well", seven="well")
    reason = fleet.wait_state_of_any("backoff")["reason"]
    assert "Too many open files" in reason
    fleet.say("stop one")
    assert fleet.end() == 0


def test_a_killed_supervisor_leaves_no_process_behind(daemon):
    fleet = daemon(one="well", two="well", parent="grandchild")
    fleet.wait_running("one", "two", "parent")
    wait_until(lambda: "grandchild" in fleet.log("parent"))
    family = children_of(fleet.process.pid)
    family.append(int(fleet.log("parent").split("grandchild ")[-1].split()[0]))
    assert len(family) == 5, "three bots, the forkserver, a bot's own subprocess"
    fleet.process.kill()
    wait_until(lambda: all(gone(pid) for pid in family), 2.0)


def test_a_forkserver_that_was_stopped_ends_with_a_killed_supervisor_too(daemon):
    fleet = daemon(one="well")
    fleet.wait_running("one")
    (forkserver,) = {entry["pid"] for entry in fleet.seen if entry["event"] == "forkserver ready"}
    os.kill(forkserver, signal.SIGSTOP)
    fleet.process.kill()
    wait_until(lambda: gone(forkserver), 2.0)


def test_bots_survive_the_forkserver_and_a_new_one_serves_the_next_start(daemon):
    fleet = daemon(one="well")
    up = fleet.wait(lambda entry: entry["event"] == "forkserver ready")
    entry = fleet.wait_state("one", "running")
    os.kill(up["pid"], signal.SIGKILL)
    again = fleet.wait(lambda entry: entry["event"] == "forkserver ready")
    assert (again["generation"], again["pid"] != up["pid"]) == (1, True)
    assert not gone(entry["pid"])
    fleet.say("restart one")
    fleet.wait_state("one", "running", incarnation=2)
    assert fleet.end() == 0


def test_a_forkserver_that_can_not_preload_fails_the_boot_loudly(tmp_path: Path):
    code = (HERE / "driver.py").read_text().replace('MODULES = ["children_for_tests"', 'MODULES = ["no_such_module"')
    script = tmp_path / "driver.py"
    script.write_text(code)
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "logs"), "{}"],
        capture_output=True, text=True, timeout=30, check=False, stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(HERE)},
    )  # fmt: skip
    assert "boot failed" in done.stdout
    assert "No module named 'no_such_module'" in done.stdout
    assert "ModuleNotFoundError" in (tmp_path / "logs" / "forkserver.log").read_text()
