"""Limits that need control groups are warned of where there are none."""

from __future__ import annotations

from pathlib import Path

import pytest

from botctl.cli.checks import _unkept_limits
from botctl.cli.unkept import possible, unkept, wishes, wishes_in
from botctl.fleet import Fleet
from botctl.settings.model import Settings


def fleet(*limits: dict[str, float]) -> Fleet:
    bots = [
        {"name": f"bot{number}", "token": f"{number + 1}:secret-of-this-bot", "limits": one}
        for number, one in enumerate(limits)
    ]
    return Fleet.model_validate({"bots": bots})


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        (["cpu", "memory", "pids"], ""),
        (["cpu"], "not kept, for want of control groups (pids): limits.processes of bot1"),
        (
            [],
            "not kept, for want of control groups (cpu and pids): limits.cpu of bot0, bot1; limits.processes of bot1",
        ),
    ],
)
def test_bots_are_named_by_limit_also_by_the_daemon(kept: list[str], said: str) -> None:
    wanted = fleet({"cpu": 0.5}, {"cpu": 1, "processes": 64}, {"memory": 1 << 30})
    assert unkept(wishes(wanted), kept) == said
    assert unkept(wishes_in(wanted.model_dump_json().encode()), kept) == said


def test_a_large_fleet_is_counted() -> None:
    assert unkept([(f"bot{number}", 1.0, 0) for number in range(200)], []).endswith("bot4 and 195 more")


def machine(root: Path, controllers: str) -> Path:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/mountinfo").write_text("30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n")
    (root / "proc/self/cgroup").write_text("0::/user.slice\n")
    own = root / "sys/fs/cgroup/user.slice"
    own.mkdir(parents=True)
    (own.parent / "cgroup.controllers").write_text(controllers)
    (own / "cgroup.controllers").write_text("memory\n")
    return root


def test_what_the_machine_could_give_is_not_warned_of_before_a_daemon_runs(tmp_path: Path) -> None:
    assert possible(machine(tmp_path, "cpuset cpu pids\n")) >= {"cpu", "pids", "memory"}
    assert possible(tmp_path / "elsewhere") == frozenset()


def test_doctor_warns_where_there_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    monkeypatch.setattr("botctl.cli.unkept.possible", lambda: frozenset({"cpu", "pids"}))
    assert list(_unkept_limits(fleet({"cpu": 1}), settings)) == []
    monkeypatch.setattr("botctl.cli.unkept.possible", frozenset)
    (finding,) = _unkept_limits(fleet({"cpu": 1}), settings)
    assert finding.verdict.value == "warn"
    assert "limits.cpu of bot0" in finding.text
