"""What an operator can do about each class of failure: one line each. Pure; shared by whatever tells of deaths."""

from __future__ import annotations

from botctl.supervision.model import Failure

ADVICE: dict[Failure, str] = {
    Failure.CRASH: "Read the traceback in the last lines; correct the handlers or their environment.",
    Failure.EXIT: "Something in it calls sys.exit() or stops its event loop; only `botctl stop` should end a bot.",
    Failure.HANG: (
        "The stacks show where it stood. Don't block the event loop: await, or use asyncio.to_thread() for slow calls."
    ),
    Failure.NOT_READY: (
        "Its first getUpdates did not succeed in time: look whether Telegram can be reached (proxy, DNS), what its "
        "start-up waits for, and at restart.ready_timeout."
    ),
    Failure.MEMORY: "Look for what grows without end (caches, histories, whole files), or raise limits.memory.",
    Failure.OOM: (
        "The machine, or its control group, had no memory left: lower limits.memory of what grows, run fewer bots, "
        "or add memory."
    ),
    Failure.BAD_TOKEN: (
        "Get the bot's token from @BotFather, put it where the fleet file reads it, and run `botctl apply`."
    ),
    Failure.CODE: "Correct the line that is named; `botctl release` imports the handlers anew.",
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
        "aren't its own, or somebody has taken it over. Look at what it did before you release it."
    ),
    Failure.DEAF: (
        "Telegram held updates that it did not fetch: look whether a webhook is set, whether its proxy holds calls "
        "back, and whether handlers block."
    ),
}


def advice(failure: str | None) -> str:
    """What to do; empty for a class that this release doesn't know."""
    try:
        return ADVICE[Failure(failure)] if failure else ""
    except ValueError:
        return ""
