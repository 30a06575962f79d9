"""A bot's memory limit that its control group keeps, changed while it runs. In plain files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from botctl.runtime.cgroups import Cgroups
from botctl.runtime.children import Child, Kind, Limits
from botctl.runtime.live_limits import LiveLimits
from botctl.supervision.model import Record, State

INHERITED = 5000


@pytest.mark.parametrize(("new", "written"), [(900, str(900 + INHERITED)), (2000, str(2000 + INHERITED)), (0, "max")])
def test_what_it_has_inherited_stays_on_top(tmp_path: Path, new: int, written: str):
    (tmp_path / "memory.max").write_text(str(1000 + INHERITED))
    child = Child(1, "one", Kind.BOT, Record(1).but(pid=os.getpid(), state=State.RUNNING, wanted=True))
    child.cgroup, child.limits = str(tmp_path), Limits(memory=1000)
    groups = Cgroups(tmp_path.parent, frozenset({"memory"}), lambda note: pytest.fail(note))
    assert LiveLimits(groups, lambda *_, **__: None).apply(child, Limits(memory=new))
    assert (tmp_path / "memory.max").read_text()[: len(written)] == written  # a plain file keeps its tail
