"""Reading the settings: command line over environment over file, with errors that say which of them is wrong."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsError

from botctl.errors import InvalidFileError, Problem
from botctl.settings.model import Settings
from botctl.settings.places import read_settings_file, settings_file
from botctl.settings.webhook import WebhookSettings

_HINT = "Nothing was changed. config/botctl.example.toml shows every setting."
_ONLY_VARIABLES = ("openai_api_key", "openai_base_url")
_OTHER_VARIABLES = {"BOTCTL_CONFIG", "BOTCTL_MASTER_KEY", "BOTCTL_MASTER_KEY_FILE"}


def load_settings(**flags: Any) -> Settings:
    """The settings in force; `flags` are the command line's and win when not None.

    Raises InvalidFileError naming the file, line and key, the environment variable, or the option.
    """
    given = {key: value for key, value in flags.items() if value is not None}
    _refuse_misspelt(os.environ)
    file = settings_file(os.environ)
    written = read_settings_file(file) if file is not None else {}
    for key in _ONLY_VARIABLES:
        if key in written:
            raise InvalidFileError(
                [_in_file(file, key, f"is read from the environment variable {key.upper()} only")], hint=_HINT
            )

    class _Sources(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return init_settings, env_settings, InitSettingsSource(settings_cls, written)

    try:
        return _Sources(**given)
    except ValidationError as error:
        problems = [_problem(fault, given, os.environ, file) for fault in error.errors(include_input=False)]
        raise InvalidFileError(problems, hint=_HINT) from None
    except SettingsError as error:
        found = re.search(r'field "(\w+)" from source "EnvSettingsSource"', str(error))
        variable = f"BOTCTL_{found[1]}".upper() if found is not None else "BOTCTL_…"
        raise InvalidFileError([Problem("environment", None, variable, "is no JSON document")], hint=_HINT) from None


def _refuse_misspelt(env: Mapping[str, str]) -> None:
    """A variable that is nearly one of ours is a slip that would quietly take no effect; others may be anybody's."""
    known = {f"BOTCTL_{field}".upper() for field in Settings.model_fields} | _OTHER_VARIABLES
    known |= {f"BOTCTL_WEBHOOK_{field}".upper() for field in WebhookSettings.model_fields}
    problems = []
    for variable in sorted(env):
        if variable.startswith("BOTCTL_") and variable not in known:
            near = get_close_matches(variable, known, n=1, cutoff=0.85)
            if near:
                problems.append(Problem("environment", None, variable, f"is no setting; {near[0]} is meant?"))
    if problems:
        raise InvalidFileError(problems, hint="Nothing was changed. Correct the name, or unset the variable.")


def _problem(fault: Any, given: Mapping[str, Any], env: Mapping[str, str], file: Path | None) -> Problem:
    place = [str(part) for part in fault["loc"]]
    key = place[0] if place else ""
    message = _wording(fault["type"], fault["msg"])
    if key == "webhook" and len(place) > 1:
        variable = "_".join(("BOTCTL_WEBHOOK", place[1])).upper()
        if env.get(variable):
            return Problem("environment", None, variable, message)
        return _in_file(file, place[1], message, shown=".".join(place[:2]))
    field = key.lower()
    if field in given:
        return Problem("command line", None, f"--{field.replace('_', '-')}", message)
    for variable in (f"BOTCTL_{key}".upper(), key.upper()):
        if env.get(variable):
            return Problem("environment", None, variable, message)
    return _in_file(file, key, message)


def _in_file(file: Path | None, key: str, message: str, *, shown: str = "") -> Problem:
    return Problem(str(file) if file is not None else "settings", _line_of(file, key), shown or key, message)


def _line_of(file: Path | None, key: str) -> int | None:
    if file is None:
        return None
    wanted = re.compile(rf"""\s*(?:\[+\s*)?["']?{re.escape(key)}["']?\s*(?:[=.\]]|$)""")
    lines = file.read_text(encoding="utf-8").splitlines()
    return next((number for number, line in enumerate(lines, start=1) if wanted.match(line)), None)


def _wording(kind: str, message: str) -> str:
    if kind == "extra_forbidden":
        return "unknown key"
    message = message.removeprefix("Value error, ")
    return message[:1].lower() + message[1:]
