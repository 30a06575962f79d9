"""`botctl chaos`: the whole command on a shipped scenario, its reports, its end."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from support.stack import BOTCTL, descendants, eventually, process_gone

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]


def test_the_smoke_scenario_loses_nothing_and_says_so(tmp_path: Path) -> None:
    told, page, logs = tmp_path / "report.json", tmp_path / "report.md", tmp_path / "logs"
    done = subprocess.run(
        [*BOTCTL, "chaos", "--scenario", "smoke", "--json", told, "--report", page, "--keep-logs", logs],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(told.read_text())
    assert (report["passed"], report["lost"], report["problems"]) == (True, 0, [])
    assert report["sent"] == report["answered"] > 50
    assert report["duplicated"] <= report["uncertain"]
    assert sum(report["restarts"].values()) == 2
    assert {one["label"] for one in report["latencies"]} >= {"calm", "kill bot", "kill control", "all"}
    assert done.stdout.splitlines()[-1].startswith(
        f"chaos: {report['sent']} sent, {report['answered']} answered, 0 lost"
    )
    assert "| lost | 0 |" in page.read_text()
    assert not logs.exists()


async def test_whoever_ends_it_early_finds_nothing_left() -> None:
    deaf = ["sh", "-c", "trap '' INT; exec \"$@\"", "sh", *BOTCTL, "chaos"]  # as a shell runs it in the background
    chaos = subprocess.Popen(deaf, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    try:
        assert chaos.stderr is not None
        first = await asyncio.to_thread(chaos.stderr.readline)
        folder = Path(first.split()[-1])
        lines = [first]
        while "of calm" not in lines[-1]:
            lines.append(await asyncio.to_thread(chaos.stderr.readline))
            assert lines[-1], f"it ended: {lines}"
        family = descendants(chaos.pid)
        assert len(family) > 5
        chaos.send_signal(signal.SIGTERM)  # it becomes what Ctrl-C is
        assert await asyncio.to_thread(chaos.wait, 60) == 130
        await eventually(lambda: all(process_gone(pid) for pid in family), "all have ended", 10)
        assert not folder.exists()
    finally:
        if chaos.poll() is None:
            chaos.send_signal(signal.SIGINT)
            chaos.wait(60)


def test_a_wrong_scenario_is_told_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("timeline:\n  - at: 1s\n    kill: nobody\n")
    command = [sys.executable, "-P", "-m", "botctl", "chaos", "--scenario", str(tmp_path / "mine.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, "the fleet has no bot 'nobody'" in done.stderr) == (2, True), done.stderr
