"""Where a mistake in somebody's handlers is, and that leaving is one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from botctl.bot.loading import HandlersError, load_handlers, place_of
from botctl.fleet.model import BotSpec

REGISTER = "def register(app, bot):\n    pass\n"


@pytest.fixture
def error_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Callable[[str], str]:
    """What is said of a module with this text."""

    def load(text: str) -> str:
        name = "handlers_of_a_test"
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.delitem(__import__("sys").modules, name, raising=False)
        spec = BotSpec.model_validate({"name": "b", "token": "1:warm-up", "handlers": f"{name}:register"})
        nobody: Any = None
        with pytest.raises(HandlersError) as caught:
            load_handlers(spec, nobody, nobody)
        return str(caught.value)

    return load


@pytest.mark.parametrize(
    ("text", "said", "line"),
    [
        ("import sys\nsys.exit()\n", "they call sys.exit()", 2),
        ("raise SystemExit(3)\n", "they call sys.exit(3)", 1),
        ("def register(app, bot)\n    pass\n", "SyntaxError: expected ':'", 1),
        ("import json\n\njson.loads('{')\n", "JSONDecodeError: Expecting property name", 3),
        ("def register(app, bot):\n    app.add_handler(None)\n", "AttributeError: 'NoneType'", 2),
    ],
)
def test_a_mistake_is_told_with_its_line_in_the_developers_own_file(
    error_of: Callable[[str], str], text: str, said: str, line: int
) -> None:
    told = error_of(text)
    assert said in told
    assert told.endswith(f"handlers_of_a_test.py:{line})")


def test_what_is_missing_altogether_has_no_line(error_of: Callable[[str], str]) -> None:
    assert error_of("x = 1\n").endswith("has no attribute 'register'")


def test_a_want_of_memory_is_no_mistake_in_the_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hungry_handlers.py").write_text("raise MemoryError\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    spec = BotSpec.model_validate({"name": "b", "token": "1:warm-up", "handlers": "hungry_handlers:register"})
    nobody: Any = None
    with pytest.raises(MemoryError):
        load_handlers(spec, nobody, nobody)


def test_an_error_of_nobody_has_no_place() -> None:
    assert place_of(ValueError("never raised")) == ""
