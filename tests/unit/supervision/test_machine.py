from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from botctl.supervision import events, machine
from botctl.supervision.actions import AskStop, AskTurn, DumpStacks, Kill, Spawn, Terminate
from botctl.supervision.cells.step import Step
from botctl.supervision.machine import TABLE
from botctl.supervision.model import HAS_PROCESS, Escalation, Exit, Failure, Health, Policy, Record, State
from botctl.supervision.reference import reference

POLICY = Policy(intensity=3, period=60.0, first_delay=0.1, max_delay=5.0, stop_timeout=10.0, ready_timeout=20.0)


def step(record: Record, event: events.Event, now: float) -> Step:
    """A step of the machine; who asks for a turn has it at once."""
    record, actions = machine.step(record, event, now)
    if AskTurn() not in actions:
        return Step(record, actions)
    assert actions == (AskTurn(),)
    return machine.step(record, events.Admitted(), now)


def play(*happenings: tuple[float, events.Event], record: Record | None = None) -> tuple[Record, list[object]]:
    record = record or Record(key=7, policy=POLICY)
    actions: list[object] = []
    for at, event in happenings:
        record, done = step(record, event, at)
        actions += done
    return record, actions


def running(at: float = 1.0) -> Record:
    record, _ = play((0.0, events.Want()), (0.1, events.Spawned(100)), (at, events.BecameReady()))
    assert record.state is State.RUNNING
    return record


def test_every_state_has_an_answer_to_every_event():
    for state, kind in itertools.product(State, events.EVENTS):
        assert kind in TABLE[state], f"{state} × {kind.__name__}"
        assert TABLE[state][kind].__doc__, "the table is the documentation: every cell says what it does"
    assert set(TABLE) == set(State)


def test_the_page_says_what_the_code_does():
    page = Path(__file__).parents[3] / "docs" / "state-machine.md"
    assert page.read_text("utf-8") == reference(), "run: python -m botctl.supervision.reference docs/state-machine.md"


def test_a_wanted_child_is_spawned_and_becomes_running_when_ready():
    record, actions = play((0.0, events.Want()), (0.1, events.Spawned(100)))
    assert (record.state, record.pid, record.deadline) == (State.STARTING, 100, 20.1)
    assert actions == [Spawn(1)]
    record, _ = step(record, events.BecameReady(), 1.0)
    assert (record.state, record.deadline) == (State.RUNNING, 11.0)


def test_a_crash_is_followed_by_a_short_delay_and_a_new_incarnation():
    record, actions = play((5.0, events.Exited(Exit(code=1))), record=running())
    assert (record.state, record.previous_failure, actions) == (State.BACKOFF, Failure.CRASH, [])
    assert record.deadline is not None
    assert 0.05 <= record.deadline - 5.0 < 0.1
    record, actions = play((record.deadline, events.Due()), record=record)
    assert (record.state, record.incarnation, record.restarts, actions) == (State.STARTING, 2, 1, [Spawn(2)])


def test_delays_double_up_to_their_maximum():
    record = Record(key=7, policy=Policy(intensity=None, first_delay=0.1, max_delay=5.0))
    delays = []
    now = 0.0
    record, _ = step(record, events.Want(), now)
    for _ in range(10):
        record, _ = step(record, events.Exited(Exit(code=1)), now)
        assert record.deadline is not None
        delays.append(record.deadline - now)
        now = record.deadline
        record, _ = step(record, events.Due(), now)
    for number, delay in enumerate(delays):
        full = min(5.0, 0.1 * 2**number)
        assert full / 2 <= delay < full


def test_more_failures_than_the_intensity_end_in_quarantine_with_the_reason():
    record = Record(key=7, policy=POLICY)
    now = 0.0
    record, _ = step(record, events.Want(), now)
    for number in range(4):
        assert record.state is State.STARTING, number
        record, _ = step(record, events.Exited(Exit(code=1)), now)
        now = record.deadline or now
        if record.state is State.BACKOFF:
            record, _ = step(record, events.Due(), now)
    assert record.state is State.QUARANTINED
    assert record.reason == "4 failures within 60 s, the last: exit 1"


