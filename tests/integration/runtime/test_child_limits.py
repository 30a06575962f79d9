"""The limits that a forked child begins with, and what the supervisor can change while it runs."""

from __future__ import annotations

import json
import os
import resource
from pathlib import Path

import pytest

from botctl.runtime import linux, messages

MB = 1024 * 1024


def test_a_child_has_the_limits_of_its_request(fork):
    facts = json.loads(fork("tells_its_limits", memory=900 * MB, open_files=200, file_size=50 * MB).hear())
    assert facts["core"] == [0, 0]
    assert facts["data"][0] == facts["data"][1]
    assert 900 * MB < facts["data"][0] < 1100 * MB, "so much, and what it has inherited"
    assert facts["files"] == [200] * 2
    assert facts["file_size"] == [50 * MB] * 2


def test_without_limits_a_child_has_those_of_the_daemon(fork):
    facts = json.loads(fork("tells_its_limits").hear())
    assert facts["data"] == list(resource.getrlimit(resource.RLIMIT_DATA))
    assert facts["files"] == list(resource.getrlimit(resource.RLIMIT_NOFILE))
    assert facts["file_size"] == list(resource.getrlimit(resource.RLIMIT_FSIZE))


def test_a_program_that_a_child_starts_gets_none_of_its_pipes(fork):
    child = fork("tells_its_limits")
    inherited = json.loads(child.hear())["inherited"]  # may hold what the tests themselves were started with
    ours = {os.readlink(f"/proc/self/fd/{descriptor}") for descriptor in (child.pipes.reports, child.pipes.writer)}
    assert not ours.intersection(inherited)
    assert not [link for link in inherited if link.startswith("/memfd:")]


def test_only_an_expendable_child_comes_after_the_others(fork):
    ours = int(Path("/proc/self/oom_score_adj").read_text())
    facts = json.loads(fork("tells_its_limits").hear())
    assert (facts["nice"], facts["oom_score_adj"]) == (os.nice(0), ours)
    facts = json.loads(fork("tells_its_limits", expendable=True).hear())
    assert (facts["nice"], facts["oom_score_adj"]) == (min(19, os.nice(0) + 5), min(1000, ours + 500))


def test_a_file_that_grows_too_large_is_an_error_and_not_the_end(fork):
    child = fork("writes_a_large_file", file_size=100_000)
    assert child.hear() == "refused: File too large"
    assert child.wait() == 0
    assert fork("writes_a_large_file", file_size=2_000_000).wait() == 0


def test_a_running_child_gets_a_lower_limit(fork):
    child = fork("takes_memory_when_told")
    assert child.hear() == "hangs"
    child.say(messages.Adjust(settings={"bytes": 50 * MB}))
    assert child.hear() == "taken"
    assert linux.set_limit(child.pid, resource.RLIMIT_DATA, 80 * MB)
    child.say(messages.Adjust(settings={"bytes": 50 * MB}))
    assert child.hear() == "refused"


def test_a_limit_that_can_not_be_raised_is_told(fork):
    """Raising a hard limit takes CAP_SYS_RESOURCE, which root need not have."""
    child = fork("takes_memory_when_told", memory=80 * MB)
    assert child.hear() == "hangs"
    raised = linux.set_limit(child.pid, resource.RLIMIT_DATA, 900 * MB)
    assert raised is has_capability(24)
    child.say(messages.Adjust(settings={"bytes": 100 * MB}))
    assert child.hear() == ("taken" if raised else "refused")


def test_a_limit_of_a_process_that_has_ended_is_refused(fork):
    child = fork("writes_a_large_file")
    child.wait()
    assert linux.set_limit(child.pid, resource.RLIMIT_DATA, 80 * MB) is False


def test_a_child_whose_group_is_gone_says_so_and_runs_on(fork, tmp_path):
    child = fork("tells_its_limits", cgroup=str(tmp_path / "gone"))
    json.loads(child.hear())
    assert "control group not entered" in child.log()
    assert "No such file or directory" in child.log()


@pytest.mark.parametrize("allowed", ["67108864", "max"])
def test_a_group_may_hold_what_its_child_inherits_as_well(fork, tmp_path: Path, allowed: str):
    """Copies of pages that were there at the fork count in the group, and a bot makes them by reading its objects.

    In plain files, as this machine's kernel may have no such groups.
    """
    (tmp_path / "cgroup.procs").touch()
    (tmp_path / "memory.max").write_text(allowed)
    facts = json.loads(fork("tells_its_limits", cgroup=str(tmp_path), memory=900 * MB).hear())
    inherited = facts["data"][0] - 900 * MB
    assert inherited > 0
    raised = (tmp_path / "memory.max").read_text()
    if allowed == "max":
        assert raised == allowed
    else:
        assert int(raised) - int(allowed) == pytest.approx(inherited, abs=2 * MB)


def has_capability(number: int) -> bool:
    status = Path("/proc/self/status").read_text()
    return bool(int(status.partition("CapEff:")[2].split()[0], 16) >> number & 1)
