"""What is told of the fleet as a whole, each thing once."""

from __future__ import annotations

from typing import Any

from botctl.bus.event_types.catalogue import validate
from botctl.bus.events import Event
from botctl.control.fleet.story import NEW, FleetStory
from botctl.control.ports import FleetSight

NOW = 1_700_000_000.0


def sight(**more: Any) -> FleetSight:
    return FleetSight(**{"pid": 7, "state": "running", "started_at": NOW, "generation": 1} | more)


def told(story: FleetStory, at: float = NOW + 1, **more: Any) -> list[tuple[str, dict[str, Any]]]:
    found = story.look(sight(**more), 3, at)
    for one in found:
        event = Event(id=one.event_id, type=one.type, occurred_at=one.occurred_at, data=one.data)
        validate(event, "fleet")
    return [(one.type, one.data) for one in found]


def test_a_daemon_is_told_to_have_started_once() -> None:
    story = FleetStory("1.2")
    assert told(story) == [("fleet.started", {"version": "1.2", "pid": 7, "bots": 3})]
    assert told(story) == []


def test_a_control_that_is_started_again_tells_it_by_the_same_id_and_later_not_at_all() -> None:
    [one], [again] = FleetStory("1.2").look(sight(), 3, NOW + 1), FleetStory("1.2").look(sight(), 4, NOW + 60)
    assert one.event_id == again.event_id
    assert FleetStory("1.2").look(sight(), 3, NOW + NEW + 1) == []
    [other] = FleetStory("1.2").look(sight(started_at=NOW + 5), 3, NOW + 6)
    assert other.event_id != one.event_id


def test_restarts_that_are_held_back_are_told_with_their_reason_and_so_is_their_end() -> None:
    story = FleetStory("1.2")
    told(story)
    assert told(story, breaker="3 bots failed") == [("fleet.paused", {"reason": "3 bots failed"})]
    assert told(story, breaker="4 bots failed") == []
    assert told(story) == [("fleet.resumed", {"reason": ""})]
    assert told(story, breaker="x" * 1000, at=NOW + 2) == [("fleet.paused", {"reason": "x" * 500})]


def test_the_end_is_told_once() -> None:
    story = FleetStory("1.2")
    told(story)
    assert told(story, state="stopping") == [("fleet.stopped", {"reason": "the daemon shuts down"})]
    assert told(story, state="stopping") == []