def test_failures_outside_the_period_are_forgotten():
    record = Record(key=7, policy=POLICY)
    now = 0.0
    record, _ = step(record, events.Want(), now)
    for _ in range(20):
        now += 30.0
        record, _ = step(record, events.Exited(Exit(code=1)), now)
        assert record.state is State.BACKOFF
        record, _ = step(record, events.Due(), now + 5.0)


def test_a_stable_period_resets_the_backoff():
    record, _ = play((0.0, events.Want()), (0.0, events.Exited(Exit(code=1))), (1.0, events.Due()))
    record, _ = play((2.0, events.BecameReady()), (100.0, events.Exited(Exit(code=1))), record=record)
    assert record.consecutive == 1


@pytest.mark.parametrize("failure", [Failure.BAD_TOKEN, Failure.CODE])
def test_what_no_restart_mends_is_quarantined_at_once(failure: Failure):
    record, _ = play(
        (2.0, events.LastWords(failure, "Telegram says 401")), (2.1, events.Exited(Exit(code=1))), record=running()
    )
    assert (record.state, record.reason, record.last_failure) == (State.QUARANTINED, "Telegram says 401", failure)


def test_kills_from_outside_never_quarantine_and_the_delay_keeps_kills_in_a_row_apart():
    record = running()
    now, delays = 1.0, []
    for _ in range(20):
        now += 0.5
        record, _ = step(record, events.Exited(Exit(signal=9)), now)
        assert record.state is State.BACKOFF
        assert record.deadline is not None
        delays.append(record.deadline - now)
        now = record.deadline
        record, _ = play((now, events.Due()), (now, events.Spawned(1)), (now, events.BecameReady()), record=record)
    assert delays[0] < 0.1
    assert delays[-1] > 2.4, "who kills itself over and over is started ever more seldom"
    record, _ = step(record, events.Exited(Exit(signal=9)), now + 1.0)
    assert record.deadline == now + 1.0, "who has been well for a second is started at once"


def test_a_quarantined_child_starts_only_when_released():
    record, _ = play((0.0, events.Want()), (0.0, events.Quarantine("threat")), (0.1, events.Exited(Exit(signal=9))))
    for event in (events.Want(), events.Restart(), events.Due(), events.Beat(), events.Spawned(3)):
        record, actions = step(record, event, 100.0)
        assert (record.state, actions) == (State.QUARANTINED, ())
    record, actions = step(record, events.Release(), 101.0)
    assert (record.state, actions) == (State.STARTING, (Spawn(2),))


def test_silence_of_the_event_loop_means_stacks_then_kill():
    record, actions = play((11.0, events.Due()), record=running(1.0))
    assert (record.state, actions) == (State.FAILED, [DumpStacks()])
    assert record.deadline == pytest.approx(11.2)
    record, actions = play((11.2, events.Due()), (11.3, events.Exited(Exit(signal=9))), record=record)
    assert actions == [Kill()]
    assert (record.state, record.last_failure, record.reason) == (State.BACKOFF, Failure.HANG, "no heartbeat for 10 s")


def judged_silent() -> Record:
    record, _ = play((11.0, events.Due()), record=running(1.0))
    return record


@pytest.mark.parametrize(
    ("health", "state"),
    [(Health.OK, State.RUNNING), (Health.DEGRADED, State.DEGRADED), (Health.PAUSED, State.PAUSED)],
)
def test_who_beats_before_it_is_killed_is_acquitted(health: Health, state: State):
    record, actions = step(judged_silent(), events.Beat(health, "busy"), 11.1)
    assert (record.state, record.reason, record.deadline, actions) == (state, "busy", 21.1, ())
    assert (record.last_words, record.last_detail, record.failures) == (None, "", ())


