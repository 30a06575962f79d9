"""`botctl restart --wave`: options that go together, and how a rollout is told."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from botctl.cli import rolling
from botctl.cli.client import ControlAwayError
from botctl.cli.main import app
from botctl.cli.note import DaemonNote, process_started
from botctl.errors import BotctlError


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["support", "--wave", "5%"], "whole fleet"),
        (["--watch"], "--watch needs --wave"),
        (["--settle", "5"], "--settle needs --wave and --watch"),
        (["--wave", "3", "--settle", "5"], "--settle needs --wave and --watch"),
        (["--abort", "--settle", "5"], "--abort goes alone"),
        (["--wave", "0"], "no size of a wave"),
        (["--wave", "150%"], "no size of a wave"),
        (["--abort", "--wave", "3"], "--abort goes alone"),
        (["support", "--abort"], "--abort goes alone"),
    ],
)
def test_what_does_not_go_together_is_a_wrong_command_line(arguments: list[str], word: str) -> None:
    result = CliRunner().invoke(app, ["restart", *arguments])
    assert result.exit_code == 2
    assert word in result.stderr


def note_of(folder: str, pid: int = 1) -> DaemonNote:
    return DaemonNote(
        pid=pid, started_at=1.0, process_started=1, version="9", state="serving", socket="s", data_dir=folder,
        telegram_base_url="",
    )  # fmt: skip


class Client:
    """Gives prepared lines; `away` after them."""

    def __init__(self, *lines: dict[str, Any], away: bool = False) -> None:
        self.posted: list[tuple[str, Any]] = []
        self._lines = lines
        self._away = away
        self.note = note_of("/nowhere")

    def post(self, path: str, body: Any = None) -> dict[str, Any]:
        self.posted.append((path, body))
        return {"bots": 4, "waves": 2}

    def get(self, path: str, *, timeout: float) -> dict[str, Any]:
        if self._away:
            raise ControlAwayError("the daemon runs, but its control process does not answer")
        return {"bots": [{"name": name} for name in ("a", "shop-2", "shop", "sales", "d")]}

    def lines(self, path: str, query: Mapping[str, Any]) -> Iterator[bytes]:
        for line in self._lines:
            yield json.dumps({"at": 0.0, "warning": False, "outcome": None} | line).encode()
        if self._away:
            raise ControlAwayError("the daemon runs, but its control process does not answer")


def test_a_good_end_is_told_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    client: Any = Client({"text": "wave 1 of 1: a running"}, {"text": "done: 4 bots restarted", "outcome": "done"})
    rolling.restart(client, "50%", watch=True, settle=5.0)
    told = capsys.readouterr()
    assert told.out == "wave 1 of 1: a running\ndone: 4 bots restarted\n"
    assert told.err == "botctl: 4 bots in 2 waves\n"
    assert client.posted == [("/v1/rollout", {"wave": "50%", "watch": True, "settle": 5.0})]


@pytest.mark.parametrize("outcome", ["rolled back", "failed"])
def test_a_bad_end_is_an_error(outcome: str, capsys: pytest.CaptureFixture[str]) -> None:
    lines = ({"text": "rolling back a: oh", "warning": True}, {"text": "rolled back: oh", "outcome": outcome})
    with pytest.raises(BotctlError, match="rolled back: oh") as raised:
        rolling.restart(Client(*lines), "1", watch=False, settle=5.0)  # type: ignore[arg-type]
    assert int(raised.value.exit_code) == 1
    told = capsys.readouterr()
    assert (told.out, "botctl: rolling back a: oh" in told.err) == ("", True)


@pytest.mark.parametrize(
    ("text", "away", "commands"),
    [
        ("rolled back: shop-2 crashes again", False, "`botctl why shop-2` and `botctl logs shop-2` tell"),
        ("rolled back: the code can't be imported", False, "`botctl logs control` and `botctl logs forkserver` tell"),
        ("rolled back: shop-2 crashes", True, "`botctl logs control` and `botctl logs forkserver` tell"),
        ("it failed: a, d", False, "`botctl why a`, `botctl logs a`, `botctl why d` and `botctl logs d` tell"),
    ],
)
def test_the_hint_names_the_bots_that_did_not_come_back(text: str, away: bool, commands: str) -> None:
    client: Any = Client({"text": text, "outcome": "rolled back"}, away=away)
    with pytest.raises(BotctlError) as raised:
        rolling.restart(client, "1", watch=False, settle=5.0)
    assert str(raised.value.hint).startswith(commands)


def test_an_abort_ends_well_when_all_is_taken_back(capsys: pytest.CaptureFixture[str]) -> None:
    client: Any = Client({"text": "rolled back: aborted", "outcome": "rolled back"})
    rolling.abort(client)
    assert client.posted == [("/v1/rollout/abort", None)]
    assert capsys.readouterr().out == "rolled back: aborted\n"
    with pytest.raises(BotctlError, match="do not run"):
        rolling.abort(Client({"text": "these do not run: a", "outcome": "failed"}))  # type: ignore[arg-type]


@pytest.mark.parametrize("away", [True, False])
@pytest.mark.parametrize(
    ("state", "lives", "who", "hint"),
    [
        ("serving", True, "the control process ended in the middle", "takes it back by itself"),
        ("serving", False, "the daemon ended in the middle", "the code that stands on disk"),
        ("stopping", True, "the daemon ended in the middle", "the code that stands on disk"),
    ],
)
def test_it_is_told_who_ended_in_the_middle(
    away: bool, state: str, lives: bool, who: str, hint: str, tmp_path: Path
) -> None:
    client = Client({"text": "wave 1"}, away=away)
    client.note = note_of(str(tmp_path), os.getpid())
    started = process_started(os.getpid()) if lives else 1
    note = msgspec.structs.replace(client.note, state=state, process_started=started)
    (tmp_path / "run").mkdir()
    (tmp_path / "run/daemon.json").write_bytes(msgspec.json.encode(note))
    with pytest.raises(BotctlError, match=who) as raised:
        rolling.restart(client, "1", watch=False, settle=5.0)  # type: ignore[arg-type]
    assert hint in str(raised.value.hint)
