"""Reading a scenario file: YAML, with errors that name file, line and key; and the scenarios that botctl brings."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from botctl.cli.chaos.scenario import SERVICES, Scenario
from botctl.errors import InvalidFileError, Problem, UsageError
from botctl.fleet.yaml_places import KeyPath, Places, dotted, read_yaml, wording

SHIPPED = Path(__file__).parent / "scenarios"
"""Folder of the scenarios that botctl brings, NAME.yaml each."""
FLEET = SHIPPED / "fleet" / "fleet.yaml"
"""The fleet for those who name none."""
_HINT = "docs/sandbox.md#scenarios has every key; `botctl chaos --list` the scenarios that botctl brings."
_UNIONS = ("literal['reply','none','maybe']", "Contains")
"""What pydantic adds to a path for the members of a union."""


def shipped() -> dict[str, Scenario]:
    """All scenarios that botctl brings, by name."""
    return {file.stem: load_scenario(str(file)) for file in sorted(SHIPPED.glob("*.yaml"))}


def find(name: str) -> Path:
    """The file of a name without a path, or the path itself. Raises UsageError."""
    own = SHIPPED / f"{name}.yaml"
    if "/" not in name and own.is_file():
        return own
    path = Path(name)
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in SHIPPED.glob("*.yaml")))
        raise UsageError(f"there is no scenario {name!r}, neither a file nor one of {known}")
    return path


def load_scenario(name: str) -> Scenario:
    """Read and check a scenario. Raises InvalidFileError with every problem, UsageError when there is no such file."""
    path = find(name)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not UTF-8"
        raise InvalidFileError([Problem(str(path), None, "", f"cannot be read: {reason}")]) from error
    return parse_scenario(text, str(path))


def parse_scenario(text: str, file: str) -> Scenario:
    """Check the text of a scenario. Raises InvalidFileError with every problem found."""
    places = Places()
    document = read_yaml(text, file, places, hint=_HINT)
    if not isinstance(document, dict):
        raise InvalidFileError([Problem(file, 1, "", "must be a mapping")], hint=_HINT)
    try:
        return Scenario.model_validate(document)
    except ValidationError as error:
        problems = set()
        for fault in error.errors():
            path: KeyPath = tuple(part for part in fault["loc"] if part not in _UNIONS)
            problems.add(Problem(file, places.line(path), dotted(path), wording(fault["type"], fault["msg"])))
        raise InvalidFileError(sorted(problems, key=lambda one: (one.line or 0, one.key)), hint=_HINT) from None


def check_names(scenario: Scenario, bots: set[str], file: str) -> None:
    """Raise InvalidFileError when it names a bot that the fleet doesn't have, or something that can't be killed."""
    problems = []

    def check(key: str, name: str, others: tuple[str, ...] = ()) -> None:
        if name and name not in bots and name not in others:
            known = ", ".join(sorted(bots))
            problems.append(Problem(file, None, key, f"the fleet has no bot {name!r}; it has {known}"))

    for place, name in enumerate(scenario.users.bots):
        check(f"users.bots[{place}]", name)
    for place, one in enumerate(scenario.users.says):
        for inner, name in enumerate(one.bots):
            check(f"users.says[{place}].bots[{inner}]", name)
    for place, step in enumerate(scenario.timeline):
        check(f"timeline[{place}].bot", step.bot)
        for deed, others in (("kill", SERVICES), ("stop", SERVICES), ("restart", ())):
            check(f"timeline[{place}].{deed}", getattr(step, deed) or "", ("bot", *others))
        if step.flood is not None:
            check(f"timeline[{place}].flood.bot", step.flood.bot)
    if problems:
        raise InvalidFileError(problems, hint=_HINT)