def test_who_beats_after_the_kill_is_killed():
    record, _ = play((11.2, events.Due()), (11.25, events.Beat()), record=judged_silent())
    assert (record.state, record.escalation) == (State.FAILED, Escalation.KILL)


def test_only_silence_is_disproved_by_a_heartbeat():
    late, _ = play((0.0, events.Want()), (0.1, events.Spawned(1)), (20.1, events.Due()), (20.2, events.Beat()))
    assert (late.state, late.last_words) == (State.FAILED, Failure.NOT_READY)
    said = events.LastWords(Failure.MEMORY, "no more memory")
    record, _ = play((5.0, said), (11.0, events.Due()), (11.1, events.Beat()), record=running(1.0))
    assert (record.state, record.last_words) == (State.FAILED, Failure.MEMORY)


@pytest.mark.parametrize("wish", [events.Unwant(), events.Restart()])
def test_who_is_judged_and_unwanted_ends_at_once_and_for_good(wish: events.Event):
    record, actions = step(judged_silent(), wish, 11.1)
    assert (record.state, record.wanted, actions) == (State.FAILED, isinstance(wish, events.Restart), (Kill(),))
    record, actions = step(record, events.Beat(), 11.15)
    assert (record.state, actions) == (State.FAILED, ())
    assert step(record, wish, 11.16).actions == ()
    record, _ = step(record, events.Exited(Exit(signal=9)), 11.2)
    assert record.state is (State.BACKOFF if isinstance(wish, events.Restart) else State.STOPPED)


def test_a_pardon_leaves_the_delay_as_long_as_it_was():
    record, _ = play((1.0, events.Exited(Exit(code=1))), (2.0, events.Due()), record=running())
    pardoned, actions = step(record, events.Pardoned(), 2.0)
    assert (pardoned.failures, pardoned.consecutive, actions) == ((), record.consecutive, ())


def test_a_heartbeat_moves_the_deadline():
    record, _ = play((8.0, events.Beat()), record=running(1.0))
    assert record.deadline == 18.0


def test_health_decides_between_running_degraded_and_paused():
    record = running()
    for health, state in [
        (Health.DEGRADED, State.DEGRADED),
        (Health.PAUSED, State.PAUSED),
        (Health.OK, State.RUNNING),
        (Health.PAUSED, State.PAUSED),
        (Health.DEGRADED, State.DEGRADED),
    ]:
        record, actions = step(record, events.Beat(health, "why"), 2.0)
        assert (record.state, actions) == (state, ())


def test_a_child_that_waits_for_the_database_is_paused_and_not_judged_late():
    record, _ = play((0.0, events.Want()), (0.1, events.Spawned(1)), (1.0, events.Beat(Health.PAUSED, "database")))
    assert (record.state, record.deadline) == (State.PAUSED, 11.0)
    record, _ = step(record, events.Beat(Health.OK), 50.0)
    assert (record.state, record.deadline) == (State.STARTING, 70.0)


def test_a_starting_child_that_says_what_it_waits_for_is_not_judged_late():
    record, _ = play((0.0, events.Want()), (0.1, events.Spawned(1)), (1.0, events.Beat(Health.OK)))
    assert record.deadline == 20.1
    record, _ = step(record, events.Beat(Health.DEGRADED, "telegram is not reachable"), 15.0)
    assert (record.state, record.deadline, record.reason) == (State.STARTING, 35.0, "telegram is not reachable")


def test_a_stop_asks_then_terms_then_kills():
    record, actions = play((5.0, events.Unwant()), record=running())
    assert (record.state, actions, record.deadline) == (State.STOPPING, [AskStop(10.0)], 15.0)
    record, actions = play((15.0, events.Due()), (17.0, events.Due()), (18.0, events.Due()), record=record)
    assert actions == [Terminate(), Kill(), Kill()]
    record, actions = play((18.1, events.Exited(Exit(signal=9))), record=record)
    assert (record.state, actions, record.failures, record.previous_failure) == (State.STOPPED, [], (), None)


