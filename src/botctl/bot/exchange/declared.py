"""Event types that a developer declares: checked when published, checked and brought up to date when they come.

The catalogue (`bus/event_types/catalogue.py`) has botctl's own types; here are a bot's. What isn't declared is
free-form.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import msgspec
from pydantic import BaseModel, ValidationError

from botctl.bus.event_types.catalogue import lookup
from botctl.bus.event_types.subscriptions import is_exact, is_pattern
from botctl.bus.event_types.upcasting import Upcaster, upcast
from botctl.bus.events import MAX_VERSION, Event
from botctl.errors import ProtocolError, UsageError
from botctl.storage.cleaning import clean

Schema = type[Any] | Mapping[str, Any] | None
"""A `msgspec.Struct`, a dataclass or a TypedDict; a pydantic model; a JSON schema; or none: anything goes."""

_Check = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class _Declared:
    version: int
    check: _Check
    upcasters: Mapping[int, Upcaster]


class DeclaredTypes:
    """Those of one bot, by name."""

    def __init__(self) -> None:
        self._types: dict[str, _Declared] = {}

    def declare(
        self,
        name: str,
        version: int = 1,
        schema: Schema = None,
        upcast: Mapping[int, Upcaster] = MappingProxyType({}),
    ) -> None:
        """Raises ValueError for a name that is none, is botctl's own or was declared before, and for gaps in `upcast`;
        UsageError for a JSON schema without the library that checks it."""
        if not is_pattern(name) or not is_exact(name):
            raise ValueError(f"{name!r} is no event type, such as order.placed")
        try:
            known = lookup(name)
        except ProtocolError as error:
            raise ValueError(error.message) from error
        if known is not None:
            raise ValueError(f"{name} is an event of botctl's own")
        if name in self._types:
            raise ValueError(f"{name} is declared already")
        if not 1 <= version <= MAX_VERSION:
            raise ValueError(f"versions are numbers from 1 to {MAX_VERSION}")
        if (upcast and sorted(upcast) != list(range(min(upcast), version))) or any(step < 1 for step in upcast):
            raise ValueError(f"upcast leads from each version to the next, without a gap, up to version {version}")
        self._types[name] = _Declared(version, _checker(name, schema), dict(upcast))

    def outgoing(self, name: str, data: Any, version: int | None) -> tuple[dict[str, Any], int]:
        """Data and version to publish. `data` may be an instance of the schema. Raises ProtocolError.

        What is declared is checked as whoever reads it will see it.
        """
        if version is not None and not 1 <= version <= MAX_VERSION:
            raise ProtocolError(f"{name} can't be published as version {version}: they begin with 1")
        plain = _plain(name, data)
        declared = self._types.get(name)
        if declared is None:
            return plain, version if version is not None else 1
        plain = _as_read(name, plain)
        if version is not None and version != declared.version:
            raise ProtocolError(f"{name} is declared as version {declared.version} and can't be published as {version}")
        declared.check(plain)
        return plain, declared.version

    def incoming(self, event: Event) -> Event:
        """The event in the version that is declared. Raises ProtocolError: too new, too old, or not as declared."""
        declared = self._types.get(event.type)
        if declared is None:
            return event
        data = upcast(event.type, event.data, event.version, declared.version, declared.upcasters)
        declared.check(data)
        return msgspec.structs.replace(event, version=declared.version, data=data)


def _plain(name: str, data: Any) -> dict[str, Any]:
    if isinstance(data, BaseModel):
        return data.model_dump(mode="json")
    if data is None:
        return {}
    plain = data if isinstance(data, dict) else msgspec.to_builtins(data)
    if not isinstance(plain, dict):
        raise ProtocolError(f"data of {name} must be an object, not {type(data).__name__}")
    return plain


def _as_read(name: str, data: dict[str, Any]) -> dict[str, Any]:
    """As JSON has it, where each key is text. Raises ProtocolError."""
    try:
        read: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(clean(data)))
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ProtocolError(f"event {name} can't be encoded: {error}") from error
    return read


def _checker(name: str, schema: Schema) -> _Check:
    if schema is None:
        return lambda data: None
    if isinstance(schema, Mapping):
        return _by_json_schema(name, schema)
    model: type[Any] = schema

    def check(data: dict[str, Any]) -> None:
        try:
            if issubclass(model, BaseModel):
                model.model_validate(data)
            else:
                msgspec.convert(data, model, str_keys=True)
        except ValidationError as error:
            faults = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()[:3]]
            raise ProtocolError(f"data of {name} is not as declared: {'; '.join(faults)}") from error
        except (msgspec.ValidationError, RecursionError) as error:
            raise ProtocolError(f"data of {name} is not as declared: {error}") from error

    return check


def _by_json_schema(name: str, schema: Mapping[str, Any]) -> _Check:
    try:
        jsonschema: Any = importlib.import_module("jsonschema")
    except ImportError as error:
        raise UsageError(
            f"{name} is declared by a JSON schema, and the library that checks it is missing",
            hint="Install jsonschema beside botctl, or declare it by a msgspec.Struct or a pydantic model.",
        ) from error
    kind = jsonschema.validators.validator_for(schema)
    kind.check_schema(schema)
    validator = kind(schema)

    def check(data: dict[str, Any]) -> None:
        fault = next(iter(sorted(validator.iter_errors(data), key=lambda one: list(map(str, one.path)))), None)
        if fault is not None:
            raise ProtocolError(f"data of {name} is not as declared: {fault.json_path}: {fault.message[:200]}")

    return check
