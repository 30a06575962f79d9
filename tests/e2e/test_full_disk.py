"""The disk is full for some seconds under load: operators read which one, nothing is lost, all is answered afterwards.

The long one is `scripts/chaos disk`. Nothing fails here because it is slow.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from chaos.disk.run import NO_RIGHT
from support.stack import ROOT

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize("side", ["data", "logs"])
def test_a_full_disk_loses_nothing_and_is_told(side: str, tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "chaos" / "disk" / "run.py"), "--side", side, "--seconds", "4", "--seed", "4"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=110, check=False)
    if done.returncode == NO_RIGHT:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stdout + done.stderr
    assert "No demand was broken." in done.stdout
    assert ", 0 lost;" in done.stdout