def test_a_restart_stops_gently_and_starts_again():
    record, actions = play((5.0, events.Restart()), (6.0, events.Exited(Exit(code=0))), record=running())
    assert actions == [AskStop(10.0), Spawn(2)]
    assert (record.state, record.restarts, record.failures) == (State.STARTING, 1, ())


def test_the_last_of_conflicting_wishes_counts():
    record, _ = play(
        (5.0, events.Unwant()),
        (5.1, events.Restart()),
        (5.2, events.Unwant()),
        (6.0, events.Exited(Exit(code=0))),
        record=running(),
    )
    assert record.state is State.STOPPED
    record, _ = play(
        (5.0, events.Restart()),
        (5.1, events.Unwant()),
        (5.2, events.Want()),
        (6.0, events.Exited(Exit(code=0))),
        record=running(),
    )
    assert record.state is State.STARTING


def test_a_child_that_comes_up_after_its_stop_is_told_again():
    _, actions = play((0.0, events.Want()), (0.1, events.Unwant()), (0.2, events.Spawned(9)))
    assert actions == [Spawn(1), AskStop(10.0), AskStop(10.0)]
    _, actions = play((0.0, events.Want()), (0.1, events.Quarantine("x")), (0.2, events.Spawned(9)))
    assert actions == [Spawn(1), Kill(), Kill()]


def test_a_child_that_breaks_the_protocol_is_killed_and_judged():
    record, actions = play((2.0, events.Misbehaved("garbage")), (2.1, events.Exited(Exit(signal=9))), record=running())
    assert actions == [Kill()]
    assert (record.state, record.last_failure) == (State.BACKOFF, Failure.PROTOCOL)


_EVENTS = st.one_of(
    st.just(events.Want()),
    st.just(events.Unwant()),
    st.just(events.Restart()),
    st.just(events.Quarantine("q")),
    st.just(events.Release()),
    st.just(events.Spawned(5)),
    st.just(events.SpawnFailed("no")),
    st.just(events.BecameReady()),
    st.builds(events.Beat, st.sampled_from(list(Health))),
    st.builds(events.LastWords, st.sampled_from(list(Failure)), st.just("w")),
    st.just(events.Misbehaved("m")),
    st.sampled_from([events.Exited(Exit(code=0)), events.Exited(Exit(code=1)), events.Exited(Exit(signal=9))]),
    st.just(events.Due()),
    st.just(events.Admitted()),
    st.just(events.Held("storm")),
    st.just(events.Pardoned()),
    st.builds(events.Hearing, st.booleans(), st.just("deaf")),
    st.builds(events.Stalled, st.floats(0, 30)),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 20), _EVENTS), max_size=60))
def test_any_history_keeps_the_invariants(history: list[tuple[float, events.Event]]):
    record = Record(key=1, policy=POLICY)
    now = 0.0
    asked = False
    for pause, event in history:
        now += pause
        before = record
        record, actions = machine.step(record, event, now)
        asked = (asked and record.state in (State.CONFIGURED, State.BACKOFF)) or AskTurn() in actions
        spawns = [action for action in actions if isinstance(action, Spawn)]
        if spawns:
            assert isinstance(event, events.Admitted)
            assert before.state not in HAS_PROCESS
            assert record.state is State.STARTING
            assert spawns == [Spawn(before.incarnation + 1)], "never two incarnations, never one twice"
        if before.state is State.QUARANTINED:
            assert record.state is State.QUARANTINED or isinstance(event, events.Release)
        if record.state in HAS_PROCESS:
            assert record.deadline is not None, "nothing with a process is ever left without a deadline"
        if record.state is State.BACKOFF:
            assert record.wanted
            assert record.deadline is not None or asked or record.reason == "storm"
        assert len(record.failures) <= POLICY.intensity + 1


