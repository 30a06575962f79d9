"""The error tree.

Everything botctl raises on purpose derives from `BotctlError`. An operator's error says what happened, where, and what
to do next; the command line prints it without a traceback and exits with the class's `exit_code`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of every `botctl` command; scripts rely on them."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NO_DAEMON = 3
    NO_SUCH_BOT = 4
    REFUSED = 5


class BotctlError(Exception):
    """Something went wrong that an operator or a developer can act upon.

    `hint` is the next step, in the imperative, and is printed on a line of its own.
    """

    exit_code: ExitCode = ExitCode.FAILED

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message


class UsageError(BotctlError):
    """The command line, the settings or a file given by the operator is wrong. Nothing was changed."""

    exit_code = ExitCode.USAGE


@dataclass(frozen=True)
class Problem:
    """One fault in a file: where it stands and what it is. `line` counts from 1."""

    file: str
    line: int | None
    key: str
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line is not None else self.file
        return f"{place}: {self.key}: {self.message}" if self.key else f"{place}: {self.message}"


class InvalidFileError(UsageError):
    """A settings or fleet file is invalid; every problem found is listed, each with file, line and key."""

    def __init__(self, problems: list[Problem], *, hint: str | None = None) -> None:
        super().__init__("\n".join(str(problem) for problem in problems), hint=hint)
        self.problems = problems


class NoDaemonError(BotctlError):
    """No daemon runs on this data folder."""

    exit_code = ExitCode.NO_DAEMON


class NoSuchBotError(BotctlError):
    """The fleet has no bot of this name."""

    exit_code = ExitCode.NO_SUCH_BOT


class ConflictError(BotctlError):
    """What is asked for contradicts what was asked for before, under the same id."""


class RefusedError(BotctlError):
    """The caller has not the right to do this, or the environment forbids it."""

    exit_code = ExitCode.REFUSED


class ServerUnsupportedError(BotctlError):
    """PostgreSQL or Redis is too old, or lacks what botctl needs."""


class DataFolderError(BotctlError):
    """The data folder is unusable: in use by a live daemon, of another PostgreSQL major, or not writable."""


class VaultError(BotctlError):
    """A sealed value can't be opened, or a key is missing, wrong or badly kept. Never says anything of a key."""


class ProtocolError(BotctlError):
    """A peer sent a frame that is too long, half or not in the schema."""


class RequestError(BotctlError):
    """A request to another bot has brought no answer."""


class RequestTimeoutError(RequestError):
    """No reply came before the deadline. The other bot may have done what it was asked all the same."""


class RequestRefusedError(RequestError):
    """The request was not delivered, or not answered; `why` is a word of `Refusal` in `bus/routing/requests.py`.

    `failed`: the other bot's handler has raised; `unhandled`: it has none; all others: it never got there.
    """

    def __init__(self, message: str, why: str) -> None:
        super().__init__(message)
        self.why = why
