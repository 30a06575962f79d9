"""Reading a fleet file: YAML with places, `${VAR}`, `token_file`, defaults, and errors that name file, line and key.

Reads files and the mapping it is given; never the process's environment by itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from botctl.errors import InvalidFileError, Problem
from botctl.fleet.model import NAME_FORMAT, TOKEN_FORMAT, BotSpec, Fleet, Group, entries_with_sources
from botctl.fleet.subscriptions import FLEET_SOURCE, TAG
from botctl.fleet.units import size_text
from botctl.fleet.yaml_places import KeyPath, Places, dotted, read_yaml, wording

_VARIABLE = re.compile(r"\$\$|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}")
_UNSET = "\0unset"
"""Stands for a variable that has been reported as missing, so that what lacks it isn't reported again."""
_MERGED = ("assistant", "access", "limits", "restart", "recycle", "files")


def load_fleet(path: Path, env: Mapping[str, str]) -> Fleet:
    """Read and check a fleet file. Raises InvalidFileError with every problem found."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidFileError(
            [Problem(str(path), None, "", f"cannot be read: {error.strerror}")],
            hint="Name a fleet file with --fleet, or copy config/fleet.example.yaml and edit it.",
        ) from error
    except UnicodeDecodeError as error:
        raise InvalidFileError([Problem(str(path), None, "", f"is not UTF-8: {error.reason}")]) from error
    fleet = parse_fleet(text, file=str(path), folder=path.resolve().parent, env=env)
    return fleet.model_copy(update={"private": (str(path.resolve()), *fleet.private)})


def parse_fleet(text: str, *, file: str, folder: Path, env: Mapping[str, str]) -> Fleet:
    """Check the text of a fleet file; `folder` resolves `token_file` and handler packages.

    Raises InvalidFileError with every problem found, not only the first.
    """
    places = Places()
    document = read_yaml(text, file, places, hint="See config/fleet.example.yaml.")
    problems: list[Problem] = []

    def problem(path: KeyPath, message: str) -> None:
        problems.append(Problem(file, places.line(path), dotted(path), message))

    if not isinstance(document, dict):
        raise InvalidFileError([Problem(file, 1, "", "must be a mapping with the keys defaults, groups and bots")])
    for key in document:
        if key not in ("defaults", "groups", "bots"):
            problem((key,), "unknown key; a fleet file has defaults, groups and bots")
    document = _substitute(document, (), env, problem)
    defaults = document.get("defaults") or {}
    if not isinstance(defaults, dict):
        problem(("defaults",), "must be a mapping")
        defaults = {}
    for key in defaults:
        if key not in BotSpec.model_fields or key in ("name", "token"):
            problem(("defaults", key), "unknown key" if key not in BotSpec.model_fields else "belongs to a bot")
    entries = document.get("bots")
    if not isinstance(entries, list) or not entries:
        problem(("bots",), "must be a list with at least one bot")
        entries = []

    bots: list[BotSpec] = []
    positions: list[int] = []
    for index, entry in enumerate(entries):
        bot = _bot(entry, index, defaults, folder, places, problem)
        if bot is not None:
            bots.append(bot)
            positions.append(index)
    _refuse_duplicates(entries, bots, positions, problem)
    groups = _groups(document.get("groups"), problem)
    _refuse_strangers(bots, positions, len(entries), groups, document.get("groups"), problem)
    if problems:
        unique = sorted(set(problems), key=lambda item: (item.line or 0, item.key))
        raise InvalidFileError(unique, hint="Nothing was changed. Correct the file and run the command again.")
    return Fleet(bots=tuple(bots), groups=groups, folder=str(folder), private=_token_files(defaults, entries, folder))


def referenced_variables(text: str) -> frozenset[str]:
    """Names of the variables a fleet file asks for."""
    return frozenset(match["name"] for match in _VARIABLE.finditer(text) if match["name"])


def _substitute(value: Any, path: KeyPath, env: Mapping[str, str], problem: Any) -> Any:
    if isinstance(value, dict):
        return {key: _substitute(item, (*path, key), env, problem) for key, item in value.items()}
    if isinstance(value, list):
        return [_substitute(item, (*path, index), env, problem) for index, item in enumerate(value)]
    if not isinstance(value, str):
        return value

    def replace(match: re.Match[str]) -> str:
        name = match["name"]
        if name is None:
            return "$"
        found = env.get(name) or match["default"]
        if found is None:
            state = "is empty" if name in env else "is not set"
            problem(path, f"the environment variable {name} {state}")
            return _UNSET
        return found

    return _VARIABLE.sub(replace, value)


def _bot(
    entry: Any, index: int, defaults: dict[str, Any], folder: Path, places: Places, problem: Any
) -> BotSpec | None:
    here: KeyPath = ("bots", index)
    if not isinstance(entry, dict):
        problem(here, "must be a mapping with at least name and token")
        return None
    merged = dict(defaults)
    for key, value in entry.items():
        base = defaults.get(key)
        merged[key] = (
            {**base, **value} if key in _MERGED and isinstance(base, dict) and isinstance(value, dict) else value
        )
    if "token_file" in merged:
        token_file = merged.pop("token_file")
        if "token" in entry:
            problem((*here, "token_file"), "give token or token_file, not both")
            return None
        token = _read_token(folder, token_file, (*here, "token_file"), problem)
        if token is None:
            return None
        merged["token"] = token
    if merged.get("token") == _UNSET:
        return None
    try:
        return BotSpec.model_validate(merged)
    except ValidationError as error:
        for fault in error.errors():
            inner = _place(fault["loc"])
            path: KeyPath = (*here, *inner)
            message = wording(fault["type"], fault["msg"])
            for bound in fault.get("ctx", {}).values():
                if isinstance(bound, int):
                    message = message.replace(str(bound), size_text(bound))
            if fault["type"] == "missing" and inner == ("token",):
                message = "is missing; give token: ${VARIABLE} or token_file: PATH"
            elif path not in places.lines and ("defaults", *inner) in places.lines:
                path = ("defaults", *inner)
            if _UNSET not in str(fault["input"]):
                problem(path, message)
        return None


def _groups(value: Any, problem: Any) -> dict[str, Group]:
    """What stands under `groups`."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        problem(("groups",), "must be a mapping from names of groups to what they subscribe to")
        return {}
    groups: dict[str, Group] = {}
    for name, group in value.items():
        if not isinstance(name, str) or re.match(NAME_FORMAT, name) is None:
            problem(("groups", name), f"a group's name must be of the form {NAME_FORMAT}")
            continue
        try:
            groups[name] = Group.model_validate(group)
        except ValidationError as error:
            for fault in error.errors():
                problem(("groups", name, *_place(fault["loc"])), wording(fault["type"], fault["msg"]))
    return groups


