"""From a fresh fork to a child at work: its own session, its output into its log, its limits, then its entry.

Runs in the child. Decides nothing about bots or `control`; the entry is named by dotted path.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable

from botctl.runtime import linux, messages, strangers
from botctl.runtime.channel import Channel, ChannelClosedError
from botctl.runtime.spawn import STACKS_SIGNAL

Entry = Callable[[Channel], int]


def run(
    *, name: str, entry: str, mark: str, commands: int, reports: int, log: int, open_files: int = 0, memory: int = 0
) -> int:
    """Be the child; returns its exit code. Whatever goes wrong stands in its log."""
    os.setsid()
    os.environ[strangers.INCARNATION] = mark
    _redirect(log)
    for sign in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(sign, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    faulthandler.enable(file=2, all_threads=True)
    faulthandler.register(STACKS_SIGNAL, file=2, all_threads=True)
    _limit(open_files, memory)
    linux.no_new_privileges()
    linux.undumpable()
    _title(name)
    code = 1
    channel: Channel | None = None
    try:
        channel = Channel(commands, reports)
        code = _load(entry)(channel)
    except ChannelClosedError:
        code = 0
    except SystemExit as exit_:
        code = exit_.code if isinstance(exit_.code, int) else 1
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
        channel.send(messages.Failing(failure=failure, detail=f"{type(error).__name__}: {error}"[:2000]))


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


def _limit(open_files: int, memory: int) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if open_files:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        ceiling = open_files if hard == resource.RLIM_INFINITY else min(open_files, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (ceiling, ceiling))
    if memory:
        # RLIMIT_AS breaks threads; RLIMIT_DATA counts what a leak grows (design §4.11).
        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))


def _title(name: str) -> None:
    import setproctitle

    setproctitle.setproctitle(f"botctl: {name}")
    setproctitle.setthreadtitle(f"botctl-{name}"[:15])