def test_a_turn_that_comes_too_late_starts_nobody():
    record, actions = machine.step(Record(key=7, policy=POLICY), events.Want(), 0.0)
    assert (record.state, record.reason, actions) == (State.CONFIGURED, "waits for its turn to start", (AskTurn(),))
    record, _ = machine.step(record, events.Unwant(), 1.0)
    record, actions = machine.step(record, events.Admitted(), 2.0)
    assert (record.state, actions) == (State.STOPPED, ())


def test_too_much_memory_means_draining_and_a_new_start_that_counts_as_a_failure():
    record = running().but(policy=Policy(memory_soft=100.0))
    record, actions = step(record, events.Beat(memory=100.0), 2.0)
    assert (record.state, actions) == (State.RUNNING, ())
    record, actions = step(record, events.Beat(memory=100.1), 3.0)
    assert (record.state, actions) == (State.STOPPING, (AskStop(10.0),))
    record, _ = step(record, events.Want(), 3.5)
    record, _ = step(record, events.Exited(Exit(code=0)), 4.0)
    assert (record.state, record.last_failure, record.failures) == (State.BACKOFF, Failure.MEMORY, (4.0,))
    assert record.cause == "100 MB of memory, 100 MB allowed"


def test_an_operators_stop_while_it_drains_for_its_memory_leaves_it_stopped():
    record = running().but(policy=Policy(memory_soft=100.0))
    record, _ = play(
        (2.0, events.Beat(memory=200.0)), (2.1, events.Unwant()), (3.0, events.Exited(Exit(code=0))), record=record
    )
    assert (record.state, record.failures, record.last_words) == (State.STOPPED, (), None)


@pytest.mark.parametrize(
    ("policy", "early", "late"),
    [
        (Policy(max_age=1000.0), (900.0, events.Beat()), (1101.0, events.Beat())),
        (Policy(max_updates=1000), (61.0, events.Beat(updates=899)), (62.0, events.Beat(updates=1100))),
        (Policy(max_updates=1000), (60.9, events.Beat(updates=1e9)), (61.0, events.Beat(updates=1e9))),
    ],
)
def test_age_and_work_recycle_a_bot_without_blame(policy: Policy, early, late):
    record = running().but(policy=policy)
    record, actions = step(record, early[1], early[0])
    assert (record.state, actions) == (State.RUNNING, ())
    record, actions = step(record, late[1], late[0])
    assert (record.state, actions) == (State.STOPPING, (AskStop(10.0),))
    record, actions = step(record, events.Exited(Exit(code=0)), late[0] + 1)
    assert (record.state, record.failures, record.last_failure, actions) == (State.STARTING, (), None, (Spawn(2),))


def test_deaf_once_is_degraded_deaf_twice_is_restarted():
    record, _ = step(running(), events.Hearing(deaf=True, reason="12 updates wait"), 2.0)
    assert (record.state, record.reason) == (State.DEGRADED, "12 updates wait")
    record, _ = step(record, events.Beat(), 3.0)
    assert (record.state, record.reason) == (State.DEGRADED, "12 updates wait"), "it may feel well, it is deaf"
    record, actions = step(record, events.Hearing(deaf=True, reason="20 updates wait"), 60.0)
    assert (record.state, actions) == (State.STOPPING, (AskStop(10.0),))
    record, _ = step(record, events.Exited(Exit(code=0)), 61.0)
    assert (record.state, record.last_failure, record.cause) == (State.BACKOFF, Failure.DEAF, "20 updates wait")


def test_a_bot_that_hears_again_is_well_with_its_next_heartbeat():
    record, _ = play(
        (2.0, events.Hearing(deaf=True, reason="deaf")), (3.0, events.Hearing(deaf=False)), (4.0, events.Beat()),
        record=running(),
    )  # fmt: skip
    assert (record.state, record.deaf) == (State.RUNNING, "")


def test_nobodys_silence_counts_while_the_supervisor_was_away():
    record, _ = step(running(1.0), events.Stalled(30.0), 40.0)
    assert record.deadline == 41.0


