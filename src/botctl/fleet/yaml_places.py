"""YAML with the line of every key, so that an error in a file an operator wrote can name file, line and key. Pure."""

from __future__ import annotations

from typing import Any

import yaml

from botctl.errors import InvalidFileError, Problem

KeyPath = tuple[str | int, ...]


class Places:
    """Lines (from 1) of every key and item of a YAML document, by their path."""

    def __init__(self) -> None:
        self.lines: dict[KeyPath, int] = {}

    def line(self, path: KeyPath) -> int | None:
        """The line of the path, or of the nearest enclosing one that stands in the file."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path)


def read_yaml(text: str, file: str, places: Places, *, hint: str | None = None) -> Any:
    """The document; `places` learns its lines. Raises InvalidFileError, with `hint` when the file is empty."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark is not None else None
        raise InvalidFileError([Problem(file, line, "", f"is not YAML: {error.problem or error.context}")]) from error
    except (yaml.YAMLError, RecursionError) as error:
        raise InvalidFileError([Problem(file, None, "", f"is not YAML: {error}")]) from error
    if node is None:
        raise InvalidFileError([Problem(file, 1, "", "is empty")], hint=hint)
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
    node: yaml.Node, path: KeyPath, places: Places, loader: yaml.SafeLoader, file: str, duplicates: list[Problem]
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
                duplicates.append(Problem(file, line, dotted((*path, key_node.value)), "stands twice"))
            seen.add(key_node.value)


def wording(kind: str, message: str) -> str:
    """Pydantic's complaint (its `type` and `msg`) in the words of an operator's file."""
    if kind == "extra_forbidden":
        return "unknown key"
    if kind == "missing":
        return "is missing"
    message = message.removeprefix("Value error, ")
    return message[:1].lower() + message[1:]


def dotted(path: KeyPath) -> str:
    """A path as errors show it: `bots[0].limits.memory`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else (f".{part}" if text else str(part))
    return text
