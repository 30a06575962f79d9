"""Part of what `scripts/simulate` does at length: invariants hold, histories repeat, mutants are caught."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from botctl.supervision.machine import TABLE
from simulation import __main__ as command
from simulation import coverage, mutants, mutate, pool
from simulation.equivalent_mutants import EQUIVALENT
from simulation.invariants import INVARIANTS
from simulation.population import Population
from simulation.report import invariants
from simulation.schedule import run


def test_every_invariant_holds_in_two_hundred_schedules():
    total = pool.play(range(1, 201))
    assert total.broken == []
    assert total.least_events >= 200
    cells = coverage.flat(total.cells)
    assert [cell for cell in coverage.UNREACHABLE if cells[cell]] == []
    assert sum(hits > 0 for hits in cells.values()) > 140
    assert len(cells) == sum(len(row) for row in TABLE.values())


def test_the_same_seed_is_the_same_history_and_another_is_another():
    first, again, other = run(42, tell=True), run(42, tell=True), run(43, tell=True)
    assert first.tale
    assert first.digest == again.digest != other.digest


def test_a_breach_prints_its_history_and_how_to_replay_it(monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.setattr("botctl.supervision.cells.ending.FROM_OUTSIDE", frozenset())  # every signal is a crash
    assert command.play(seed=1, schedules=40, jobs=1, file=None) == 1
    said = capsys.readouterr().out
    assert re.search(r"^ +\d+\.\d{4}  \d+ \w+: Exited\(exit=Exit\(code=None, signal=", said, re.MULTILINE)
    assert re.search(r"^ +\d+ #\d+ configured -> starting \(\)  Spawn\(incarnation=\d+\)$", said, re.MULTILINE)
    assert re.search(r"^BROKEN at \d+\.\d+, child \d+: (backoff|record|breaker|state): ", said, re.MULTILINE)
    assert re.search(r"^replay: scripts/simulate --replay \d+$", said, re.MULTILINE)


def test_a_cell_that_is_hit_too_rarely_or_against_all_reason_is_told():
    cells = coverage.empty()
    assert len(coverage.wrong(cells, 1)) == len(coverage.flat(cells)) - len(coverage.UNREACHABLE)
    (state, event), reason = next(iter(coverage.UNREACHABLE.items()))
    kind = next(kind for kind in cells[state] if kind.__name__ == event)
    cells[state][kind] = 1
    assert coverage.wrong(cells, 0) == [f"{state.value} × {event} was hit 1 times, though {reason}"]


def test_delays_that_are_all_alike_are_told():
    population = Population()
    population.take([0.5 + place % 50 / 100 for place in range(2000)], [])
    assert population.wrong() == []
    population.take([0.75] * 2000, [1.0] * 500)
    assert len(population.wrong()) == 2


@pytest.mark.parametrize(
    ("name", "law"),
    [
        ("cells/ending.py escalate: record.escalation is Escalation.ASKED -> record.escalation is not", "actions"),
        ("cells/living.py _condemn: Step(", "actions"),
        ("breaker.py Breaker.failed: len(self._failures) < max(", ""),
        ("pacing.py Turns.next: len(self._taken) >= self._pace.at_once -> len(self._taken) >", "actions"),
        ("machine.py module: Release: resting.release -> ignore", ""),
    ],
)
def test_mutants_are_caught(name: str, law: str):
    found = [mutant for mutant in mutants.everything() if mutant.name.startswith(name)]
    assert found, name
    fate = mutants.judge(found[0], seed=1, schedules=300)
    assert fate.law, fate
    assert not law or fate.law == law, fate


def test_a_mutant_that_changes_nothing_survives():
    """Else every mutant would be caught, by whatever else is wrong."""
    name = next(name for name in EQUIVALENT if name.startswith("backoff.py delay: 32 -> 33"))
    mutant = next(mutant for mutant in mutants.everything() if mutant.name == name)
    assert mutants.judge(mutant, seed=1, schedules=20).law == ""


def test_mutants_are_of_every_file_that_decides_and_have_names_of_their_own():
    found = mutants.everything()
    names = [mutant.name for mutant in found]
    assert len(found) > 600
    assert len(set(names)) == len(names)
    decides = {path.relative_to(mutate.SUPERVISION).as_posix() for path in mutate.files()} - {"actions.py"}
    assert {mutant.file for mutant in found} == decides
    assert set(EQUIVALENT) <= set(names), set(EQUIVALENT) - set(names)


def test_every_breach_has_a_name_that_is_explained():
    used: set[str] = set()
    for path in Path(mutate.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "broken":
                law = node.args[0]
                assert isinstance(law, ast.Constant)
                used.add(str(law.value))
    assert used <= set(INVARIANTS)
    page = Path(__file__).parents[3] / "docs" / "reliability.md"
    assert invariants() in page.read_text("utf-8")
    assert set(INVARIANTS) - used == {"never falls over", "spread"}
