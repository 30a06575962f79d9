"""What an attempt changes in the data that handlers keep, apart from everybody else's until it is committed. Pure.

What was committed is held as text. A draft reads it anew for each attempt, so that no two attempts share an object, and
one that fails leaves nothing behind, whatever it did to what it was given. At its end a draft is compared with what it
began with, and its changes are brought into what is committed by then: dicts key by key at any depth, sets item by
item, everything else as a whole, the last commit winning. What can't be stored is kept in memory, shared by all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import telegram

from botctl.bot.keeping.codec import UnreadableError, UnstorableError, decode, encode

Owner = tuple[str, str]
"""Kind (`bot`, `chat`, `user`, `conversation`, or `transient`, which is never stored) and id."""

BOT: Owner = ("bot", "")

_GONE: Any = object()
_raws = msgspec.json.Decoder(dict[str, msgspec.Raw])
_pairs = msgspec.json.Decoder(dict[str, list[tuple[msgspec.Raw, msgspec.Raw]]])


class NotLoadedError(LookupError):
    """Data of somebody whom this update doesn't concern, and more is kept than is held in memory."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What is committed for one owner: texts of what can be stored, and the objects themselves of what can't."""

    texts: Mapping[Any, str] = field(default_factory=dict)
    live: Mapping[Any, Any] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """About how many bytes it takes."""
        return 200 + sum(len(text) + 100 for text in self.texts.values())

    @property
    def text(self) -> str | None:
        """All that can be stored, as it is stored; None for nothing."""
        if not self.texts:
            return None
        keys = {key: encode(key) for key in self.texts}
        if all(type(key) is str and not key.startswith("$") for key in keys):
            return "{" + ",".join(f"{keys[key]}:{text}" for key, text in self.texts.items()) + "}"
        return '{"$dict":[' + ",".join(f"[{keys[key]},{text}]" for key, text in self.texts.items()) + "]}"


def read_kept(text: str | None) -> Kept:
    """What a stored text holds. Raises UnreadableError."""
    if not text:
        return Kept()
    try:
        if text.startswith('{"$dict":'):
            return Kept({decode(_text(key)): _text(value) for key, value in _pairs.decode(text)["$dict"]})
        return Kept({key: _text(value) for key, value in _raws.decode(text).items()})
    except (msgspec.DecodeError, UnicodeError):
        value = decode(text)  # lone surrogates, which only the lenient decoder takes
        if not isinstance(value, dict):
            raise UnreadableError("no dict") from None
        return Kept({key: encode(item) for key, item in value.items()})


def _text(raw: msgspec.Raw) -> str:
    return bytes(raw).decode()


@dataclass(slots=True)
class _Working:
    """An attempt's own copy. `unread`: keys whose text can't be read; they stay as they are."""

    values: dict[Any, Any]
    texts: dict[Any, str]
    live: dict[Any, Any]
    unread: frozenset[Any] = frozenset()
    emptied: bool = False
    """Whether everything was dropped, whatever it was."""


@dataclass(frozen=True, slots=True)
class Change:
    """What one attempt has done to one owner's data."""

    owner: Owner
    values: Mapping[Any, Any] = field(default_factory=dict)
    """New values of changed keys."""
    texts: Mapping[Any, str] = field(default_factory=dict)
    """Their texts; a key without one can't be stored."""
    base: Mapping[Any, str] = field(default_factory=dict)
    """What those and the removed keys were when the attempt saw them first."""
    removed: frozenset[Any] = frozenset()
    emptied: bool = False


