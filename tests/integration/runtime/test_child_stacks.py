"""What a hung, stopped or broken child leaves for the operator: where its threads and its tasks were."""

from __future__ import annotations

import fcntl
import os
import signal
import time
from pathlib import Path

import pytest

from botctl.runtime import messages, stacks
from botctl.runtime.spawn import STACKS_SIGNAL

BUSY = ("busy_loop", "stuck_in_c", "stuck_in_a_pattern")


def ask(child) -> None:
    os.kill(child.pid, STACKS_SIGNAL)


def block_of(text: str, task: str) -> list[str]:
    """The lines of one task."""
    lines = text.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"Task {task} "))
    rest = lines[start + 1 :]
    return rest[: next((number for number, line in enumerate(rest) if not line.startswith("  ")), len(rest))]


def hung(fork, habit: str):
    child = fork(habit)
    assert child.hear() == "hangs"
    if habit in BUSY:
        busy_since = used_ticks(child.pid)
        deadline = time.monotonic() + 10
        while used_ticks(child.pid) < busy_since + 5:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    return child


def used_ticks(pid: int) -> int:
    """Processor time it has used, in clock ticks."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11])


@pytest.mark.parametrize(
    ("habit", "function"),
    [
        ("blocked_loop", "a_function_that_sleeps"),
        ("busy_loop", "a_function_that_never_ends"),
        ("stuck_in_a_pattern", "a_function_with_a_bad_pattern"),
        ("idle_loop", "idle_loop"),
    ],
)
def test_a_hung_bots_stacks_name_the_function_it_hangs_in_and_the_waiting_tasks(fork, habit, function):
    child = hung(fork, habit)
    ask(child)
    text = child.wait_for_stacks(f" in {function}", "Task the waiting one (outermost)")
    waiting = block_of(text, "the waiting one")
    assert [line.rpartition(" in ")[2] for line in waiting] == ["sleep", "innermost", "middle", "outermost"]
    assert "hanging_child.py" in waiting[1]


def test_a_bot_that_keeps_the_interpreter_shows_its_threads(fork):
    child = hung(fork, "stuck_in_c")
    ask(child)
    text = child.wait_for_stacks(" in a_function_that_keeps_the_interpreter")
    assert "Task " not in text


def test_a_stopped_bot_shows_where_it_is_when_it_is_continued(fork):
    child = hung(fork, "blocked_loop")
    os.kill(child.pid, signal.SIGSTOP)
    os.waitpid(child.pid, os.WUNTRACED)
    ask(child)
    assert child.stacks() == ""
    os.kill(child.pid, signal.SIGCONT)
    child.wait_for_stacks(" in a_function_that_sleeps", "Task the waiting one")


def test_a_bot_without_a_loop_and_one_with_its_loop_in_a_thread_show_their_stacks(fork):
    child = hung(fork, "stuck_before_the_loop")
    ask(child)
    child.wait_for_stacks(" in a_function_that_sleeps", " in stuck_before_the_loop")
    child = hung(fork, "loop_in_a_thread")
    ask(child)
    child.wait_for_stacks(" in a_function_that_sleeps", "Task the waiting one (outermost)")


def test_tasks_are_followed_through_generators_awaitables_and_other_tasks(fork):
    child = hung(fork, "blocked_loop")
    ask(child)
    text = child.wait_for_stacks("Task the waiting one", "Task the timed one", "Task the iterating one", "running")
    functions = [line.rpartition(" in ")[2] for line in block_of(text, "the iterating one")]
    assert functions == ["sleep", "innermost", "numbers", "over_a_generator"]
    functions = [line.rpartition(" in ")[2] for line in block_of(text, "the awaiting one")]
    assert functions[-1] == "over_an_awaitable"
    assert functions[:2] == ["sleep", "innermost"]


def test_a_bot_of_many_tasks_and_a_deep_one_shows_some_of_each_and_says_how_many_are_left_out(fork):
    child = hung(fork, "many_tasks")
    ask(child)
    text = child.wait_for_stacks(" in a_function_that_sleeps", "more tasks")
    assert "Tasks of _UnixSelectorEventLoop: 201" in text
    assert text.count("\nTask ") == stacks.MOST_TASKS
    assert text.endswith("… and 141 more tasks\n")
    deep = block_of(text, "000")
    assert len(deep) == stacks.MOST_FRAMES + 1
    assert deep[-1] == "  … and 21 more frames"


def test_tasks_that_do_not_fit_are_cut(fork):
    child = hung(fork, "too_many_tasks")
    ask(child)
    text = child.wait_for_stacks(" in a_function_that_sleeps", "Tasks of _UnixSelectorEventLoop: 201", "[cut")
    assert text.endswith("[cut: no more room]\n")


def test_threads_of_deep_stacks_leave_room_for_the_main_thread_and_the_tasks(fork):
    child = hung(fork, "many_threads")
    ask(child)
    text = child.wait_for_stacks("the main thread again", " in a_function_that_sleeps", "Task the waiting one")
    assert len(text.encode()) <= stacks.SIZE


def test_a_bot_works_on_when_its_file_is_full(fork):
    child = hung(fork, "works_on")
    for _ in range(60):
        ask(child)
        child.say(messages.Adjust(settings={}))
        assert child.hear() == "works"
    text = child.wait_for_stacks("the main thread again")
    assert os.lseek(child.stacks_file, 0, os.SEEK_CUR) == stacks.SIZE
    assert text.count("the main thread again") == 1
    stacks.clear(child.stacks_file)
    assert child.stacks() == ""
    ask(child)
    text = child.wait_for_stacks("Current thread", "Task the waiting one")
    assert "again" not in text
    child.say(messages.Stop(timeout=1))
    assert child.wait() == 0


def test_a_fatal_signal_leaves_its_stack_for_after_the_death(fork):
    child = hung(fork, "breaks")
    assert os.WTERMSIG(child.wait()) == signal.SIGSEGV
    text = child.stacks()
    assert "Segmentation fault" in text
    assert " in a_function_that_breaks" in text
    assert "Segmentation" not in child.log()


def test_a_child_that_is_asked_before_it_can_answer_does_not_die_of_it(launcher):
    """A child has the forkserver's dispositions until it has its own."""
    (pid,) = launcher[0].forkserver_pids
    status = Path(f"/proc/{pid}/status").read_text()
    assert int(status.partition("SigIgn:")[2].split()[0], 16) >> (STACKS_SIGNAL - 1) & 1


