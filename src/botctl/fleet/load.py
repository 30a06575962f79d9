"""Reading a fleet file: YAML with places, `${VAR}`, `token_file`, defaults, and errors that name file, line and key.

Reads files and the mapping it is given; never the process's environment by itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from botctl.errors import InvalidFileError, Problem
from botctl.fleet.model import NAME_FORMAT, TOKEN_FORMAT, BotSpec, Fleet, Group, entries_with_sources
from botctl.fleet.subscriptions import FLEET_SOURCE, TAG
from botctl.fleet.units import size_text

_VARIABLE = re.compile(r"\$\$|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}")
_UNSET = "\0unset"
"""Stands for a variable that has been reported as missing, so that what lacks it isn't reported again."""
_MERGED = ("assistant", "access", "limits", "restart", "recycle", "files")

KeyPath = tuple[str | int, ...]


class _Places:
    """Lines (from 1) of every key and item of a YAML document, by their path."""

    def __init__(self) -> None:
        self.lines: dict[KeyPath, int] = {}

    def line(self, path: KeyPath) -> int | None:
        """The line of the path, or of the nearest enclosing one that stands in the file."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path)


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
    places = _Places()
    document = _compose(text, file, places)
    problems: list[Problem] = []

    def problem(path: KeyPath, message: str) -> None:
        problems.append(Problem(file, places.line(path), _dotted(path), message))

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


def _compose(text: str, file: str, places: _Places) -> Any:
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark is not None else None
        raise InvalidFileError([Problem(file, line, "", f"is not YAML: {error.problem or error.context}")]) from error
    except (yaml.YAMLError, RecursionError) as error:
        raise InvalidFileError([Problem(file, None, "", f"is not YAML: {error}")]) from error
    if node is None:
        raise InvalidFileError([Problem(file, 1, "", "is empty")], hint="See config/fleet.example.yaml.")
    loader = yaml.SafeLoader("")
    duplicates: list[Problem] = []
    try:
        value = _construct(node, (), places, loader, file, duplicates)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        raise InvalidFileError([Problem(file, mark.line + 1 if mark else None, "", str(error.problem))]) from error
    except RecursionError as error:
        raise InvalidFileError(
            [Problem(file, None, "", "an alias contains itself, or the nesting is too deep")]
        ) from error
    finally:
        loader.dispose()
    if duplicates:
        raise InvalidFileError(duplicates)
    return value


def _construct(
    node: yaml.Node, path: KeyPath, places: _Places, loader: yaml.SafeLoader, file: str, duplicates: list[Problem]
) -> Any:
    places.lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        _refuse_keys_twice(node, path, file, duplicates)
        loader.flatten_mapping(node)
        mapping: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key must be a plain word", key_node.start_mark)
            key = loader.construct_object(key_node, deep=True)
            here = (*path, key if isinstance(key, str | int) else str(key))
            places.lines[here] = key_node.start_mark.line + 1
            mapping[key] = _construct(value_node, here, places, loader, file, duplicates)
        return mapping
    if isinstance(node, yaml.SequenceNode):
        return [
            _construct(item, (*path, index), places, loader, file, duplicates) for index, item in enumerate(node.value)
        ]
    return loader.construct_object(node, deep=True)


def _refuse_keys_twice(node: yaml.MappingNode, path: KeyPath, file: str, duplicates: list[Problem]) -> None:
    # Before merge keys are resolved: a key may stand in a merged mapping and, to override it, beside it.
    seen: set[str] = set()
    for key_node, _ in node.value:
        if isinstance(key_node, yaml.ScalarNode):
            if key_node.value in seen:
                line = key_node.start_mark.line + 1
                duplicates.append(Problem(file, line, _dotted((*path, key_node.value)), "stands twice"))
            seen.add(key_node.value)


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
    entry: Any, index: int, defaults: dict[str, Any], folder: Path, places: _Places, problem: Any
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
            message = _wording(fault["type"], fault["msg"])
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
                problem(("groups", name, *_place(fault["loc"])), _wording(fault["type"], fault["msg"]))
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


def _wording(kind: str, message: str) -> str:
    if kind == "extra_forbidden":
        return "unknown key"
    if kind == "missing":
        return "is missing"
    message = message.removeprefix("Value error, ")
    return message[:1].lower() + message[1:]


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


def _dotted(path: KeyPath) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else (f".{part}" if text else str(part))
    return text
