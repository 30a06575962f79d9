"""From a fresh fork to a child at work: its own session, its output into its log, its limits, then its entry.

Runs in the child. Decides nothing about bots or `control`; the entry is named by dotted path.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from botctl.runtime import cgroup_files, lineage, linux, messages, stacks, strangers
from botctl.runtime.channel import Channel, ChannelClosedError
from botctl.runtime.confinement.confine import confine, report
from botctl.runtime.spawn import NICENESS, SpawnRequest

Entry = Callable[[Channel], int]

OOM_SCORE = 500
"""Added to those of an expendable child: the kernel ends it before the supervisor, `control` or a database."""


def run(request: SpawnRequest, descriptors: Sequence[int]) -> int:
    """Be the child; returns its exit code. Whatever goes wrong stands in its log."""
    commands, reports, log, *rest = descriptors
    # First of all, so that whatever the child uses is counted there.
    refusal = cgroup_files.put(Path(request.cgroup, "cgroup.procs"), "0") if request.cgroup else ""
    unspared = _spare_inherited(Path(request.cgroup, "memory.max")) if request.cgroup and not refusal else ""
    os.setsid()
    os.environ[strangers.INCARNATION] = request.mark
    _redirect(log)
    if refusal:
        print(f"control group not entered: {refusal}", file=sys.stderr)  # noqa: T201
    if unspared:
        print(f"memory limit is lower than meant: {unspared}", file=sys.stderr)  # noqa: T201
    for sign in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(sign, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    stacks.install(rest[0] if rest else 2)
    _limit(request)
    lineage.write(os.environ.get(strangers.RUN, ""), request.id)
    if request.expendable:
        linux.be_expendable(NICENESS, OOM_SCORE)
    linux.no_new_privileges()
    linux.undumpable()
    _title(request.name, request.mark)
    code = 1
    channel: Channel | None = None
    try:
        channel = Channel(commands, reports)
        if (wish := channel.configure.isolation) is not None:
            outcome = confine(wish, channel.configure.code, request.cgroup)
            report(outcome)
            channel.send(outcome)
        code = _load(request.entry)(channel)
    except ChannelClosedError:
        code = 0
    except SystemExit as exit_:
        traceback.print_exc()  # it was asked to end by nobody but its own code, which shall be found
        code = 0 if exit_.code is None else exit_.code if isinstance(exit_.code, int) else 1
    except BaseException as error:
        traceback.print_exc()
        if channel is not None:
            _say(channel, error)
    finally:
        if channel is not None:
            channel.flush()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
    return code


def _load(entry: str) -> Entry:
    module, _, function = entry.partition(":")
    loaded: Entry = getattr(importlib.import_module(module), function)
    return loaded


def _say(channel: Channel, error: BaseException) -> None:
    failure = messages.Failure.MEMORY if isinstance(error, MemoryError) else messages.Failure.CRASH
    with contextlib.suppress(ChannelClosedError):
        channel.send(messages.Failing(failure=failure, detail=f"{type(error).__name__}: {error}"[:6000]))


def _redirect(log: int) -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(null)
    # The forkserver's own text layers may be block-buffered; a log is read line by line.
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(line_buffering=True, errors="backslashreplace")


def _spare_inherited(limit: Path) -> str:
    """Let the group hold what was there at the fork as well: whoever writes to such a page pays for its copy there.

    Empty, or what went wrong; the limit is lower then.
    """
    allowed = cgroup_files.text(limit).strip()
    return cgroup_files.put(limit, str(int(allowed) + linux.data_bytes())) if allowed.isdigit() else ""


def _limit(request: SpawnRequest) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # RLIMIT_AS breaks threads; RLIMIT_DATA counts what a leak grows (design §4.11), but also what was there at the
    # fork, which the child shares with all others.
    _lower(resource.RLIMIT_DATA, request.memory + linux.data_bytes() if request.memory else 0)
    _lower(resource.RLIMIT_NOFILE, request.open_files)
    # Python ignores SIGXFSZ, so that a write beyond is an OSError.
    _lower(resource.RLIMIT_FSIZE, request.file_size)


def _lower(which: int, value: int) -> None:
    """Soft and hard, lest the child raise it again; the hard limit can't be raised."""
    if value:
        _, hard = resource.getrlimit(which)
        ceiling = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(which, (ceiling, ceiling))


def _title(name: str, mark: str) -> None:
    """What it forks without exec has our title too, and nothing else in it that tells whose it is (`strangers`)."""
    import setproctitle

    setproctitle.setproctitle(strangers.title(name, mark, os.environ.get(strangers.RUN, "")))
    setproctitle.setthreadtitle(f"botctl-{name}"[:15])
