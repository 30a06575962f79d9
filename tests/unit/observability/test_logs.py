"""Every line of a process goes one way: same form, with its context, without secrets."""

from __future__ import annotations

import asyncio
import gc
import io
import json
import logging
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from botctl.observability import logs
from botctl.observability.redaction import Redactor

SECRET = "hunter22-hunter22"


class Written(io.StringIO):
    """What was logged, parsed."""

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.getvalue().splitlines()]

    @property
    def last(self) -> dict[str, Any]:
        return self.lines[-1]


@pytest.fixture
def written() -> Iterator[Written]:
    root = logging.getLogger()
    before = (root.handlers[:], root.level, sys.excepthook, threading.excepthook, sys.unraisablehook)
    stream = Written()
    logs.configure("bot-support", redactor=Redactor([SECRET]), stream=stream)
    yield stream
    structlog.contextvars.clear_contextvars()
    structlog.reset_defaults()
    logging.captureWarnings(False)
    root.handlers[:], root.level, sys.excepthook, threading.excepthook, sys.unraisablehook = before


def test_a_line_tells_when_how_grave_who_and_what(written: Written) -> None:
    structlog.get_logger("botctl.bot.receiving.poller").info("update stored", update_id=7)
    line = written.last
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "level": "info",
        "logger": "botctl.bot.receiving.poller",
        "process": "bot-support",
        "event": "update stored",
        "update_id": 7,
    }


def test_the_lines_of_libraries_have_the_same_form_and_context(written: Written) -> None:
    with logs.trace("t1", chat_id=5):
        structlog.get_logger("ours").info("a")
        logging.getLogger("theirs").warning("b %s", 1, extra={"more": 2})
    logging.getLogger("theirs").warning("c")
    ours, theirs, after = written.lines
    assert set(theirs) - {"more"} == set(ours)
    assert (ours["trace_id"], theirs["trace_id"], theirs["chat_id"]) == ("t1", "t1", 5)
    assert (theirs["event"], theirs["more"], theirs["logger"], theirs["level"]) == ("b 1", 2, "theirs", "warning")
    assert "trace_id" not in after


async def test_a_task_inherits_the_trace_and_does_not_pass_it_back(written: Written) -> None:
    async def lane(trace_id: str) -> None:
        logs.bind_trace(trace_id)
        await asyncio.sleep(0)
        structlog.get_logger().info("in lane")

    await asyncio.gather(lane("a"), lane("b"))
    structlog.get_logger().info("outside")
    assert [line.get("trace_id") for line in written.lines] == ["a", "b", None]


@pytest.mark.parametrize("log_it", [
    lambda: structlog.get_logger().info("x", url=f"http://h/{SECRET}"),
    lambda: structlog.get_logger().info(f"x {SECRET}"),
    lambda: logging.getLogger("lib").error("x %s", {"password": SECRET}),
    lambda: structlog.get_logger().info("x", nested={"a": [SECRET]}),
])  # fmt: skip
def test_a_secret_never_reaches_the_log(written: Written, log_it: Any) -> None:
    log_it()
    assert SECRET not in written.getvalue()
    assert "***" in written.getvalue()
    assert len(written.lines) == 1


def test_a_traceback_is_one_line_of_text_without_secrets(written: Written) -> None:
    try:
        raise ValueError(f"cannot reach redis://:{SECRET}@host\nand more")
    except ValueError:
        structlog.get_logger().exception("failed")
        logging.getLogger("lib").exception("failed too")
    assert written.getvalue().count("\n") == 2
    for line in written.lines:
        assert line["level"] == "error"
        assert "Traceback" in line["exception"]
        assert "redis://:***@host\nand more" in line["exception"]


def test_text_with_any_kind_of_line_break_stays_one_line(written: Written) -> None:
    text = "a\nb\r\nc\u2028d\u2029e\x85f\x0bg"
    structlog.get_logger().info(text)
    assert len(written.getvalue().splitlines()) == 1
    assert written.last["event"] == text


def test_http_clients_that_log_every_url_are_held_at_warning(written: Written) -> None:
    logs.set_level("DEBUG")
    for name in ("httpx", "httpx2", "openai._base_client", "telegram.ext", "sqlalchemy.engine", "uvicorn.access"):
        logging.getLogger(name).info("HTTP Request: POST …")
        logging.getLogger(name).debug("request options: the user's text")
    assert written.getvalue() == ""
    logging.getLogger("httpx").warning("really")
    assert written.last["event"] == "really"