def test_what_the_kernel_killed_for_lack_of_memory_is_told_from_other_kills():
    record, _ = step(running(), events.Exited(Exit(signal=9, oom=True)), 2.0)
    assert (record.last_failure, record.failures) == (Failure.OOM, (2.0,))
    record, _ = step(running(), events.Exited(Exit(signal=9)), 2.0)
    assert (record.last_failure, record.failures) == (Failure.SIGNAL, ())


def test_an_old_trouble_is_not_taken_for_the_cause_of_death():
    record, _ = play(
        (2.0, events.Beat(Health.DEGRADED, "redis: not reachable")), (3.0, events.Exited(Exit(code=1))),
        record=running(),
    )  # fmt: skip
    assert (record.last_failure, record.cause) == (Failure.CRASH, "exit 1")


def test_what_was_heard_after_the_supervisor_was_away_gains_no_time_by_it():
    record, _ = step(running(1.0), events.Beat(), 7200.0)
    assert record.deadline == 7210.0
    record, _ = step(record, events.Stalled(7190.0), 7200.0)
    assert record.deadline == 7210.0, "its silence began after that"
    starting, _ = play((7200.0, events.Want()), (7200.0, events.Stalled(7190.0)))
    assert starting.deadline == 7220.0
    stopping, _ = play((5.0, events.Unwant()), (7.0, events.Stalled(1.0)), (7.5, events.Stalled(9.0)), record=running())
    assert stopping.deadline == 17.5


def test_a_shorter_policy_takes_no_time_away_when_the_supervisor_was_away():
    record = running(1.0).but(policy=Policy(heartbeat_timeout=2.0))
    record, _ = step(record, events.Stalled(3.0), 5.0)
    assert record.deadline == 11.0


def test_failures_that_do_not_count_never_quarantine_whatever_the_policy_has_become():
    record = running().but(failures=(0.5, 0.6, 0.7), policy=Policy(intensity=1))
    record, _ = step(record, events.Exited(Exit(signal=9)), 2.0)
    assert (record.state, record.last_failure) == (State.BACKOFF, Failure.SIGNAL)


def test_a_release_while_the_quarantine_is_under_way_is_not_lost():
    record, _ = play((2.0, events.Quarantine("threat")), (2.1, events.Release()), record=running())
    assert (record.state, record.shut_away) == (State.STOPPING, False)
    record, actions = step(record, events.Exited(Exit(signal=9)), 2.2)
    assert (record.state, actions) == (State.STARTING, (Spawn(2),))
    record, _ = play(
        (2.0, events.Quarantine("threat")), (2.1, events.Unwant()), (2.2, events.Release()),
        (2.3, events.Exited(Exit(signal=9))), record=running(),
    )  # fmt: skip
    assert (record.state, record.reason) == (State.STOPPED, "released")


def test_a_release_while_it_stops_changes_nothing():
    stopping, _ = step(running(), events.Unwant(), 2.0)
    assert step(stopping, events.Release(), 2.1) == Step(stopping)


def test_quarantine_of_a_quarantined_child_is_a_wish_from_then_on():
    record, _ = play(
        (2.0, events.LastWords(Failure.BAD_TOKEN, "401")), (2.1, events.Exited(Exit(code=1))), record=running()
    )
    assert not record.shut_away
    record, _ = step(record, events.Quarantine("threat"), 3.0)
    assert (record.state, record.shut_away, record.reason) == (State.QUARANTINED, True, "401")
    assert step(record, events.Quarantine("threat"), 3.0) == Step(record)


def test_a_paused_bot_is_not_recycled_but_its_memory_counts():
    record = running().but(policy=Policy(max_age=10.0, max_updates=10, memory_soft=100.0))
    record, actions = step(record, events.Beat(Health.PAUSED, "database", updates=50.0), 1000.0)
    assert (record.state, actions) == (State.PAUSED, ())
    record, actions = step(record, events.Beat(Health.PAUSED, "database", memory=200.0), 1001.0)
    assert (record.state, actions) == (State.STOPPING, (AskStop(10.0),))


