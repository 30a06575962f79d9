"""One pipeline for every log line of a process: structlog's own and those of libraries that use `logging`.

Every line is one event with a UTC time, level, logger, process and the context bound so far (trace id, bot, chat). The
finished text goes through the redactor last, so that tracebacks and URLs are covered too. Writing a log line never
raises.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from types import TracebackType
from typing import IO, Any, Literal

import structlog
from structlog.types import EventDict, Processor

from botctl.observability.discretion import hush, places
from botctl.observability.redaction import Redactor

Format = Literal["json", "console"]

QUIET = (
    "aiohttp.access", "apscheduler", "asyncpg", "hpack", "httpcore", "httpcore2", "httpx", "httpx2", "openai",
    "sqlalchemy", "telegram", "urllib3", "uvicorn.access",
)  # fmt: skip
"""Loggers held at WARNING whatever the level: they log each request, at DEBUG with users' messages in it."""

# Splitting a log into lines at any of these is common (str.splitlines); JSON allows them raw.
_LINE_BREAKS = {0x85: "\\u0085", 0x2028: "\\u2028", 0x2029: "\\u2029"}
_LEVELS = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40, "CRITICAL": 50}
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class _State:
    """What `configure` has set for this process."""

    process = ""
    level = logging.INFO
    redactor = Redactor()
    discreet = False


class _Output:
    """Writes finished lines. Redaction happens here and nowhere else, so nothing can go round it."""

    def __init__(self, redactor: Redactor, stream: IO[str] | None) -> None:
        self._redactor = redactor
        self._stream = stream
        self._lock = threading.Lock()

    def write(self, line: str) -> None:
        try:
            line = self._redactor.redact(line) + "\n"
            with self._lock:
                if self._stream is not None:
                    self._stream.write(line)
                    self._stream.flush()
                    return
                rest = line.encode("utf-8", "backslashreplace")
                while rest:
                    rest = rest[os.write(1, rest) :]
        except (OSError, ValueError):
            return  # Nobody reads our output any more; there is nowhere to say so.


class _Logger:
    """What structlog wraps: a name and the output. structlog calls the method named like the level."""

    def __init__(self, output: _Output, name: str) -> None:
        self.name = name
        self.write = output.write
        self.debug = self.info = self.warning = self.error = self.critical = output.write


class _StandardHandler(logging.Handler):
    """Brings records of `logging` into the pipeline."""

    def __init__(self, chain: list[Processor], output: _Output) -> None:
        super().__init__()
        self._chain = chain
        self._output = output

    def emit(self, record: logging.LogRecord) -> None:
        try:
            event: EventDict = {"event": _message(record), "_record": record}
            event.update((key, value) for key, value in vars(record).items() if key not in _STANDARD)
            if record.exc_info:
                event["exc_info"] = record.exc_info
            if record.stack_info:
                event["stack"] = record.stack_info
            result: Any = event
            for processor in self._chain:
                result = processor(None, record.levelname.lower(), result)
            self._output.write(result)
        except structlog.DropEvent:
            return
        except Exception:
            self._output.write(_last_resort(f"log record of {record.name} can't be written"))


def redact(text: str) -> str:
    """Text without this process's secrets, for what is stored or published instead of logged."""
    return _State.redactor.redact(text)


def hide(*secrets: str) -> None:
    """From now on these are taken out of all that this process logs."""
    _State.redactor.add(*secrets)


