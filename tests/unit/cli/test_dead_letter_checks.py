"""How doctor tells of dead letters that wait."""

from __future__ import annotations

from pathlib import Path

from botctl.cli.checks import run_checks
from botctl.cli.dead_letter_checks import told
from botctl.cli.findings import Finding, Verdict


def test_those_that_wait_are_told_by_bot() -> None:
    found = told([{"name": "nora", "dead_letters": 2}, {"name": "gus"}, {"name": "ada", "dead_letters": 1}])
    assert (found.verdict, found.text) == (Verdict.WARN, "given up and waiting: 2 of nora, 1 of ada")
    assert "botctl dead-letters list" in str(found.hint)


def test_none_is_well() -> None:
    assert told([{"name": "nora", "dead_letters": 0}]).verdict is Verdict.OK


def test_doctor_asks_for_them(monkeypatch, tmp_path: Path) -> None:
    asked = Finding(Verdict.WARN, "dead letters", "asked for")
    monkeypatch.setattr("botctl.cli.checks.dead_letter_findings", lambda folder, timeout: [asked])
    monkeypatch.setattr("botctl.cli.checks.isolation", lambda settings, fleet: [])
    monkeypatch.setenv("BOTCTL_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    monkeypatch.setenv("BOTCTL_REDIS_URL", "redis://127.0.0.1:1")
    assert asked in list(run_checks(None, tmp_path, tokens=False))
