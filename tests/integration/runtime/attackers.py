"""Children that attack the supervisor, one way each; and the metronome that shows whether anybody else notices."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import msgspec

from botctl.runtime import messages, stacks
from botctl.runtime.channel import Channel
from botctl.runtime.frames import HEADER, frame

READY = frame(messages.encode(messages.Ready()))
BEAT = frame(messages.encode(messages.Heartbeat()))
FRAMES = {"heartbeat": BEAT, "failing": frame(messages.encode(messages.Failing(failure="crash", detail="no more")))}
MEGABYTE = 1 << 20


def main(channel: Channel) -> int:
    configure = msgspec.json.decode(bytes(channel.configure.config))
    os.set_blocking(channel._reports, True)
    with suppress(BrokenPipeError):
        globals()[f"do_{configure['habit'].rpartition('.')[2]}"](channel, configure)
    return 0


def write(channel: Channel, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(channel._reports, view) :]


def beat_for_ever(channel: Channel) -> None:
    while True:
        write(channel, BEAT)
        time.sleep(0.1)


def do_metronome(channel: Channel, configure: dict) -> None:
    """Some 18 heartbeats a second, each with the time at which it was sent."""
    write(channel, READY)
    while True:
        write(channel, frame(messages.encode(messages.Heartbeat(gauges={"sent": time.monotonic()}))))
        time.sleep(0.055)


def do_slow_beat(channel: Channel, configure: dict) -> None:
    """A heartbeat a second, and nothing else."""
    write(channel, READY)
    while True:
        write(channel, BEAT)
        time.sleep(1)


# --- frames --------------------------------------------------------------------------------------------------------


def do_half_frame(channel: Channel, configure: dict) -> None:
    write(channel, READY + HEADER.pack(1000) + b"half")
    time.sleep(600)


def do_announce(channel: Channel, configure: dict) -> None:
    write(channel, READY + HEADER.pack(100 * MEGABYTE))
    time.sleep(600)


def do_write_100_mb(channel: Channel, configure: dict) -> None:
    write(channel, READY + HEADER.pack(100 * MEGABYTE))
    for _ in range(100):
        write(channel, bytes(MEGABYTE))


def do_write_100_mb_in_frames(channel: Channel, configure: dict) -> None:
    enlarge(channel)
    body = frame(b'{"type":"Heartbeat","reason":"' + b"x" * (MEGABYTE - 100) + b'"}')
    for _ in range(100):
        write(channel, body)


def enlarge(channel: Channel) -> None:
    """The pipe takes 1 MB, so that the child waits for nobody."""
    with suppress(PermissionError):
        fcntl.fcntl(channel._reports, 1031, MEGABYTE)  # F_SETPIPE_SZ


def do_flood_small(channel: Channel, configure: dict) -> None:
    enlarge(channel)
    while True:
        write(channel, BEAT * 500)


def do_flood_flapping(channel: Channel, configure: dict) -> None:
    """Each frame a change of mood with a reason, as many as there may be at once; then on at the allowed rate."""
    reason = ("://" + "a" * 190 + ":") * 2
    moods = (messages.Heartbeat(health=health, reason=reason) for health in ("degraded", "ok", "paused"))
    data = b"".join(frame(messages.encode(mood)) for mood in moods)
    write(channel, READY)
    while time.monotonic() < configure.get("at", 0.0):  # all in the same moment
        write(channel, BEAT)
        time.sleep(0.1)
    write(channel, data * 70)
    while True:
        write(channel, data)
        time.sleep(0.15)


def do_flood_huge(channel: Channel, configure: dict) -> None:
    """Valid heartbeats, as large as can be, of things that are costly to decode."""
    enlarge(channel)
    largest = int(configure.get("largest", messages.MAX_FRAME))
    gauges = {f"{number:06x}": 1.0 for number in range((largest - 100) // 13)}
    body = messages.encode(messages.Heartbeat(gauges=gauges))
    assert largest - 200 < len(body) <= largest
    while True:
        write(channel, frame(body))


def do_last_words(channel: Channel, configure: dict) -> None:
    """Frame after frame of what has to be redacted."""
    enlarge(channel)
    detail = ("://" + "a" * 190 + ":") * 12
    data = frame(messages.encode(messages.Failing(failure="crash", detail=detail)))
    write(channel, READY + data * 240)
    time.sleep(600)


def do_excuse(channel: Channel, configure: dict) -> None:
    """Dies over and over of what counts for nothing."""
    write(channel, READY + frame(messages.encode(messages.Failing(failure="signal", detail="not my doing"))))


def do_straddle(channel: Channel, configure: dict) -> None:
    """Many small frames that are no heartbeats, in the moment in which its heartbeat is due."""
    rotated = frame(messages.encode(messages.Rotated(generation=1)))
    write(channel, READY)
    time.sleep(configure.get("offset", 0.99))
    write(channel, rotated * 240)
    time.sleep(600)


def do_acquitted(channel: Channel, configure: dict) -> None:
    """Silent for a little too long, then well, then an error elsewhere."""
    write(channel, READY + BEAT)
    a_slow_disk()
    for _ in range(20):
        write(channel, BEAT)
        time.sleep(0.1)
    raise RuntimeError("something else")


def a_slow_disk() -> None:
    time.sleep(1.3)


def do_end_amidst(channel: Channel, configure: dict) -> None:
    """Says what it dies of after much else, all at once."""
    word = messages.Failing(failure="bad_token", detail="at last")
    write(channel, READY + BEAT * 100 + frame(messages.encode(word)))


def do_garbage(channel: Channel, configure: dict) -> None:
    write(channel, READY + os.urandom(60_000))
    time.sleep(600)


def do_wrong_type(channel: Channel, configure: dict) -> None:
    write(channel, READY + frame(b'{"type":"Heartbeat","gauges":[1,2,3]}'))
    time.sleep(600)


def do_unknown_type(channel: Channel, configure: dict) -> None:
    """What it is refused for would stand in the log."""
    write(channel, READY + frame(b'{"type":"123456789:AAEhBOweik6ad9r_QXMENQjcrGbqCr4K-bc"}'))
    time.sleep(600)


def do_long_type(channel: Channel, configure: dict) -> None:
    write(channel, READY + frame(b'{"type":"' + b"x" * 60_000 + b'"}'))
    time.sleep(600)


def do_deep(channel: Channel, configure: dict) -> None:
    """Arrays in arrays, in a field that is no field of the message: still to be parsed."""
    write(channel, READY + frame(b'{"type":"Heartbeat","x":' + b"[" * 32_000 + b"]" * 32_000 + b"}"))
    time.sleep(600)


def do_long_string(channel: Channel, configure: dict) -> None:
    write(channel, READY + frame(b'{"type":"Heartbeat","reason":"' + b"\\u00e9" * 170_000 + b'"}'))
    time.sleep(600)


def do_play_control(channel: Channel, configure: dict) -> None:
    """What only `control` may say."""
    write(channel, READY + frame(messages.encode(messages.Command(id=1, verb="shutdown"))))
    time.sleep(600)


def do_dribble(channel: Channel, configure: dict) -> None:
    """One byte at a time."""
    write(channel, READY)
    while True:
        for byte in BEAT:
            write(channel, bytes([byte]))
            time.sleep(0.002)


def do_cut(channel: Channel, configure: dict) -> None:
    """Write so many bytes of a frame, then be killed in mid-write. Each incarnation gets one byte further."""
    data = FRAMES[configure["frame"]]
    incarnation = channel.configure.incarnation
    if incarnation > len(data):
        write(channel, READY)
        beat_for_ever(channel)
    write(channel, data[:incarnation])
    os.kill(os.getpid(), signal.SIGKILL)


# --- pipes ---------------------------------------------------------------------------------------------------------


def do_deaf(channel: Channel, configure: dict) -> None:
    """Works, and doesn't read its commands."""
    write(channel, READY)
    beat_for_ever(channel)


