"""Whose events wait when a mailbox fills, and for how long others wait for one who does not read."""

from __future__ import annotations

from botctl.bus.routing.pressure import LOOK_EVERY, PATIENCE, READS, REGAINED, WORN, Pressure

ALPHA, BETA, GAMMA = 1, 2, 3
WELL = round(READS) + 5
"""Entries a second that are taken by one that reads well."""


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def half_full(clock: Clock) -> Pressure:
    """Most of it is alpha's."""
    pressure = Pressure(clock, 1_000)
    pressure.delivered({(BETA, ALPHA): 495, (BETA, GAMMA): 20})
    return pressure


def let_pass(clock: Clock, pressure: Pressure, seconds: float, depth: int) -> None:
    """Seconds in which nobody reads."""
    for _ in range(round(seconds)):
        clock.now += 1.0
        pressure.measured({BETA: depth})


def test_the_source_of_most_waits_and_nobody_else() -> None:
    pressure = half_full(Clock())
    assert pressure.room(ALPHA) == 0
    assert (pressure.room(GAMMA) or 0) > 400
    assert pressure.room(9) is None
    assert pressure.sources(BETA) == "495 of bot 1, 20 of bot 3"


def test_what_may_come_gets_less_as_the_mailbox_fills_and_stays_below_its_limit() -> None:
    pressure = Pressure(Clock(), 1_000)
    sources = range(10, 70)
    pressure.delivered({(BETA, source): 1 for source in sources})
    for _ in range(100):
        for source in sources:
            room = pressure.room(source)
            pressure.delivered({(BETA, source): 16 if room is None else min(16, room)})
    assert sum(pressure._mailboxes[BETA].sources.values()) < 1_000


def test_a_source_goes_on_when_its_reader_has_read() -> None:
    clock = Clock()
    pressure = half_full(clock)
    assert pressure.to_measure() == []
    clock.now += 2 * LOOK_EVERY
    assert pressure.to_measure() == [BETA]
    pressure.measured({BETA: 400})
    assert pressure.room(ALPHA) is None
    pressure.measured({BETA: 0})
    assert pressure.to_measure() == []
    assert pressure.sources(BETA) == ""


def test_one_that_does_not_read_holds_nobody_up_for_ever() -> None:
    clock = Clock()
    pressure = half_full(clock)
    let_pass(clock, pressure, PATIENCE - 1, 515)
    assert pressure.room(ALPHA) == 0
    let_pass(clock, pressure, 1, 515)
    assert pressure.room(ALPHA) is None


def test_nobody_waits_for_one_that_has_not_read_while_its_mailbox_filled_slowly() -> None:
    clock = Clock()
    pressure = Pressure(clock, 1_000)
    for second in range(1_000):
        pressure.delivered({(BETA, 10 + second % 5): 1})
        let_pass(clock, pressure, 1, second + 1)
        assert all(pressure.room(source) is None for source in range(10, 15)), second


def test_one_that_reads_a_little_now_and_then_does_not_either() -> None:
    clock = Clock()
    pressure = half_full(clock)
    let_pass(clock, pressure, PATIENCE, 515)
    waited = 0
    for second in range(600):
        clock.now += 1.0
        read = 5 if second % 2 else 0
        pressure.measured({BETA: 600 - read})
        pressure.delivered({(BETA, ALPHA): read})
        waited += pressure.room(ALPHA) == 0
    assert waited == 0
    pressure.measured({BETA: 0})
    clock.now += 20 / REGAINED
    pressure.measured({BETA: 0})
    pressure.delivered({(BETA, ALPHA): 600})
    let_pass(clock, pressure, 19, 600)
    assert pressure.room(ALPHA) == 0
    let_pass(clock, pressure, 2, 600)
    assert pressure.room(ALPHA) is None, "what was given back is used up"


def read_well(clock: Clock, pressure: Pressure, seconds: int) -> int:
    """Seconds of these in which alpha has to wait, though beta takes as much as is expected and alpha has more."""
    waited = 0
    for _ in range(seconds):
        clock.now += 1.0
        pressure.measured({BETA: 700 - WELL})
        pressure.delivered({(BETA, ALPHA): WELL})
        waited += pressure.room(ALPHA) == 0
    return waited


def test_one_that_reads_well_has_others_wait_for_long_but_not_for_good() -> None:
    clock = Clock()
    pressure = half_full(clock)
    enough = round(PATIENCE / WORN)
    assert read_well(clock, pressure, enough - 30) == enough - 30
    assert read_well(clock, pressure, 1_000) <= 31
    pressure.measured({BETA: 0})
    clock.now += 10 / REGAINED
    pressure.measured({BETA: 0})
    assert read_well(clock, pressure, 100) > 90, "it has caught up meanwhile"


def test_a_full_mailbox_for_which_nobody_waits_costs_no_patience() -> None:
    clock = Clock()
    pressure = half_full(clock)
    for _ in range(1_000):
        clock.now += 1.0
        pressure.measured({BETA: 700 - WELL})
        pressure.delivered({(BETA, ALPHA): WELL})
    assert pressure.room(ALPHA) == 0


def test_time_in_which_the_server_was_away_is_nobodys() -> None:
    clock = Clock()
    pressure = half_full(clock)
    clock.now += 3600.0
    pressure.measured({BETA: 515})
    assert pressure.room(ALPHA) == 0


def test_what_a_new_router_finds_in_a_mailbox_is_nobodys_fault() -> None:
    pressure = Pressure(Clock(), 1_000)
    pressure.measured({BETA: 800})
    assert pressure.room(ALPHA) is None
    pressure.delivered({(BETA, ALPHA): 120})
    assert pressure.room(ALPHA) is None, "perhaps nobody has read it for days"
    pressure.delivered({(BETA, ALPHA): 140})
    assert pressure.room(ALPHA) == 0
    assert pressure.sources(BETA) == "260 of bot 1"
    pressure.forget([ALPHA])
    assert pressure.room(ALPHA) is None
