"""The AsyncAPI document: made from the catalogue, whole, and what it says is what events are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import yaml

from botctl.bus.event_types.asyncapi import document, reference
from botctl.bus.event_types.catalogue import CATALOGUE
from botctl.bus.events import Event, Log, encode_event

ROOT = Path(__file__).parents[3]
KEYS = {
    "": {"asyncapi", "info", "defaultContentType", "channels", "operations", "components"},
    "channels": {"address", "title", "description", "parameters", "messages"},
    "operations": {"action", "channel", "summary"},
    "messages": {
        *("name", "title", "summary", "description", "contentType", "correlationId", "tags", "payload"),
    },
}
"""Keys that AsyncAPI 3.0 has, of those used here; its schema refuses others."""


def references(part: Any) -> Iterator[str]:
    """Every `$ref` within."""
    if isinstance(part, dict):
        for key, value in part.items():
            if key == "$ref":
                yield value
            else:
                yield from references(value)
    elif isinstance(part, list):
        for value in part:
            yield from references(value)


def found(made: dict[str, Any], reference: str) -> Any:
    """What a reference means. Raises KeyError."""
    part: Any = made
    for name in reference.removeprefix("#/").split("/"):
        part = part[name]
    return part


def test_the_document_in_docs_is_up_to_date() -> None:
    assert (ROOT / "docs/asyncapi.yaml").read_text("utf-8") == reference()


def test_yaml_and_json_say_the_same() -> None:
    assert yaml.safe_load(reference()) == msgspec.json.decode(msgspec.json.encode(document()))


def test_it_has_the_parts_of_asyncapi_3_and_no_others() -> None:
    made = document()
    assert made["asyncapi"] == "3.0.0"
    assert set(made) == KEYS[""]
    assert {"title", "version"} <= set(made["info"])
    for channel in made["channels"].values():
        assert set(channel) <= KEYS["channels"]
        assert set(re.findall(r"{(\w+)}", channel["address"])) == set(channel["parameters"])
    for operation in made["operations"].values():
        assert set(operation) <= KEYS["operations"]
        assert operation["action"] in ("send", "receive")
    for name, message in made["components"]["messages"].items():
        assert set(message) <= KEYS["messages"]
        assert re.fullmatch(r"[\w.\-]+", name)


def test_every_reference_leads_somewhere() -> None:
    made = document()
    everything = list(references(made))
    assert len(everything) > 3 * len(CATALOGUE)
    for one in everything:
        assert found(made, one) is not None


def test_every_type_is_a_message_of_its_log_with_its_own_data() -> None:
    made = document()
    for log in Log:
        names = {name for name, entry in CATALOGUE.items() if entry.log is log} | (
            {"custom"} if log is Log.BOT else set()
        )
        assert set(made["channels"][f"log-{log.value}"]["messages"]) == names
    for name, entry in CATALOGUE.items():
        given = made["components"]["messages"][name]["payload"]["allOf"][1]["properties"]
        assert given["type"]["const"] == name
        assert found(made, given["data"]["$ref"])["title"] == entry.data.__name__


def test_an_encoded_event_has_the_keys_that_are_described_and_its_type_the_pattern() -> None:
    made = document()["components"]["schemas"]["Event"]
    event = msgspec.json.decode(encode_event(Event(id="a", type="shop.paid", occurred_at=1.0)))
    assert set(event) <= set(made["properties"])
    assert set(made["required"]) <= set(event)
    pattern = made["properties"]["type"]["pattern"]
    assert "\\Z" not in str(made)
    assert re.search(pattern, "shop.paid")
    assert not re.search(pattern, "Shop")
