"""Scenario files: what they may say, how their errors are told, and in which order steps are done."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from botctl.cli.chaos.scenario import DEEDS, Contains, Sends
from botctl.cli.chaos.scenario_file import FLEET, SHIPPED, check_names, find, load_scenario, parse_scenario, shipped
from botctl.cli.chaos.timeline import moments
from botctl.errors import InvalidFileError, UsageError
from botctl.fleet import load_fleet

WHOLE = """
about: all of it
seed: 3
calm: 1s
duration: 1m
users:
  bots: [echo]
  chats: 2
  rate: 0.5
  says:
    - text: "note {mark}"
      expects: {contains: "noted {mark}"}
    - sends: press
limits: {flood: telegram}
timeline:
  - at: 1s
    for: 500ms
    telegram: {method: sendMessage, status: 502, from: 0.1}
  - at: 2s
    kill: bot
  - at: 3s
    for: 10s
    every: 1s
    kill: echo
  - at: 4s
    stop: control
    for: 2s
"""


def test_a_whole_scenario_is_read() -> None:
    scenario = parse_scenario(WHOLE, "f.yaml")
    assert (scenario.calm, scenario.duration, scenario.users.chats) == (1.0, 60.0, 2)
    assert scenario.users.says[0].expects == Contains(contains="noted {mark}")
    assert scenario.users.says[1].sends is Sends.PRESS
    assert [step.label for step in scenario.timeline] == [
        "sendMessage: from 0.1, status 502",
        "kill bot",
        "kill echo",
        "stop control",
    ]
    assert scenario.keeps_order


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("seed: 1\nsped: 2\n", "f.yaml:2: sped: unknown key"),
        ("seed: x\n", "f.yaml:1: seed: "),
        ("users:\n  rate: 0\n", "f.yaml:2: users.rate: "),
        ("users:\n  says:\n    - text: a\n      expect: none\n", "f.yaml:4: users.says[0].expect: unknown key"),
        ("users:\n  says:\n    - weight: 2\n", "f.yaml:3: users.says[0]: a text is missing"),
        ("timeline:\n  - at: 1s\n", "f.yaml:2: timeline[0]: give exactly one of telegram, completion"),
        ("timeline:\n  - at: 1s\n    kill: a\n    stop: b\n", "f.yaml:2: timeline[0]: give exactly one of"),
        ("timeline:\n  - at: 1s\n    telegram:\n      dealy: 1\n", "f.yaml:4: timeline[0].telegram.dealy: unknown key"),
        ("timeline:\n  - at: 1s\n    telegram: {bot_id: 1}\n", "timeline[0].telegram: the fault does nothing"),
        ("timeline:\n  - at: soon\n    kill: a\n", "f.yaml:2: timeline[0].at: 'soon' is no duration"),
        ("duration: 5s\ntimeline:\n  - at: 6s\n    kill: a\n", "timeline[0] ends at 6 s, the scenario at 5 s"),
        ("timeline:\n  - at: 1s\n    stop: a\n", "'stop' needs 'for'"),
        ("timeline:\n  - at: 1s\n    restart: control\n", "only bots are restarted by command"),
        ("timeline:\n  - at: 1s\n    for: 1s\n    every: 1s\n    telegram: {cut: true}\n", "'every' needs 'for'"),
        ("seed: 1\nseed: 2\n", "f.yaml:2: seed: stands twice"),
        ("- a\n", "f.yaml:1: must be a mapping"),
    ],
)
def test_an_error_names_file_line_and_key(text: str, expected: str) -> None:
    with pytest.raises(InvalidFileError) as caught:
        parse_scenario(text, "f.yaml")
    assert expected in str(caught.value)


def test_all_errors_are_told_at_once() -> None:
    with pytest.raises(InvalidFileError) as caught:
        parse_scenario("seed: x\ncalm: -1s\nnonsense: 1\n", "f.yaml")
    assert len(caught.value.problems) == 3


def test_bots_that_the_fleet_lacks_are_told_before_anything_starts() -> None:
    scenario = parse_scenario(WHOLE, "f.yaml")
    check_names(scenario, {"echo"}, "f.yaml")
    with pytest.raises(InvalidFileError, match=r"users.bots\[0\]: the fleet has no bot 'echo'; it has sales"):
        check_names(scenario, {"sales"}, "f.yaml")


def test_an_unknown_scenario_names_those_there_are() -> None:
    with pytest.raises(UsageError, match="smoke"):
        find("nonsense")


def test_the_scenarios_that_are_brought_fit_the_fleet_that_is_brought() -> None:
    fleet = load_fleet(FLEET, {})
    found = shipped()
    assert {"smoke", "telegram-down", "flood-limits", "lost-answers", "model-slow", "everything"} <= set(found)
    for name, scenario in found.items():
        check_names(scenario, {bot.name for bot in fleet.bots}, name)
        assert scenario.about
        assert load_scenario(str(SHIPPED / f"{name}.yaml")) == scenario


def test_steps_come_in_order_begin_and_end_and_repeat_by_their_seed() -> None:
    scenario = parse_scenario(WHOLE, "f.yaml")
    found = moments(scenario)
    assert [moment.at for moment in found] == sorted(moment.at for moment in found)
    assert [(moment.at, moment.ends) for moment in found if moment.place == 0] == [(1.0, False), (1.5, True)]
    again = [moment.at for moment in found if moment.place == 2]
    assert 7 <= len(again) <= 20
    assert all(0.5 <= later - earlier <= 1.5 for earlier, later in pairwise(again))
    assert found == moments(scenario)
    assert found != moments(scenario.model_copy(update={"seed": 4}))


def test_the_scenario_in_the_documentation_is_one() -> None:
    page = (Path(__file__).parents[3] / "docs" / "sandbox.md").read_text()
    example = page.partition("```yaml\n")[2].partition("```")[0]
    scenario = parse_scenario(example, "docs/sandbox.md")
    assert {step.deed for step in scenario.timeline} == set(DEEDS)
    check_names(scenario, {"support"}, "docs/sandbox.md")