class Draft:
    """`kept` gives what is committed for an owner; None when it is not in memory.

    `tell` is told of what can't be stored (path, name of the type) or read (path, why).
    """

    def __init__(
        self, kept: Callable[[Owner], Kept | None], tell: Callable[[str, str], None], bot: telegram.Bot | None = None
    ) -> None:
        self._kept = kept
        self._tell = tell
        self._bot = bot
        self._open: dict[Owner, _Working] = {}
        self._brought: dict[Owner, Kept] = {}

    @property
    def touched(self) -> bool:
        """Whether anything was looked at."""
        return bool(self._open)

    def opened(self, kind: str) -> list[str]:
        """Ids of one kind that were looked at."""
        return [owner for one, owner in self._open if one == kind]

    def bring(self, owner: Owner, kept: Kept) -> None:
        """What is committed for an owner, to be had when it is looked at, in memory still or not."""
        self._brought[owner] = kept

    def values(self, owner: Owner) -> dict[Any, Any]:
        """The draft's own dict, to be read and changed. Raises NotLoadedError."""
        working = self._open.get(owner)
        if working is None:
            kept = self._kept(owner) or self._brought.get(owner)
            if kept is None:
                raise NotLoadedError(
                    f"{_place(owner)} is not in memory: this update does not concern it, and more is kept than memory"
                    " holds; `await application.load_data(...)` first"
                )
            working = self._open[owner] = self._begin(owner, kept)
        return working.values

    def empty(self, owner: Owner) -> None:
        """Drop all of an owner's data, also what is not in memory."""
        self._open[owner] = _Working({}, {}, {}, emptied=True)

    def changes(self) -> list[Change]:
        """What was changed so far, owners in order."""
        found = [self._compare(owner, working) for owner, working in sorted(self._open.items(), key=lambda one: one[0])]
        return [change for change in found if change is not None]

    def absorb(self, change: Change, kept: Kept) -> None:
        """Another draft's change has been committed: take it over where this one has changed nothing itself."""
        owner = change.owner
        working = self._open.get(owner)
        if working is None or working.emptied:
            return
        for key in {*working.texts, *working.live} if change.emptied else {*change.values, *change.removed}:
            if self._is_changed(working, owner, key):
                continue
            fresh = self._begin(owner, Kept({key: kept.texts[key]} if key in kept.texts else {},
                                            {key: kept.live[key]} if key in kept.live else {}))  # fmt: skip
            for mine, theirs in (
                (working.values, fresh.values), (working.texts, fresh.texts), (working.live, fresh.live)
            ):  # fmt: skip
                mine.pop(key, None)
                mine.update(theirs)

    def settle(self, change: Change, kept: Kept) -> None:
        """A change of this draft has been committed; what came after it is still to be."""
        working = self._open[change.owner]
        working.emptied = False
        for key in change.removed:
            working.texts.pop(key, None)
            working.live.pop(key, None)
        for key, value in change.values.items():
            working.texts.pop(key, None)
            working.live.pop(key, None)
            if key in change.texts:
                working.texts[key] = change.texts[key]
            else:
                working.live[key] = value
        self.absorb(change, kept)

    def found(self, owner: Owner, kept: Kept) -> None:
        """What is stored has been read only now: it goes before what was put in its place meanwhile."""
        working = self._open.get(owner)
        if working is None:
            return
        stored = self._begin(owner, kept)
        working.unread = stored.unread
        working.texts.update(stored.texts)
        for key, value in stored.values.items():
            if key not in working.values or self._encoded(owner, key, working.values[key]) is not None:
                working.values[key] = value

    def forget(self) -> None:
        """Close what was not changed, but for the bot's own."""
        self._brought = {}
        changed = {change.owner for change in self.changes()}
        self._open = {owner: working for owner, working in self._open.items() if owner in changed or owner == BOT}

    def _begin(self, owner: Owner, kept: Kept) -> _Working:
        values, unread = {}, set()
        for key, text in kept.texts.items():
            try:
                values[key] = decode(text, self._bot)
            except UnreadableError as error:
                unread.add(key)
                self._tell(f"{_place(owner)}[{key!r}]", f"can't be read: {error}")
        texts = {key: text for key, text in kept.texts.items() if key not in unread}
        return _Working({**values, **kept.live}, texts, dict(kept.live), frozenset(unread))

    def _is_changed(self, working: _Working, owner: Owner, key: Any) -> bool:
        if key in working.unread or key not in working.values:
            return key in working.texts or key in working.live
        if key in working.live:
            return working.values[key] is not working.live[key]
        return self._encoded(owner, key, working.values[key]) != working.texts.get(key)

    def _compare(self, owner: Owner, working: _Working) -> Change | None:
        values, texts = {}, {}
        for key, value in working.values.items():
            if key in working.live and value is working.live[key]:
                continue
            text = self._encoded(owner, key, value)
            if text is None or text != working.texts.get(key):
                values[key] = value
                if text is not None:
                    texts[key] = text
        removed = frozenset(key for key in (*working.texts, *working.live) if key not in working.values)
        if not (values or removed or working.emptied):
            return None
        base = {key: text for key, text in working.texts.items() if key in values or key in removed}
        return Change(owner, values, texts, base, removed, working.emptied)

    def _encoded(self, owner: Owner, key: Any, value: Any) -> str | None:
        if owner[0] == "transient":
            return None
        try:
            encode(key)
            return encode(value)
        except UnstorableError as error:
            self._tell(f"{_place(owner)}[{key!r}]{error.path}", error.kind)
            return None


def merged(kept: Kept, change: Change, bot: telegram.Bot | None = None) -> Kept:
    """What is committed once a change has been brought into it. `kept` may be newer than what the change began with."""
    texts = {} if change.emptied else dict(kept.texts)
    live = {} if change.emptied else dict(kept.live)
    for key in change.removed:
        texts.pop(key, None)
        live.pop(key, None)
    for key, value in change.values.items():
        mine, theirs, base = change.texts.get(key), texts.get(key), change.base.get(key)
        if mine is None:
            texts.pop(key, None)
            live[key] = value
            continue
        live.pop(key, None)
        if theirs is None or theirs in (base, mine):
            texts[key] = mine
        else:
            texts[key] = encode(_both(_read(base, bot), decode(mine, bot), _read(theirs, bot)))
    return Kept(texts, live)


def _read(text: str | None, bot: telegram.Bot | None) -> Any:
    try:
        return _GONE if text is None else decode(text, bot)
    except UnreadableError:
        return _GONE


def _both(base: Any, mine: Any, theirs: Any) -> Any:
    """Mine, and what others have done since the base, where the two are not about the same thing."""
    if type(mine) is not type(theirs):
        return mine
    if isinstance(mine, dict):
        old = base if isinstance(base, dict) else {}
        found = theirs.copy()
        for key in [key for key in old if key not in mine]:
            found.pop(key, None)
        for key, value in mine.items():
            if key not in old or encode(old[key]) != encode(value):
                found[key] = _both(old.get(key, _GONE), value, theirs[key]) if key in theirs else value
        return found
    if isinstance(mine, set | frozenset):
        return (theirs | mine) - ((base if isinstance(base, set | frozenset) else frozenset()) - mine)
    return mine


def _place(owner: Owner) -> str:
    kind, number = owner
    return "bot_data" if kind == "bot" else f"{kind}_data[{number}]"
