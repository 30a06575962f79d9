"""Does the oracle notice? Each mutant of `supervision/` plays schedules in a fresh process until it is caught."""

from __future__ import annotations

import ast
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, ModuleType

from simulation import mutate
from simulation.equivalent_mutants import EQUIVALENT
from simulation.mutate import Mutant

PATIENCE = 20
"""Seconds for one schedule; a mutant that keeps it longer is caught as one that hangs."""


@dataclass(frozen=True)
class Fate:
    """What became of a mutant. `law` is empty for one that survived."""

    mutant: Mutant
    law: str
    detail: str
    schedules: int


class _Patch(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Loads one module from a changed tree."""

    def __init__(self, name: str, path: Path, code: CodeType) -> None:
        self._name, self._path, self._code = name, path, code

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """For the one module only."""
        return importlib.util.spec_from_loader(fullname, self) if fullname == self._name else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        """As usual."""

    def exec_module(self, module: ModuleType) -> None:
        """From the changed tree."""
        module.__file__ = str(self._path)
        exec(self._code, module.__dict__)


def play(file: str, number: int, seed: int, schedules: int) -> dict[str, object]:
    """In a fresh process: the first broken invariant with this mutant, if there is one."""
    path = mutate.SUPERVISION / file
    tree: ast.Module = mutate.mutated(path, number)
    sys.meta_path.insert(0, _Patch(mutate.module_name(path), path, compile(tree, str(path), "exec")))
    try:
        from simulation.population import Population
        from simulation.schedule import run
    except Exception as error:
        return {"law": "can be imported", "detail": repr(error), "schedules": 0}
    import signal

    def hangs(*_: object) -> None:
        raise TimeoutError("the schedule does not end")

    signal.signal(signal.SIGALRM, hangs)
    population = Population()
    for place in range(schedules):
        signal.alarm(PATIENCE)
        try:
            outcome = run(seed + place)
        except Exception as error:
            return {"law": "never falls over", "detail": repr(error), "schedules": place + 1}
        signal.alarm(0)
        if outcome.broken is not None:
            broken = outcome.broken
            return {"law": broken.law, "detail": broken.what[:300], "schedules": place + 1}
        population.take(outcome.fractions, outcome.spreads)
    wrong = population.wrong()
    if wrong:
        return {"law": "spread", "detail": wrong[0], "schedules": schedules}
    return {"law": "", "detail": "", "schedules": schedules}


def everything() -> list[Mutant]:
    """All mutants there are."""
    return [mutant for path in mutate.files() for mutant in mutate.mutants(path)]


def judge(mutant: Mutant, seed: int, schedules: int) -> Fate:
    """Have a fresh process play it."""
    command = [sys.executable, "-m", "simulation.mutants", mutant.file, str(mutant.number), str(seed), str(schedules)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
    try:
        said = json.loads(done.stdout)
    except ValueError:
        return Fate(mutant, "never falls over", done.stderr[-300:], 0)
    return Fate(mutant, said["law"], said["detail"], said["schedules"])


def hunt(mutants: Sequence[Mutant], seed: int, schedules: int, jobs: int) -> list[Fate]:
    """All of them; shows how far it is."""
    fates: list[Fate] = []
    began = time.monotonic()
    with ThreadPoolExecutor(jobs) as pool:
        for fate in pool.map(lambda one: judge(one, seed, schedules), mutants):
            fates.append(fate)
            if not fate.law:
                print(f"survived: {fate.mutant.name}", flush=True)
            if len(fates) % 50 == 0:
                seconds = time.monotonic() - began
                caught = sum(bool(one.law) for one in fates)
                print(f"{len(fates)} of {len(mutants)}, {caught} caught, {seconds:.0f} s", file=sys.stderr, flush=True)
    return fates


def verdict(fates: Sequence[Fate]) -> list[str]:
    """What is wrong: survivors that nobody has explained, and explained ones that were caught."""
    found = [f"survived: {fate.mutant.name}" for fate in fates if not fate.law and fate.mutant.name not in EQUIVALENT]
    found += [
        f"said to be equivalent, but caught ({fate.law}: {fate.detail}): {fate.mutant.name}"
        for fate in fates
        if fate.law and fate.mutant.name in EQUIVALENT
    ]
    known = {mutant.name for mutant in everything()}
    found += [f"said to be equivalent, but there is no such mutant: {name}" for name in EQUIVALENT if name not in known]
    return found


if __name__ == "__main__":
    print(json.dumps(play(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))))
