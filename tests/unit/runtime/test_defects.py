"""An error of the supervisor's own is told and survived, unless there is no end of them."""

from __future__ import annotations

import os
import time

import pytest

from botctl.runtime import defects, messages
from botctl.runtime.children import Child, Kind
from botctl.runtime.defects import Defects
from botctl.runtime.frames import frame
from botctl.runtime.loop import READABLE, Loop
from botctl.runtime.pipes import ChildPipes
from botctl.runtime.wire import Wire
from botctl.supervision.model import Record


class Owner:
    def __init__(self) -> None:
        self.logged: list[str] = []
        self.said_broken: list[str] = []

    def log(self, level: str, event: str, **fields: object) -> None:
        self.logged.append(f"{event}: {fields['error']}")

    def broken(self, message: str) -> None:
        self.said_broken.append(message)


def fail() -> None:
    raise KeyError("a defect")


def test_an_error_of_one_callback_leaves_the_others_alone():
    owner, done = Owner(), []
    loop = Loop(Defects(owner).take)  # type: ignore[arg-type]
    out, into = os.pipe()
    loop.watch(out, READABLE, fail)
    loop.defer(fail)
    loop.defer(lambda: done.append("deferred"))
    loop.call(fail)
    loop.call(lambda: done.append("called"))
    os.write(into, b"!")
    while len(done) < 2:
        loop.turn(time.monotonic() + 1)
    assert sorted(done) == ["called", "deferred"]
    assert owner.logged[:3] == ["an error of the supervisor itself: KeyError('a defect')"] * 3
    assert not owner.said_broken


def test_errors_without_end_end_the_daemon(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(defects, "MOST", 3)
    owner = Owner()
    taken = Defects(owner)  # type: ignore[arg-type]
    for _ in range(4):
        taken.take(KeyError("a defect"))
    assert len(owner.said_broken) == 1
    for _ in range(3):
        taken.take(KeyError("a defect"))
    with pytest.raises(KeyError):
        taken.take(KeyError("a defect"))


def talking_child(frames: int) -> Child:
    child = Child(7, "bot", Kind.BOT, Record(7))
    child.pipes = ChildPipes(max_body=messages.MAX_FRAME)
    for number in range(frames):
        os.write(child.pipes.child_reports, frame(messages.encode(messages.Rotated(generation=number))))
    return child


def test_who_is_looked_at_twice_while_there_is_more_is_put_off_once():
    heard: list[object] = []
    loop = Loop()
    wire = Wire(loop, lambda _, message: heard.append(message), lambda _, how: pytest.fail(how))
    child = talking_child(100)
    wire.listen(child)
    while not heard:
        loop.turn(time.monotonic() + 0.05)
    wire.look(child)
    wire.listen(child)
    deadline = time.monotonic() + 5
    while len(heard) < 100:
        assert time.monotonic() < deadline
        loop.turn(time.monotonic() + 0.01)
    assert loop.watches(child.pipes.reports)  # type: ignore[union-attr]


def test_what_can_not_be_dealt_with_is_the_fault_of_who_said_it():
    owner, blamed = Owner(), []
    loop = Loop(Defects(owner).take)  # type: ignore[arg-type]
    wire = Wire(loop, lambda *_: fail(), lambda child, how: blamed.append((child.name, how)))
    child = talking_child(1)
    wire.listen(child)
    while not blamed:
        loop.turn(time.monotonic() + 0.05)
    assert blamed == [("bot", "can't be dealt with: KeyError")]
    assert len(owner.logged) == 1
    assert not loop.watches(child.pipes.reports)  # type: ignore[union-attr]
