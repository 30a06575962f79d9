"""The forkserver: imports everything once, freezes it, and forks children on request.

It has one thread, no secret and no socket but the one to the supervisor's launcher. A child is forked twice, the
process between ends at once, and the supervisor, as subreaper, becomes the child's parent: it sees every exit itself,
the kernel ends the child with it, and a forkserver that dies takes no bot with it.

Run as `python -m botctl.runtime.forkserver SUPERVISOR_PID MODULE…`; descriptor 3 is the launcher's socket.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import signal
import socket
import sys
import time
import traceback

import msgspec

from botctl.runtime import child, linux

REQUEST_LIMIT = 64 * 1024


class SpawnRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Fork a child for `entry` (`module:function`). Its three descriptors come along: commands, reports, log."""

    id: int
    name: str
    entry: str
    open_files: int = 0
    memory: int = 0


class SpawnReply(msgspec.Struct, frozen=True, kw_only=True):
    """The pid of the child, or why there is none. `id` 0 is the forkserver's own readiness."""

    id: int
    pid: int | None = None
    error: str | None = None


def main(argv: list[str]) -> int:
    """Preload, report readiness, serve until the launcher closes its end."""
    supervisor = int(argv[0])
    linux.die_with_parent(signal.SIGKILL, supervisor)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    channel = socket.socket(fileno=3)
    channel.set_inheritable(False)
    try:
        _preload(argv[1:])
    except BaseException as error:
        traceback.print_exc()
        _reply(channel, SpawnReply(id=0, error=f"preloading failed: {type(error).__name__}: {error}"))
        return 1
    linux.undumpable()
    _reply(channel, SpawnReply(id=0, pid=os.getpid()))
    decoder = msgspec.json.Decoder(SpawnRequest)
    while True:
        body, descriptors, _, _ = socket.recv_fds(channel, REQUEST_LIMIT, 3)
        if not body:
            return 0
        request = decoder.decode(body)
        try:
            pid = _fork_twice(request, descriptors, supervisor, channel)
        except OSError as error:
            _reply(channel, SpawnReply(id=request.id, error=f"fork: {error.strerror}"))
        else:
            _reply(channel, SpawnReply(id=request.id, pid=pid))
        finally:
            for descriptor in descriptors:
                os.close(descriptor)


def _preload(modules: list[str]) -> None:
    import setproctitle

    setproctitle.setproctitle("botctl: forkserver")
    setproctitle.setthreadtitle("botctl-fork")
    for name in modules:
        module = importlib.import_module(name)
        warm = getattr(module, "warm", None)
        if warm is not None:
            warm()
    gc.collect()
    gc.freeze()


def _fork_twice(request: SpawnRequest, descriptors: list[int], supervisor: int, channel: socket.socket) -> int:
    pid_out, pid_in = os.pipe()
    go_out, go_in = os.pipe()
    between = os.fork()
    if between == 0:
        code = 1
        try:
            grandchild = os.fork()
            if grandchild == 0:
                code = _become_child(request, descriptors, supervisor, channel, go_out, (pid_out, pid_in, go_in))
            else:
                os.write(pid_in, grandchild.to_bytes(8, "big"))
                code = 0
        except OSError:
            code = 1
        finally:
            os._exit(code)
    os.close(pid_in)
    os.close(go_out)
    try:
        answer = os.read(pid_out, 8)
        os.waitpid(between, 0)
        if len(answer) != 8:
            raise OSError(11, "Resource temporarily unavailable")
        # Only now has the child been adopted by the supervisor, so that it may bind its life to it. It may also have
        # been killed already; that is for the supervisor to see.
        with contextlib.suppress(BrokenPipeError):
            os.write(go_in, b"!")
        return int.from_bytes(answer, "big")
    finally:
        os.close(pid_out)
        os.close(go_in)


def _become_child(
    request: SpawnRequest,
    descriptors: list[int],
    supervisor: int,
    channel: socket.socket,
    go: int,
    unused: tuple[int, ...],
) -> int:
    channel.close()
    for descriptor in unused:
        os.close(descriptor)
    if os.read(go, 1) != b"!":
        return 0
    os.close(go)
    # The process between has been waited for, so the kernel has given us our new parent.
    deadline = time.monotonic() + 5.0
    while os.getppid() != supervisor:
        if time.monotonic() > deadline:
            return 0
        os.sched_yield()
    linux.die_with_parent(signal.SIGKILL, supervisor)
    return child.run(
        name=request.name,
        entry=request.entry,
        commands=descriptors[0],
        reports=descriptors[1],
        log=descriptors[2],
        open_files=request.open_files,
        memory=request.memory,
    )


def _reply(channel: socket.socket, reply: SpawnReply) -> None:
    channel.send(msgspec.json.encode(reply))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
