"""The most telling part of stacks, as `runtime.stacks` writes them."""

from __future__ import annotations

from botctl.cli.stack_view import telling


def frames(*names: str, file: str = "/app/handlers.py") -> str:
    return "".join(f'  File "{file}", line {number} in {name}\n' for number, name in enumerate(names, 1))


DEEP = frames("busy", "a", "b", "c", "d", "e", "f", "g")
WORKER = "Thread 0x00007f01 [sdk_worker] (most recent call first):\n" + frames("wait", "run")
MAIN = "Thread 0x00007f02 (most recent call first):\n" + DEEP
IDLE = "Thread 0x00007f02 (most recent call first):\n" + frames("select", file="/p/python3.11/selectors.py")
TASK = (
    "Task {name} (handle) (most recent call first):\n"
    + frames("wait_for", file="/usr/lib/python3.11/asyncio/tasks.py")
    + frames("get", file="/v/lib/python3.11/site-packages/httpx/client.py")
    + frames("ask_the_shop", "reply")
)


def test_the_innermost_frames_of_the_main_thread_come_first() -> None:
    lines = telling(WORKER + "\n" + MAIN)
    assert lines[0] == "Thread 0x00007f02"
    assert lines[1] == '  File "/app/handlers.py", line 1 in busy'
    assert lines[7:] == ["  … and 2 more frames"]
    assert not any("wait" in line for line in lines)


def test_the_thread_that_broke_goes_before_the_main_one() -> None:
    broken = "Fatal Python error: Segmentation fault\n\nCurrent thread 0x01 (most recent call first):\n" + frames(
        "crack"
    )
    lines = telling(broken + "\n" + MAIN)
    assert lines == ["Fatal Python error: Segmentation fault", "Current thread 0x01", *frames("crack").splitlines()]


def test_a_main_thread_that_was_cut_off_is_found_where_it_was_written_again() -> None:
    stacks = WORKER + "\n[too many threads; the main thread again]\n" + frames("busy")
    assert telling(stacks) == ["[too many threads; the main thread again]", *frames("busy").splitlines()]


def test_each_task_tells_where_the_bots_own_code_waits_those_of_libraries_come_last() -> None:
    library = "Task dispatcher (run) (most recent call first):\n" + frames(
        "wait", file="/p/python3.11/asyncio/locks.py"
    )
    ours = library.replace("dispatcher", "relay") + frames("_run", file="/work/src/botctl/bus/relay.py")
    empty = "Task odd (odd), running (most recent call first):\n"
    lines = telling(IDLE + "\nTasks of UnixLoop: 4\n" + empty + library + ours + TASK.format(name="lane"))
    assert lines[-4:] == [
        "Task lane (handle): /app/handlers.py:1 in ask_the_shop",
        "Task relay (run): botctl/bus/relay.py:1 in _run",
        "Task dispatcher (run): asyncio/locks.py:1 in wait",
        "Task odd (odd), running: nobody knows where",
    ]


def test_where_the_bots_own_code_blocks_the_loop_only_its_own_tasks_are_told() -> None:
    library = "Task dispatcher (run) (most recent call first):\n" + frames(
        "wait", file="/p/python3.11/asyncio/locks.py"
    )
    assert telling(MAIN + "\nTasks of UnixLoop: 1\n" + library)[-1] == "… and 1 tasks"
    lines = telling(MAIN + "\nTasks of UnixLoop: 2\n" + library + TASK.format(name="lane"))
    assert lines[-2:] == ["Task lane (handle): /app/handlers.py:1 in ask_the_shop", "… and 1 more tasks"]


def test_more_tasks_than_fit_are_counted() -> None:
    stacks = MAIN + "\nTasks of UnixLoop: 11\n" + "".join(TASK.format(name=f"lane-{number}") for number in range(11))
    lines = telling(stacks)
    assert sum(line.startswith("Task ") for line in lines) == 8
    assert lines[-1] == "… and 3 more tasks"


def test_what_is_not_understood_is_shown_as_it_is() -> None:
    assert telling("no stacks could be had\nat all") == ["no stacks could be had", "at all"]
    assert telling("") == []
