"""What an operator can do about each class of failure and each trouble: a line each. Pure; shared by all that tells."""

from __future__ import annotations

import re

from botctl.supervision.model import Failure

ADVICE: dict[Failure, str] = {
    Failure.CRASH: "Correct the place that is named, or what is missing there; --full shows the whole traceback.",
    Failure.EXIT: (
        "Something in it calls sys.exit() or os._exit(), or stops its event loop; only `botctl stop` should end a bot."
    ),
    Failure.HANG: (
        "The stacks show where it stood. Don't block the event loop: await, or use asyncio.to_thread() for slow calls."
    ),
    Failure.NOT_READY: (
        "The stacks show what its start-up waited for. Give slow imports and connections a time-out of their own, or "
        "raise restart.ready_timeout; if it waited for Telegram, look at proxy and DNS."
    ),
    Failure.MEMORY: (
        "Look for what grows without end (caches, histories, whole files), or raise limits.memory and memory_soft. "
        "What counts is what the bot has made itself, without what all bots share."
    ),
    Failure.OOM: (
        "The machine, or its control group, had no memory left: lower limits.memory of what grows, run fewer bots, "
        "or add memory."
    ),
    Failure.BAD_TOKEN: (
        "Get the bot's token from @BotFather, put it where the fleet file reads it, and run `botctl apply`, which "
        "starts the bot."
    ),
    Failure.CODE: (
        "Correct what is named. Handlers are looked for beside the fleet file; `botctl release` imports them anew."
    ),
    Failure.CONFLICT: (
        "Another program polls with the same token: stop it, or have @BotFather revoke the token and use the new one."
    ),
    Failure.SIGNAL: "Somebody or something outside botctl killed it; nothing is wrong with the bot itself.",
    Failure.SPAWN: (
        "The machine could not make a process: look at its memory, its limits on processes and open files, and at "
        "`botctl doctor`."
    ),
    Failure.PROTOCOL: (
        "It wrote something else into its pipe to the supervisor: its code, or a library's, writes to descriptors that "
        "aren't its own, or somebody has taken it over. Look at what it did before you trust it again."
    ),
    Failure.DEAF: (
        "Telegram held updates that it did not fetch: look whether a webhook is set, whether its proxy holds calls "
        "back, and whether handlers block."
    ),
}


OPEN_FILES = (
    "Look for files and connections that its handlers open and never close (`ls -l /proc/PID/fd` shows them), or raise "
    "limits.open_files; `botctl restart` frees them meanwhile."
)
FATAL_SIGNAL = (
    "A signal of its own making ended it, so that no line of Python is to blame for sure: mostly it is machine code of "
    "a library. Its stacks, if there are any, show what was called; look at what was installed or updated last."
)
NO_PLACE = (
    "No place is named: something in it calls os._exit() or sys.exit(), or a library does; the last lines of its log "
    "show what it was doing."
)
STOPPED = (
    "Somebody or something had stopped its process: look who sent it SIGSTOP (kill -STOP, a debugger, Ctrl-Z in a "
    "terminal). Nothing is wrong with the bot itself."
)

IN_THE_KERNEL = (
    "It waited in the kernel, where no signal reaches it: look at the disks and network file systems that it uses, and "
    "at what `dmesg` says of them."
)

_STOOD = {
    "it had been stopped by a signal": STOPPED,
    "a debugger had stopped it": STOPPED,
    "it was stuck in the kernel": IN_THE_KERNEL,
}
"""By what the supervisor found of a silent process (`runtime.linux.STATE_NOTES`)."""

_ONLY_A_CODE = re.compile(r"(ended with )?exit (code )?\d+")


def advice(failure: str | None, *, exit: str | None = None, cause: str = "") -> str:
    """What to do; empty for a class that this release doesn't know. `exit` and `cause` are those of the death."""
    if failure == Failure.CRASH and exit and exit.startswith("signal "):
        return FATAL_SIGNAL
    if failure == Failure.CRASH and "[Errno 24]" in cause:
        return OPEN_FILES
    if failure == Failure.CRASH and _ONLY_A_CODE.fullmatch(cause):
        return NO_PLACE
    if failure in (Failure.HANG, Failure.NOT_READY):
        for words, todo in _STOOD.items():
            if words in cause:
                return todo
    try:
        return ADVICE[Failure(failure)] if failure else ""
    except ValueError:
        return ""


_NO_ROOM = "Make room on the disk (`df`, and the data folder in `botctl status`); it goes on by itself then."

KEPT_OFF_REDIS = "kept off Redis by botctl"
"""How the status begins that of a bot which took too much of Redis (`bus.caretaking.sentry`)."""

_TROUBLES = {
    KEPT_OFF_REDIS: (
        "It took more of Redis than a bot may, and comes back by itself, each time later: look at what its handlers do "
        "there, and whether somebody has taken it over. Users are answered meanwhile; nothing is lost."
    ),
    "disk is full": _NO_ROOM,
    "redis can't write to its disk": _NO_ROOM,
    "out of open files": OPEN_FILES,
    "another process polls": ADVICE[Failure.CONFLICT],
    "completion api": (
        "Look whether the completion API is up, and at the bot's key, model and base_url; `botctl logs` shows what it "
        "answered. Users are told to try again later."
    ),
    "can't be worked off": (
        "Its log has the traceback of what broke; it tries on by itself, and nothing is lost. `botctl doctor` names a "
        "right that is missing in the database."
    ),
    "redis": "Look at Redis (`botctl status`, `botctl logs valkey`). Users are answered meanwhile; nothing is lost.",
    "database is away": "Look at PostgreSQL (`botctl status`, `botctl logs postgres`). Telegram keeps what comes.",
    "database keeps refusing": "Look for long transactions and locks in PostgreSQL, and at its max_connections.",
    "telegram asks": "It goes on by itself; if it comes again, something calls Telegram too often with this token.",
    "telegram is not": "Look whether this machine reaches Telegram: proxy, DNS, firewall; `botctl doctor` tries.",
    "handlers are stuck": "Its log has the stacks of the handlers that don't end; `botctl restart` frees their chats.",
    "updates wait": ADVICE[Failure.DEAF],
    "update waits": ADVICE[Failure.DEAF],
}
"""By what a bot says is wrong with its surroundings."""


HELD_BACK = (
    "Many bots failed together: look for what they share, such as a library, a disk, a server, the network. Once that "
    "is mended they come back by themselves, one as a probe, then the others."
)


def is_held_back(reason: str) -> bool:
    """Whether a bot waits because the fleet breaker holds it back (`supervision.breaker`)."""
    return reason.endswith("so restarts are held back")


def advice_in_trouble(reason: str) -> list[str]:
    """What to do about each trouble that a bot's reason tells of."""
    return list(dict.fromkeys(todo for words, todo in _TROUBLES.items() if words in reason))