def test_nobody_fails_without_a_cause_however_little_was_said():
    record, _ = play((2.0, events.LastWords(Failure.CRASH, "")), (2.1, events.Exited(Exit(code=3))), record=running())
    assert (record.state, record.cause, record.reason) == (State.BACKOFF, "exit 3", "exit 3")
    record, _ = play(
        (2.0, events.LastWords(Failure.CRASH, "")), (11.0, events.Due()), (11.5, events.Exited(Exit(signal=9))),
        record=running(1.0),
    )  # fmt: skip
    assert (record.last_failure, record.cause) == (Failure.CRASH, "no heartbeat for 10 s")
    record, _ = play((2.0, events.Hearing(deaf=True)), (2.1, events.Hearing(deaf=True)), record=running())
    record, _ = step(record, events.Exited(Exit(code=0)), 2.2)
    assert (record.last_failure, record.cause) == (Failure.DEAF, "it takes no updates")


def test_a_deaf_bot_that_says_once_more_that_it_is_ready_is_still_deaf():
    record, _ = play(
        (2.0, events.Hearing(deaf=True, reason="12 updates wait")), (3.0, events.Beat(Health.PAUSED, "database")),
        (4.0, events.BecameReady()), record=running(),
    )  # fmt: skip
    assert (record.state, record.reason) == (State.DEGRADED, "12 updates wait")


def test_a_bot_that_is_deaf_and_lacks_something_says_both():
    record, _ = step(running(), events.Hearing(deaf=True, reason="12 updates wait"), 2.0)
    record, _ = step(record, events.Beat(Health.DEGRADED, "completion api: no key"), 3.0)
    assert (record.state, record.reason) == (State.DEGRADED, "12 updates wait; completion api: no key")


def test_a_bot_killed_from_outside_is_started_at_once_unless_kills_come_in_a_row():
    record, _ = step(running(1.0), events.Exited(Exit(signal=9)), 2.0)
    assert (record.state, record.deadline) == (State.BACKOFF, 2.0)
    record, _ = step(running(1.0), events.Exited(Exit(signal=9)), 1.9)
    assert record.deadline is not None
    assert 0.05 <= record.deadline - 1.9 < 0.1


def test_a_bot_that_fails_after_a_stable_period_is_started_at_once_and_then_with_delays():
    record, _ = step(running(1.0), events.Exited(Exit(code=1)), 61.0)
    assert (record.state, record.deadline, record.consecutive) == (State.BACKOFF, 61.0, 1)
    record, _ = play((61.0, events.Due()), (62.0, events.Exited(Exit(code=1))), record=record)
    assert record.deadline is not None
    assert 0.1 <= record.deadline - 62.0 < 0.2


def test_an_answer_of_the_launcher_that_comes_twice_ends_nobody():
    record = running()
    assert step(record, events.SpawnFailed("late"), 2.0) == Step(record)
    assert step(record, events.Spawned(77), 2.0) == Step(record)


def test_what_a_bot_has_said_it_dies_of_is_not_forgotten_when_it_hangs_on_its_way_out():
    record, _ = play(
        (2.0, events.LastWords(Failure.BAD_TOKEN, "Telegram says 401")), (12.0, events.Due()), (12.2, events.Due()),
        (12.3, events.Exited(Exit(signal=9))), record=running(1.0),
    )  # fmt: skip
    assert (record.state, record.last_failure, record.reason) == (
        State.QUARANTINED, Failure.BAD_TOKEN, "Telegram says 401",
    )  # fmt: skip


def test_a_bot_that_has_no_process_yet_is_not_blamed_for_it():
    record, actions = play((0.0, events.Want()), (20.0, events.Due()))
    assert (record.state, record.deadline, actions) == (State.STARTING, 40.0, [Spawn(1)])