def test_a_bot_that_is_asked_without_end_works_on(fork):
    child = hung(fork, "works_on")
    for _ in range(20):
        for _ in range(100):
            ask(child)
        child.say(messages.Adjust(settings={}))
        assert child.hear() == "works"
    child.say(messages.Stop(timeout=1))
    assert child.wait() == 0


def test_without_a_file_stacks_go_into_the_log(fork):
    child = fork("blocked_loop", with_stacks=False)
    assert child.hear() == "hangs"
    ask(child)
    deadline = time.monotonic() + 10
    while "Task the waiting one" not in child.log():
        assert time.monotonic() < deadline, child.log()
        time.sleep(0.01)
    assert " in a_function_that_sleeps" in child.log()


def test_the_file_can_not_grow_shrink_or_lose_its_seals():
    file = stacks.new_file()
    try:
        os.pwrite(file, b"x" * stacks.SIZE, 0)
        with pytest.raises(PermissionError):
            os.pwrite(file, b"x", stacks.SIZE)
        for size in (0, stacks.SIZE * 2):
            with pytest.raises(PermissionError):
                os.ftruncate(file, size)
        with pytest.raises(PermissionError):
            fcntl.fcntl(file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
        assert not os.get_inheritable(file)
    finally:
        os.close(file)


@pytest.mark.parametrize(
    "garbage", [bytes(range(256)) * 256, b"\x1b]0;owned\x07" * 6000, b"\0" * 70 + b"\xff" * 60_000]
)
def test_garbage_in_the_file_is_read_as_printable_text(garbage):
    file = stacks.new_file()
    try:
        os.pwrite(file, garbage[: stacks.SIZE], 0)
        text = stacks.read(file)
        assert 0 < len(text) <= stacks.SIZE
        assert all(character in "\n\t" or character.isprintable() for character in text.replace("\xa0", " "))
    finally:
        os.close(file)
    assert stacks.read(file) == ""