def configure(
    process: str,
    *,
    format: Format = "json",
    level: str = "INFO",
    redactor: Redactor,
    stream: IO[str] | None = None,
    discreet: bool = False,
) -> None:
    """Set up logging of this process; may be called again. Without a `stream` lines go to descriptor 1.

    A `discreet` log tells of errors without their words.
    Also uncaught exceptions, of threads and in `__del__` too, and warnings become log lines. For asyncio's own, call
    `watch_loop` inside the loop.
    """
    _State.process = process
    _State.redactor = redactor
    _State.discreet = discreet
    output = _Output(redactor, stream)
    finish: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_fixed,
        *((hush,) if discreet else ()),
        _render_exception,
        _json if format == "json" else _console(stream),
    ]
    structlog.configure(
        processors=[_threshold, *finish],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        context_class=dict,
        logger_factory=_factory(output),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    for handler in root.handlers[:]:
        root.removeHandler(handler)
    root.addHandler(_StandardHandler(finish, output))
    set_level(level)
    logging.captureWarnings(True)
    sys.excepthook = _uncaught
    threading.excepthook = _uncaught_in_thread
    sys.unraisablehook = _unraisable


def set_level(level: str) -> None:
    """Change the level of the running process: DEBUG, INFO, WARNING, ERROR or CRITICAL."""
    number = _LEVELS.get(level.upper())
    if number is None:
        raise ValueError(f"no log level {level!r}; there are {', '.join(_LEVELS)}")
    _State.level = number
    logging.getLogger().setLevel(number)
    for name in QUIET:
        logging.getLogger(name).setLevel(max(number, logging.WARNING))


def bind_trace(trace_id: str, **context: Any) -> None:
    """From now on every line of this task (and of tasks it starts) carries the trace id and this context."""
    structlog.contextvars.bind_contextvars(trace_id=trace_id, **context)


@contextmanager
def trace(trace_id: str, **context: Any) -> Iterator[None]:
    """The same for a block."""
    with structlog.contextvars.bound_contextvars(trace_id=trace_id, **context):
        yield


def watch_loop(loop: asyncio.AbstractEventLoop | None = None) -> None:
    """Exceptions that nobody awaited in this event loop become log lines."""
    (loop or asyncio.get_running_loop()).set_exception_handler(_loop_exception)


def _factory(output: _Output) -> Callable[..., _Logger]:
    return lambda *names: _Logger(output, str(names[0]) if names else "botctl")


def _threshold(_: Any, method: str, event: EventDict) -> EventDict:
    if _LEVELS.get(_level(method), logging.ERROR) < _State.level:
        raise structlog.DropEvent
    return event


def _level(method: str) -> str:
    name = method.upper()
    return {"EXCEPTION": "ERROR", "WARN": "WARNING", "FATAL": "CRITICAL", "MSG": "INFO"}.get(name, name)


def _add_fixed(logger: Any, method: str, event: EventDict) -> EventDict:
    record = event.pop("_record", None)
    fixed = {
        "timestamp": event.pop("timestamp", ""),
        "level": _level(method).lower(),
        "logger": record.name if record is not None else getattr(logger, "name", "botctl"),
        "process": _State.process,
        "event": event.pop("event", ""),
    }
    return fixed | {(f"{key}_" if key in fixed else key): value for key, value in event.items()}


def _render_exception(logger: Any, method: str, event: MutableMapping[str, Any]) -> EventDict:
    exc_info = event.pop("exc_info", None)
    if not exc_info:
        return dict(event)
    if isinstance(exc_info, BaseException):
        exc_info = (type(exc_info), exc_info, exc_info.__traceback__)
    elif not isinstance(exc_info, tuple):
        exc_info = sys.exc_info()
    if exc_info[0] is None:
        return dict(event)
    try:
        text = places(exc_info[1]) if _State.discreet else "".join(traceback.format_exception(*exc_info))
    except Exception as error:
        text = f"{exc_info[0].__name__} (its traceback can't be shown: {type(error).__name__})"
    return {**event, "exception": text.rstrip("\n")}


def _json(_: Any, __: str, event: EventDict) -> str:
    try:
        line = json.dumps(event, default=_show, ensure_ascii=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError):
        shown = {_show(key): value if isinstance(value, str) else _show(value) for key, value in event.items()}
        line = json.dumps(shown, separators=(",", ":"))
    return line if line.isascii() else line.translate(_LINE_BREAKS)


def _console(stream: IO[str] | None) -> Processor:
    from structlog.dev import ConsoleRenderer, plain_traceback

    colors = (stream or sys.stdout).isatty()
    renderer = ConsoleRenderer(colors=colors, exception_formatter=plain_traceback, pad_event_to=30)

    def render(logger: Any, method: str, event: EventDict) -> str:
        try:
            return str(renderer(logger, method, dict(event)))
        except Exception:
            return _json(logger, method, event)

    return render


def _show(value: Any) -> str:
    try:
        return str(value) if isinstance(value, BaseException | str) else repr(value)
    except Exception:
        return f"<{type(value).__name__}>"


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:
        return f"{record.msg} {_show(record.args)}"


def _last_resort(text: str) -> str:
    return f'{{"event":"{text}","level":"error","logger":"botctl","process":"{_State.process}"}}'


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    _logger().critical("uncaught exception", exc_info=(kind, error, trace))


def _uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is None or issubclass(args.exc_type, SystemExit):
        return
    name = args.thread.name if args.thread is not None else "?"
    _logger().critical("uncaught exception in a thread", thread=name, exc_info=args.exc_value)


def _unraisable(args: sys.UnraisableHookArgs) -> None:
    _logger().error(args.err_msg or "exception ignored", object=_show(args.object), exc_info=args.exc_value)


def _loop_exception(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    task = context.get("task") or context.get("future")
    _logger().error(
        str(context.get("message") or "exception in the event loop"),
        task=task.get_name() if isinstance(task, asyncio.Task) else None,
        exc_info=context.get("exception"),
    )


def _logger() -> Any:
    return structlog.get_logger("botctl")
