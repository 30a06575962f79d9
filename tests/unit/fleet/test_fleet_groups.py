"""Subscriptions with conditions, groups and answers in a fleet file: what they become, and where faults stand."""

from __future__ import annotations

from pathlib import Path

import pytest

from botctl.errors import InvalidFileError
from botctl.fleet import Fleet, diff_fleets, parse_fleet
from botctl.fleet.subscriptions import Subscription

BOTS = """
bots:
  - name: support
    token: 1:abcdefg
    groups: [desk]
    subscribe:
      - bot.failed
      - {type: "order.*", where: {source: sales, total: {gte: 100}, country: [de, at], vip: true}}
    answers: ["price.*", {type: stock.level, where: {source: [sales, 2, fleet]}}]
  - {name: sales, token: "2:abcdefg"}
"""
GROUPS = """
groups:
  desk:
    subscribe: ["ticket.*"]
"""


def parse(text: str) -> Fleet:
    return parse_fleet(text, file="fleet.yaml", folder=Path(), env={})


def faults(text: str) -> list[str]:
    with pytest.raises(InvalidFileError) as caught:
        parse(text)
    return [str(problem).removeprefix("fleet.yaml:") for problem in caught.value.problems]


def test_a_fleet_has_groups_and_bots_say_what_they_share_and_answer() -> None:
    fleet = parse(GROUPS + BOTS)
    support, sales = fleet.bots
    assert (support.groups, support.hears, sales.hears) == (("desk",), True, False)
    plain, conditional = support.subscribe
    assert plain == "bot.failed"
    assert isinstance(conditional, Subscription)
    assert conditional.model_dump()["where"] == {
        "source": {"eq": "sales"}, "total": {"gte": 100}, "country": {"in": ["de", "at"]}, "vip": {"eq": True},
    }  # fmt: skip
    assert Fleet.model_validate_json(fleet.model_dump_json()) == fleet


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("bot.failed", "Bot", "11: bots[0].subscribe[0]: 'Bot' is no event type"),
        ("{gte: 100}", "{more: 100}", "12: bots[0].subscribe[1].where.total.more: unknown key"),
        ("{gte: 100}", "{gte: [1]}", "12: bots[0].subscribe[1].where.total.gte: must be a number or a text"),
        ("{gte: 100}", "2026-01-01", "12: bots[0].subscribe[1].where.total.eq: must be text"),
        ("source: sales", "source: sails", "12: bots[0].subscribe[1].where.source: there is no bot 'sails'"),
        ("[sales, 2, fleet]", "[sales, 3]", "13: bots[0].answers[1].where.source: there is no bot 3"),
        ("groups: [desk]", "groups: [dask]", "9: bots[0].groups[0]: there is no group 'dask'"),
        ("groups: [desk]", "groups: [desk, desk]", "9: bots[0].groups: names a group twice"),
        ("groups: [desk]", "groups: []", "3: groups.desk: no bot belongs to this group"),
        ('["ticket.*"]', "[]", "4: groups.desk.subscribe: must name at least one"),
        ('["ticket.*"]', "[ticket]", "4: groups.desk.subscribe[0]: 'ticket' is no event type"),
        ("desk:\n", "Desk:\n", "3: groups.Desk: a group's name must be"),
        ("type: stock.level", "types: stock.level", "13: bots[0].answers[1].types: unknown key"),
    ],
)
def test_a_fault_names_its_line_and_key(old: str, new: str, fault: str) -> None:
    assert old in GROUPS + BOTS
    assert any(found.startswith(fault) for found in faults((GROUPS + BOTS).replace(old, new, 1))), fault


def test_groups_are_compared_and_what_they_subscribe_to_changes_no_bot() -> None:
    old = parse(GROUPS + BOTS)
    new = parse(GROUPS.replace("ticket", "case") + BOTS)
    diff = diff_fleets(old, new)
    assert (diff.groups, diff.changed, diff.empty) == (("desk",), (), False)
    alone = diff_fleets(old, parse(BOTS.replace("    groups: [desk]\n", "")))
    assert (alone.groups, alone.changed) == (("desk",), ("support",))
    assert diff_fleets(old, old).empty