def test_the_level_can_be_changed_while_running(written: Written) -> None:
    log, lib = structlog.get_logger("x"), logging.getLogger("lib")
    log.debug("1")
    lib.debug("1")
    logs.set_level("DEBUG")
    log.debug("2")
    lib.debug("2")
    logs.set_level("error")
    log.warning("3")
    lib.warning("3")
    log.error("4")
    assert [line["event"] for line in written.lines] == ["2", "2", "4"]
    with pytest.raises(ValueError, match="no log level"):
        logs.set_level("loud")


class Hostile:
    """Fails when it is looked at."""

    def __repr__(self) -> str:
        raise RuntimeError("no")

    __str__ = __repr__


def test_a_line_that_cannot_be_rendered_is_written_all_the_same(written: Written) -> None:
    circle: list[Any] = []
    circle.append(circle)
    structlog.get_logger().info("a", value=Hostile(), circle=circle, keys={(1, 2): 3}, bad="\udc80")
    ours = next(one for one in logging.getLogger().handlers if type(one).__module__ == logs.__name__)
    for text, args in (("b %s", (Hostile(),)), ("c %d", ("no number",)), ("d %s %s", ("too few",))):
        ours.emit(logging.LogRecord("lib", logging.WARNING, "file.py", 1, text, args, None))
    assert [line["event"][0] for line in written.lines] == ["a", "b", "c", "d"]


def test_an_error_that_cannot_be_printed_is_named(written: Written) -> None:
    class Unprintable(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no")

    try:
        raise Unprintable
    except Unprintable:
        structlog.get_logger().exception("failed")
    assert "Unprintable" in written.last["exception"]


def test_a_closed_output_is_no_reason_to_fail(written: Written) -> None:
    written.close()
    structlog.get_logger().info("a")
    logging.getLogger("lib").warning("b")


def test_uncaught_exceptions_become_log_lines(written: Written) -> None:
    try:
        raise ValueError(SECRET)
    except ValueError as error:
        sys.excepthook(type(error), error, error.__traceback__)
    assert (written.last["event"], written.last["level"]) == ("uncaught exception", "critical")

    thread = threading.Thread(target=lambda: 1 / 0, name="worker")
    thread.start()
    thread.join()
    assert (written.last["thread"], "ZeroDivisionError" in written.last["exception"]) == ("worker", True)
    assert SECRET not in written.getvalue()


def test_an_exception_in_del_becomes_a_log_line(written: Written) -> None:
    class Leaves:
        def __del__(self) -> None:
            raise ValueError("in del")

    Leaves()
    gc.collect()
    assert "in del" in written.last["exception"]


def test_warnings_become_log_lines(written: Written) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(False)
        logging.captureWarnings(True)
        warnings.warn(f"old {SECRET}", DeprecationWarning, stacklevel=1)
    assert written.last["logger"] == "py.warnings"
    assert "old ***" in written.last["event"]


async def test_an_exception_that_nobody_awaits_becomes_a_log_line(written: Written) -> None:
    logs.watch_loop()

    async def fails() -> None:
        raise ValueError("lost")

    task = asyncio.create_task(fails(), name="lane 5")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    del task
    gc.collect()
    assert "lost" in written.last["exception"]
    assert written.last["task"] == "lane 5"


def test_the_console_form_is_for_people_and_redacted_too(written: Written) -> None:
    logs.configure("demo", format="console", redactor=Redactor([SECRET]), stream=written)
    structlog.get_logger("botctl.x").info("hello", key=SECRET)
    structlog.get_logger("botctl.x").info("strange", value=Hostile())
    first, second = written.getvalue().splitlines()
    assert "hello" in first
    assert "***" in first
    assert SECRET not in first
    assert "strange" in second


def test_what_a_caller_names_like_our_own_keys_does_not_replace_them(written: Written) -> None:
    structlog.get_logger("x").info("a", level="mine", process="mine", logger="mine")
    assert (written.last["level"], written.last["process"], written.last["logger"]) == ("info", "bot-support", "x")
    assert written.last["level_"] == "mine"