def do_hang_up(channel: Channel, configure: dict) -> None:
    """Closes its reports and lives on."""
    write(channel, READY)
    os.close(channel._reports)
    time.sleep(600)


def do_heir(channel: Channel, configure: dict) -> None:
    """Dies while a subprocess in a session of its own, that hides whose it is, keeps both pipes and goes on writing."""
    write(channel, READY + BEAT)
    code = (
        "import os, resource, signal, sys, time\n"
        "resource.setrlimit(10, (5, 5))\n"  # half of its lineage: it is looked at for a while then
        "signal.signal(signal.SIGPIPE, signal.SIG_IGN)\n"
        "beat = bytes.fromhex(sys.argv[2])\n"
        "print('heir', os.getpid(), flush=True)\n"
        "while True:\n"
        "    try: os.write(int(sys.argv[1]), beat)\n"
        "    except BrokenPipeError: print('heir: nobody listens', flush=True); time.sleep(600)\n"
        "    time.sleep(0.02)\n"
    )
    descriptors = (channel._reports, channel._commands)
    subprocess.Popen(
        [sys.executable, "-c", code, str(channel._reports), BEAT.hex()],
        pass_fds=descriptors, start_new_session=True, env={},
    )  # fmt: skip
    time.sleep(0.3)
    os.kill(os.getpid(), signal.SIGKILL)


# --- log, stacks, process table ------------------------------------------------------------------------------------


def do_print_long(channel: Channel, configure: dict) -> None:
    write(channel, READY)
    print_for_ever(channel, b"x" * 4095 + b"\n", configure)


def do_print_short(channel: Channel, configure: dict) -> None:
    write(channel, READY)
    print_for_ever(channel, b"\n" * 65536, configure)


def do_print_secrets(channel: Channel, configure: dict) -> None:
    """What looks like the beginning of a secret, again and again, in one line without an end."""
    write(channel, READY)
    print_for_ever(channel, (b"://" + b"a" * 190 + b":") * 330, configure)


def print_for_ever(channel: Channel, data: bytes, configure: dict) -> None:
    until = time.monotonic() + configure.get("die_after", 600)
    next_beat = 0.0
    while time.monotonic() < until:
        os.write(1, data)
        if time.monotonic() > next_beat:
            next_beat = time.monotonic() + 0.1
            write(channel, BEAT)
    os.kill(os.getpid(), signal.SIGKILL)


def own_stacks_file() -> int:
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            if "botctl-stacks" in os.readlink(f"/proc/self/fd/{name}"):
                return int(name)
    raise AssertionError


def do_fill_stacks(channel: Channel, configure: dict) -> None:
    """The worst that can stand where its stacks should, and an end."""
    write(channel, READY)
    os.pwrite(own_stacks_file(), (b"\n\x01" * stacks.SIZE)[: stacks.SIZE], 0)
    time.sleep(0.1)
    os.kill(os.getpid(), signal.SIGKILL)


def do_orphans(channel: Channel, configure: dict) -> None:
    """Many subprocesses, each in a session of its own, that lose their parent at once, while the bot lives on."""
    write(channel, READY)
    between = os.fork()
    if between == 0:
        for _ in range(int(configure.get("number", 200))):
            if os.fork() == 0:
                os.setsid()
                os.close(channel._reports)
                os.close(channel._commands)
                time.sleep(600)
        os._exit(0)
    while os.waitpid(between, os.WNOHANG) == (0, 0):
        write(channel, BEAT)
        time.sleep(0.05)
    beat_for_ever(channel)
