"""What of the operator's own reaches a chaos run: bots and handlers, no token, no key, no list of who may talk."""

from __future__ import annotations

from pathlib import Path

import pytest

from botctl.cli.chaos.borrowed import SECRET, Stand, sandboxed
from botctl.cli.chaos.stage import counted
from botctl.errors import InvalidFileError
from botctl.fleet.load import parse_fleet
from botctl.fleet.model import TOKEN_FORMAT

FLEET = """
defaults:
  assistant: {api_key: "${THEIR_KEY}", base_url: "https://models.example/v1"}
bots:
  - {name: sales, token: "${SALES_TOKEN}", proxy: "http://proxy.example:3128", access: {allow: [1]}, on_uncertain: skip}
  - {name: support, token: "${SUPPORT_TOKEN}"}
"""
TRUE_TOKEN = "123456789:" + "AAtrue".ljust(35, "y")


def test_tokens_keys_proxies_and_lists_are_replaced_and_the_rest_is_kept() -> None:
    env = Stand({"SALES_TOKEN": TRUE_TOKEN, "THEIR_KEY": "sk-true"})
    fleet = parse_fleet(FLEET, file="fleet.yaml", folder=Path("/srv"), env=env)
    made = sandboxed(fleet, real_completions=False)
    written = made.model_dump_json()
    assert TRUE_TOKEN not in written
    assert "sk-true" not in written
    sales, support = made.bots
    assert sales.token.get_secret_value() == f"123456789:{SECRET}"
    assert (sales.bot_id, sales.proxy, sales.access.allow, sales.on_uncertain) == (123456789, None, frozenset(), "skip")
    assert sales.assistant is not None
    assert (sales.assistant.api_key, sales.assistant.base_url) == (None, None)
    assert TOKEN_FORMAT.fullmatch(support.token.get_secret_value())
    assert support.bot_id != sales.bot_id
    assert made.folder == fleet.folder


def test_real_completions_keep_the_key_and_nothing_else() -> None:
    env = Stand({"SALES_TOKEN": TRUE_TOKEN, "THEIR_KEY": "sk-true"})
    fleet = parse_fleet(FLEET, file="fleet.yaml", folder=Path("/srv"), env=env)
    (sales, _) = sandboxed(fleet, real_completions=True).bots
    assert sales.assistant is not None
    assert sales.assistant.api_key is not None
    assert sales.assistant.api_key.get_secret_value() == "sk-true"
    assert sales.token.get_secret_value() == f"123456789:{SECRET}"


def test_a_variable_that_is_not_set_is_made_up_once() -> None:
    stand = Stand({"EMPTY": ""})
    assert stand["A"] == stand["A"] != stand["B"]
    assert stand["EMPTY"] != ""
    with pytest.raises(InvalidFileError):
        parse_fleet("bots: [{name: a, token: '${X}'}, {name: b, token: '${X}'}]", file="f", folder=Path(), env=stand)


def test_a_metric_is_read_by_bot() -> None:
    lines = (
        "# TYPE botctl_sends_uncertain_total counter",
        'botctl_sends_uncertain_total{bot="sales"} 3.0',
        'botctl_sends_uncertain_total{bot="support"} 0.0',
        'botctl_sends_uncertain_total{bot="gone"} 7.0',
        'botctl_sends_total{bot="sales"} 9.0',
    )
    assert counted("sends_uncertain", lines, {"sales": 5, "support": 6}) == {5: 3, 6: 0}
