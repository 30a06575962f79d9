"""What handlers keep, as text and back: JSON, with tags for what Python programs put there besides. Pure.

A tag is an object with one key that begins with `$`. Never pickle: rows are written by the bot itself, also while
somebody else holds it, and reading a pickle runs what its writer likes, in every later process of the bot. So nothing
that is read here runs code that the row names: classes are taken only from modules that the bot's own code has
imported, enums by the name of a member, dataclasses without calling them.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import datetime
import enum
import json
import math
import sys
import uuid
import zoneinfo
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec
import telegram

_DEEPEST = 60
_LARGEST = 2**63
_MOST = 1_000_000
"""Values in one text, or 64 times as many characters: what is shared counts as often as it is met, and lists that hold
one another twice are many very soon."""
_FACTORIES: dict[str, Callable[[], Any]] = {
    one.__name__: one for one in (list, dict, set, int, str, float, bool, tuple, Counter, deque)
}


class UnstorableError(Exception):
    """This value can't be stored. `path` leads to it, such as `['cart']['lock']`; `kind` is the name of its type."""

    def __init__(self, path: str, value: object) -> None:
        self.path = path
        self.kind = f"{type(value).__module__}.{type(value).__qualname__}"
        super().__init__(f"{path or 'it'} is a {self.kind}, which can't be stored")


class UnreadableError(Exception):
    """What is stored names something that isn't there any more, or is no text of ours."""


class _Room:
    """What still fits into one text."""

    def __init__(self) -> None:
        self._left = _MOST

    def take(self, path: str, value: object) -> None:
        self._left -= 1 + (len(value) // 64 if isinstance(value, str | bytes | bytearray) else 0)
        if self._left < 0:
            raise UnstorableError(f"too much: what {path[:100]}… leads to", value)


def encode(value: Any) -> str:
    """The text of a value; of equal values of the same making it is equal. Raises UnstorableError."""
    plain = _plain(value, "", 0, _Room())
    try:
        return msgspec.json.encode(plain).decode()
    except (UnicodeEncodeError, TypeError):  # lone surrogates
        return json.dumps(plain, separators=(",", ":"))


def decode(text: str, bot: telegram.Bot | None = None) -> Any:
    """The value of a text; Telegram's objects are given `bot` for their shortcuts. Raises UnreadableError."""
    try:
        try:
            plain = msgspec.json.decode(text)
        except (msgspec.DecodeError, UnicodeError):
            plain = json.loads(text)
        return _value(plain, bot) if '{"$' in text else plain
    except (ValueError, TypeError, LookupError, InvalidOperation, AttributeError, RecursionError) as error:
        raise UnreadableError(f"{type(error).__name__}: {error}") from error


def _plain(value: Any, path: str, depth: int, room: _Room) -> Any:
    """The value in JSON's own types."""
    if depth > _DEEPEST:
        raise UnstorableError(f"{path[:100]}…", value)
    room.take(path, value)
    made: Any = type(value)
    name: str = made.__name__
    if value is None or made is bool or made is str:
        return value
    if made is int:
        return value if -_LARGEST <= value < _LARGEST else {"$int": str(value)}
    if made is float:
        return value if math.isfinite(value) else {"$float": repr(value)}
    if made is list:
        return _items(value, path, depth, room)
    if made is dict:
        return _mapping(value, path, depth, room)
    if (tag := _TAGS.get(made)) is not None:
        return {tag[0]: tag[1](value)}
    if made is tuple or made is set or made is frozenset:
        items = _items(value, path, depth, room)
        return {f"${name}": items if made is tuple else sorted(items, key=_sorting)}
    if made is deque:
        return {"$deque": [_items(value, path, depth, room), value.maxlen]}
    if made is OrderedDict or made is Counter:
        return {f"${name}": _pairs(value, path, depth, room)}
    if made is defaultdict and (value.default_factory is None or _FACTORIES.get(_name(value)) is value.default_factory):
        return {"$defaultdict": [_name(value) or None, _pairs(value, path, depth, room)]}
    if made is datetime.datetime:
        zone = value.tzinfo.key if isinstance(value.tzinfo, zoneinfo.ZoneInfo) else None
        return {"$datetime": [value.isoformat(), zone]}
    if isinstance(value, enum.Enum) and _class(*_place(made)) is made and value.name in made.__members__:
        return {"$enum": [*_place(made), value.name]}
    if isinstance(value, telegram.TelegramObject) and getattr(telegram, name, None) is made:
        return {"$telegram": [name, _plain(value.to_dict(), path, depth + 1, room)]}
    if dataclasses.is_dataclass(value) and _class(*_place(made)) is made:
        fields = {one.name: getattr(value, one.name) for one in dataclasses.fields(value) if hasattr(value, one.name)}
        return {"$dataclass": [*_place(made), _mapping(fields, path, depth, room)]}
    raise UnstorableError(path, value)


def _items(values: Iterable[Any], path: str, depth: int, room: _Room) -> list[Any]:
    return [_plain(item, f"{path}[{number}]", depth + 1, room) for number, item in enumerate(values)]


def _pairs(value: dict[Any, Any], path: str, depth: int, room: _Room) -> list[Any]:
    return [
        [_plain(key, f"{path}[key {key!r}]", depth + 1, room), _plain(item, f"{path}[{key!r}]", depth + 1, room)]
        for key, item in value.items()
    ]


def _mapping(value: dict[Any, Any], path: str, depth: int, room: _Room) -> Any:
    if any(type(key) is not str or key.startswith("$") for key in value):
        return {"$dict": _pairs(value, path, depth, room)}
    return {key: _plain(item, f"{path}[{key!r}]", depth + 1, room) for key, item in value.items()}


def _name(value: defaultdict[Any, Any]) -> str:
    return str(getattr(value.default_factory, "__name__", ""))


def _sorting(item: Any) -> str:
    return json.dumps(item, sort_keys=True)


def _place(made: type) -> tuple[str, str]:
    return made.__module__, made.__qualname__


def _class(module: str, name: str) -> Any:
    """A class of a module that has been imported; None when there is none. Imports nothing."""
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, "__dict__", {}).get(part)  # not getattr: a module may answer that by importing
    return found if isinstance(found, type) else None