def _refuse_strangers(
    bots: list[BotSpec], positions: list[int], entries: int, groups: dict[str, Group], written: Any, problem: Any
) -> None:
    """Groups and sources that there are not. As long as a bot can't be read, only groups are looked at."""
    known = set(written) if isinstance(written, dict) else set()
    for bot, index in zip(bots, positions, strict=True):
        for place, name in enumerate(bot.groups):
            if name not in known:
                problem(("bots", index, "groups", place), f"there is no group {name!r}; groups: names what there is")
    if len(bots) < entries:
        return
    members = {name for bot in bots for name in bot.groups}
    for name in groups.keys() - members:
        problem(("groups", name), "no bot belongs to this group, and its events would wait for ever")
    sources: set[object] = {FLEET_SOURCE, *(bot.name for bot in bots), *(bot.bot_id for bot in bots)}
    lists: list[tuple[KeyPath, Any]] = []
    for bot, index in zip(bots, positions, strict=True):
        lists += [(("bots", index, "subscribe"), bot.subscribe), (("bots", index, "answers"), bot.answers)]
    lists += [(("groups", name, "subscribe"), group.subscribe) for name, group in groups.items()]
    for path, listed in lists:
        for place, named in entries_with_sources(listed):
            for one in named:
                if one not in sources:
                    problem((*path, place, "where", "source"), f"there is no bot {one!r} in this file")


def _place(location: tuple[str | int, ...]) -> KeyPath:
    """Where the fault stands in the file: without what pydantic adds."""
    return tuple(part for part in location if not (isinstance(part, str) and (part[:1] == TAG or part == "[key]")))


def _token_files(defaults: dict[str, Any], entries: list[Any], folder: Path) -> tuple[str, ...]:
    named = [entry.get("token_file") for entry in (defaults, *entries) if isinstance(entry, dict)]
    return tuple(str(folder / Path(name).expanduser()) for name in dict.fromkeys(named) if isinstance(name, str))


def _read_token(folder: Path, value: Any, path: KeyPath, problem: Any) -> str | None:
    if not isinstance(value, str) or not value:
        problem(path, "must be the path of a file")
        return None
    if TOKEN_FORMAT.fullmatch(value):
        problem(path, "must be the path of a file, and this is a token; write it into a file, or give it as token")
        return None
    file = folder / Path(value).expanduser()
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        problem(path, f"{file} cannot be read: {reason}")
        return None


def _refuse_duplicates(entries: list[Any], bots: list[BotSpec], positions: list[int], problem: Any) -> None:
    names: set[str] = set()
    for index, entry in enumerate(entries):
        name = entry.get("name") if isinstance(entry, dict) else None
        if isinstance(name, str):
            if name in names:
                problem(("bots", index, "name"), f"{name!r} is the name of another bot already")
            names.add(name)
    owners: dict[int, str] = {}
    for bot, index in zip(bots, positions, strict=True):
        owner = owners.get(bot.bot_id)
        if owner is not None:
            problem(("bots", index, "token"), f"belongs to bot {bot.bot_id}, which is {owner!r} already")
        owners.setdefault(bot.bot_id, bot.name)
