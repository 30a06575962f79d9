"""The catalogue: known types are checked, own types are free, reserved names can't be made up."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from botctl.bus.event_types import catalogue
from botctl.bus.event_types.catalogue import CATALOGUE, EventType, Publisher, log_of, lookup, validate
from botctl.bus.event_types.data import Data
from botctl.bus.event_types.reference import reference
from botctl.bus.events import TYPE_FORMAT, Event, Log
from botctl.errors import ProtocolError


def make(event_type: str, data: dict[str, Any] | None = None, version: int = 1) -> Event:
    return Event(id="x", type=event_type, version=version, occurred_at=1, data=data or {})


def test_every_entry_has_a_valid_name_a_summary_and_a_strict_model() -> None:
    for name, entry in CATALOGUE.items():
        assert re.match(TYPE_FORMAT, name)
        assert entry.summary.endswith(".")
        assert entry.data.__struct_config__.forbid_unknown_fields
        assert set(entry.upcasters) == set(range(1, entry.version))


def test_each_type_is_published_by_somebody_or_says_that_it_is_reserved() -> None:
    made = Path(catalogue.__file__).parents[2]
    sources = "".join(
        path.read_text(encoding="utf-8") for path in made.rglob("*.py") if path.parent.name != "event_types"
    )
    sources = sources.replace('f"conversation.{what}"', '"conversation.started" "conversation.reset"')
    published = {name for name in CATALOGUE if f'"{name}"' in sources}
    assert {name for name, entry in CATALOGUE.items() if not entry.reserved} == published


def test_a_known_type_with_proper_data_passes_unchanged() -> None:
    event = make("message.received", {"chat_id": 5, "user_id": 6, "length": 3})
    assert validate(event, "bot:1") is event


@pytest.mark.parametrize(
    "data", [{}, {"chat_id": "5"}, {"chat_id": 5, "unknown": 1}, {"chat_id": None}, {"chat_id": 5, "length": 1.5}]
)
def test_data_that_is_not_as_in_the_catalogue_is_refused(data: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError, match=r"message\.received"):
        validate(make("message.received", data))


def test_an_own_type_is_free_form_and_goes_to_the_bot_log() -> None:
    event = make("custom.anything", {"a": [1, {"b": None}]}, version=7)
    assert validate(event, "bot:1") is event
    assert lookup("shop.order.paid") is None
    assert log_of("shop.order.paid") is Log.BOT


@pytest.mark.parametrize("name", ["bot.exploded", "message.read", "fleet.owned", "supervisor.x", "user.shared"])
def test_a_reserved_name_that_is_not_in_the_catalogue_is_refused(name: str) -> None:
    with pytest.raises(ProtocolError, match="not in the catalogue"):
        validate(make(name))


def test_a_bot_cannot_claim_what_only_the_fleet_knows() -> None:
    event = make("threat.detected", {"rule": "flood", "severity": "high"})
    assert validate(event, "fleet") is event
    with pytest.raises(ProtocolError, match="bot:1 may not publish"):
        validate(event, "bot:1")


def test_the_fleet_does_not_speak_for_a_bot() -> None:
    with pytest.raises(ProtocolError, match="fleet may not publish"):
        validate(make("message.sent", {"chat_id": 1}), "fleet")


def test_a_version_from_the_future_is_refused() -> None:
    with pytest.raises(ProtocolError, match="1 is the newest"):
        validate(make("message.sent", {"chat_id": 1}, version=2))


class Renamed(Data, frozen=True):
    """Version 3 of a type whose field was renamed, then made a list."""

    names: list[str]


@pytest.fixture
def renamed(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EventType(
        name="bot.renamed",
        log=Log.BOT,
        publisher=Publisher.ANY,
        summary="For the test.",
        data=Renamed,
        version=3,
        upcasters={1: lambda data: {"name": data["title"]}, 2: lambda data: {"names": [data["name"]]}},
    )
    monkeypatch.setattr(catalogue, "CATALOGUE", {**CATALOGUE, entry.name: entry})


@pytest.mark.usefixtures("renamed")
@pytest.mark.parametrize(("version", "data"), [(1, {"title": "a"}), (2, {"name": "a"}), (3, {"names": ["a"]})])
def test_old_data_is_brought_to_the_newest_version(version: int, data: dict[str, Any]) -> None:
    event = validate(make("bot.renamed", data, version), "bot:1")
    assert (event.version, event.data) == (3, {"names": ["a"]})


@pytest.mark.usefixtures("renamed")
def test_old_data_that_cannot_be_brought_up_is_refused() -> None:
    with pytest.raises(ProtocolError, match="can't be brought up to date"):
        validate(make("bot.renamed", {}, 1))


def test_the_reference_page_is_what_the_code_says() -> None:
    page = Path(__file__).parents[3] / "docs" / "events.md"
    assert page.read_text(encoding="utf-8") == reference(), (
        "run: python -m botctl.bus.event_types.reference docs/events.md"
    )
