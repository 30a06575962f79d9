"""Bots that Landlock confines are restarted when a resolver file gets another inode, and only then."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from botctl.control.ports import BotSight, FleetSight
from botctl.control.watching import resolver_watch
from botctl.control.watching.resolver_watch import ResolverWatch


class Supervisor:
    def __init__(self, *bots: BotSight) -> None:
        self.bots = bots
        self.asked: list[tuple[str, str]] = []
        self.away = False

    async def sight(self) -> FleetSight:
        if self.away:
            raise TimeoutError
        return FleetSight(pid=1, state="running", started_at=0.0, generation=1, bots=self.bots)

    async def command(self, verb: str, name: str = "", reason: str = "") -> tuple[bool, str]:
        self.asked.append((verb, name))
        return True, ""


def bot(name: str, **more: Any) -> BotSight:
    fields = {"bot_id": 1, "state": "running", "pid": 7, "started_at": time.time() - 60, "isolation": "uid", **more}
    return BotSight(name=name, **fields)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolver_watch, "APART", 0.0)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "resolv.conf"
    path.write_text("nameserver 192.0.2.1\n")
    return path


def replace(file: Path) -> None:
    fresh = file.with_suffix(".new")
    fresh.write_text("nameserver 192.0.2.2\n")
    fresh.replace(file)


async def test_only_who_is_confined_and_began_before_is_restarted(file: Path) -> None:
    supervisor = Supervisor(
        bot("a"),
        bot("b", isolation="landlock"),
        bot("open", isolation="none"),
        bot("new", started_at=time.time() + 60),
        bot("stopped", pid=None),
        bot("unwanted", wanted=False),
    )
    watch = ResolverWatch(supervisor, [str(file)])
    await watch.look()
    assert supervisor.asked == []
    replace(file)
    await watch.look()
    assert supervisor.asked == [("restart", "a"), ("restart", "b")]
    await watch.look()
    assert len(supervisor.asked) == 2, "once is enough"


async def test_a_change_in_place_needs_no_restart(file: Path) -> None:
    supervisor = Supervisor(bot("a"))
    watch = ResolverWatch(supervisor, [str(file)])
    file.write_text("nameserver 192.0.2.3\n")
    await watch.look()
    assert supervisor.asked == []


async def test_what_the_supervisor_did_not_answer_is_done_later(file: Path) -> None:
    supervisor = Supervisor(bot("a"))
    watch = ResolverWatch(supervisor, [str(file)])
    replace(file)
    supervisor.away = True
    with pytest.raises(TimeoutError):
        await watch.look()
    supervisor.away = False
    await watch.look()
    assert supervisor.asked == [("restart", "a")]
