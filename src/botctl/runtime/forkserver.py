"""The forkserver: imports everything once, freezes it, and forks children on request.

When the supervisor ends without a word, it ends what the bots' own subprocesses left, and itself. One that has no
descriptors left ends as well, for the launcher starts another.

It has one thread, no secret and no socket but the one to the supervisor's launcher. A child is forked twice, the
process between ends at once, and the supervisor, as subreaper, becomes the child's parent: it sees every exit itself,
the kernel ends the child with it, and a forkserver that dies takes no bot with it.

Run as `python -m botctl.runtime.forkserver SUPERVISOR_PID MODULE…`; descriptor 3 is the launcher's socket.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import importlib
import os
import signal
import socket
import sys
import time
import traceback

import msgspec

from botctl.runtime import child, linux, strangers
from botctl.runtime.spawn import REQUEST_LIMIT, STACKS_SIGNAL, SpawnReply, SpawnRequest

DESCRIPTORS = 4
"""Commands, reports, log, stacks."""


def main(argv: list[str]) -> int:
    """Preload, report readiness, serve until the launcher closes its end."""
    supervisor = int(argv[0])
    # The end of the supervisor is also the end of its socket; the signal is for a preload that takes long.
    linux.die_with_parent(signal.SIGTERM, supervisor)
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
    # From here on the end of the socket is noticed; one that was stopped must be let run for it.
    linux.die_with_parent(signal.SIGCONT, supervisor)
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.siginterrupt(signal.SIGTERM, False)
    signal.signal(STACKS_SIGNAL, signal.SIG_IGN)  # until a child has its own handler, it must not die of it
    _reply(channel, SpawnReply(id=0, pid=os.getpid()))
    decoder = msgspec.json.Decoder(SpawnRequest)
    while True:
        body, descriptors, flags, _ = socket.recv_fds(channel, REQUEST_LIMIT, DESCRIPTORS)
        if not body:
            strangers.end_marked(os.environ[strangers.RUN])
            return 0
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)  # `recv_fds` leaves its flags aside
        request = decoder.decode(body)
        try:
            if flags & socket.MSG_CTRUNC:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            pid = _fork_twice(request, descriptors, supervisor, channel)
        except OSError as error:
            if error.errno == errno.EMFILE:
                # It will be so for everybody who asks; our end is the answer.
                print(f"ends, for it can fork nobody any more: {error.strerror}", file=sys.stderr)  # noqa: T201
                return 1
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
    ends: list[int] = []
    try:
        pid_out, pid_in = os.pipe()
        ends += pid_out, pid_in
        go_out, go_in = os.pipe()
        ends += go_out, go_in
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
        ends.remove(pid_in)
        os.close(pid_in)
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
        for end in ends:
            os.close(end)


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
    return child.run(request, descriptors)


def _reply(channel: socket.socket, reply: SpawnReply) -> None:
    channel.send(msgspec.json.encode(reply))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