def _offset(zone: datetime.timezone) -> list[Any]:
    return [zone.utcoffset(None).total_seconds(), zone.tzname(None)]


_TAGS: dict[type, tuple[str, Callable[[Any], Any]]] = {
    bytes: ("$bytes", lambda value: base64.b64encode(value).decode()),
    bytearray: ("$bytearray", lambda value: base64.b64encode(value).decode()),
    datetime.date: ("$date", datetime.date.isoformat),
    datetime.time: ("$time", datetime.time.isoformat),
    datetime.timedelta: ("$timedelta", lambda value: [value.days, value.seconds, value.microseconds]),
    datetime.timezone: ("$timezone", _offset),
    zoneinfo.ZoneInfo: ("$zone", lambda value: value.key),
    Decimal: ("$decimal", str),
    uuid.UUID: ("$uuid", str),
    complex: ("$complex", lambda value: [repr(value.real), repr(value.imag)]),
    range: ("$range", lambda value: [value.start, value.stop, value.step]),
}


def _value(plain: Any, bot: telegram.Bot | None) -> Any:
    if isinstance(plain, list):
        return [_value(item, bot) for item in plain]
    if not isinstance(plain, dict):
        return plain
    if len(plain) == 1:
        ((tag, content),) = plain.items()
        if tag == "$telegram":
            name, data = content
            made = getattr(telegram, name, None)
            if not (isinstance(made, type) and issubclass(made, telegram.TelegramObject)):
                raise UnreadableError(f"python-telegram-bot has no {name}")
            return made.de_json(_value(data, bot), bot)
        if tag.startswith("$"):
            return _READ[tag](_value(content, bot))
    return {key: _value(item, bot) for key, item in plain.items()}


def _read_datetime(content: Any) -> datetime.datetime:
    text, zone = content
    moment = datetime.datetime.fromisoformat(text)
    return moment.replace(tzinfo=zoneinfo.ZoneInfo(zone), fold=_fold(moment, zone)) if zone else moment


def _fold(moment: datetime.datetime, zone: str) -> int:
    """Which of the two equal hours of an autumn night it is."""
    first = moment.replace(tzinfo=zoneinfo.ZoneInfo(zone), fold=0)
    return 0 if first.utcoffset() == moment.utcoffset() else 1


def _read_enum(content: Any) -> Any:
    module, name, member = content
    made = _class(module, name)
    if made is None or not issubclass(made, enum.Enum):
        raise UnreadableError(f"there is no enum {module}.{name}")
    return made[member]


def _read_dataclass(content: Any) -> Any:
    module, name, values = content
    made = _class(module, name)
    if made is None or not dataclasses.is_dataclass(made):
        raise UnreadableError(f"there is no dataclass {module}.{name}")
    value: Any = object.__new__(made)  # type: ignore[arg-type]
    for one in dataclasses.fields(made):
        if one.name in values:
            object.__setattr__(value, one.name, values[one.name])
        elif one.default is not dataclasses.MISSING:
            object.__setattr__(value, one.name, one.default)
        elif one.default_factory is not dataclasses.MISSING:
            object.__setattr__(value, one.name, one.default_factory())
    return value


def _read_bytes(content: str) -> bytes:
    try:
        return base64.b64decode(content, validate=True)
    except binascii.Error as error:
        raise UnreadableError(str(error)) from error


_READ: dict[str, Callable[[Any], Any]] = {
    "$int": int,
    "$float": float,
    "$tuple": tuple,
    "$set": set,
    "$frozenset": frozenset,
    "$dict": dict,
    "$OrderedDict": OrderedDict,
    "$Counter": lambda pairs: Counter(dict(pairs)),
    "$defaultdict": lambda content: defaultdict(_FACTORIES[content[0]] if content[0] else None, content[1]),
    "$deque": lambda content: deque(content[0], content[1]),
    "$bytes": _read_bytes,
    "$bytearray": lambda content: bytearray(_read_bytes(content)),
    "$datetime": _read_datetime,
    "$date": datetime.date.fromisoformat,
    "$time": datetime.time.fromisoformat,
    "$timedelta": lambda content: datetime.timedelta(*content),
    "$timezone": lambda content: datetime.timezone(datetime.timedelta(seconds=content[0]), content[1]),
    "$zone": zoneinfo.ZoneInfo,
    "$decimal": Decimal,
    "$uuid": uuid.UUID,
    "$complex": lambda content: complex(float(content[0]), float(content[1])),
    "$range": lambda content: range(*content),
    "$enum": _read_enum,
    "$dataclass": _read_dataclass,
}
