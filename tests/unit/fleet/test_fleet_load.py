"""Reading a fleet file: what it means, and that every error names file, line and key."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from botctl.errors import ExitCode, InvalidFileError, Problem
from botctl.fleet import CompletionApi, Fleet, load_fleet, parse_fleet
from botctl.fleet.load import referenced_variables

TOKEN = "123456:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
OTHER = "654321:BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB"


def parse(text: str, folder: Path = Path("/nowhere"), **env: str) -> Fleet:
    return parse_fleet(dedent(text).lstrip(), file="fleet.yaml", folder=folder, env=env)


def problems(text: str, folder: Path = Path("/nowhere"), **env: str) -> list[Problem]:
    with pytest.raises(InvalidFileError) as caught:
        parse(text, folder, **env)
    assert caught.value.exit_code is ExitCode.USAGE
    return caught.value.problems


def test_a_bot_gets_the_defaults_and_overrides_them_key_by_key() -> None:
    fleet = parse(
        f"""
        defaults:
          assistant: {{model: small, instructions: Be brief.}}
          limits: {{memory: 256M}}
          restart: {{period: 1m30s, first_delay: 200ms}}
        bots:
          - name: support
            token: "{TOKEN}"
            assistant: {{model: large, api: chat}}
        """
    )
    (bot,) = fleet.bots
    assert (bot.name, bot.bot_id) == ("support", 123456)
    assert bot.assistant is not None
    assert (bot.assistant.model, bot.assistant.instructions) == ("large", "Be brief.")
    assert bot.assistant.api is CompletionApi.CHAT
    assert bot.limits.memory == 256 * 1024**2
    assert (bot.restart.period, bot.restart.first_delay) == (90.0, pytest.approx(0.2))


def test_an_assistant_of_null_switches_it_off_even_against_the_defaults() -> None:
    fleet = parse(
        f"""
        defaults: {{assistant: {{model: small}}}}
        bots: [{{name: echo, token: "{TOKEN}", assistant: null}}]
        """
    )
    assert fleet.bots[0].assistant is None


def test_variables_are_replaced_with_defaults_and_doubled_dollars() -> None:
    fleet = parse(
        """
        bots:
          - name: support
            token: ${TOKEN}
            assistant: {instructions: "costs $$5 at ${PLACE:-home}", model: "${MODEL:-m}"}
        """,
        TOKEN=TOKEN,
        MODEL="x",
    )
    assistant = fleet.bots[0].assistant
    assert assistant is not None
    assert (assistant.instructions, assistant.model) == ("costs $5 at home", "x")


def test_referenced_variables_are_those_the_file_asks_for() -> None:
    assert referenced_variables("a: ${ONE} b: $${TWO} c: ${THREE:-x}") == {"ONE", "THREE"}


@pytest.mark.parametrize(("env", "state"), [({}, "is not set"), ({"TOKEN": ""}, "is empty")])
def test_a_missing_variable_is_one_error_with_its_line(env: dict[str, str], state: str) -> None:
    found = problems(
        """
        bots:
          - name: support
            token: ${TOKEN}
        """,
        **env,
    )
    assert found == [Problem("fleet.yaml", 3, "bots[0].token", f"the environment variable TOKEN {state}")]


def test_a_token_is_read_from_a_file_beside_the_fleet_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN + "\n")
    (tmp_path / "fleet.yaml").write_text("bots:\n  - name: support\n    token_file: token\n")
    fleet = load_fleet(tmp_path / "fleet.yaml", {})
    assert fleet.bots[0].token.get_secret_value() == TOKEN
    assert fleet.folder == str(tmp_path)


def test_a_token_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    (found,) = problems("bots:\n  - name: a\n    token_file: gone\n", tmp_path)
    assert (found.line, found.key) == (3, "bots[0].token_file")
    assert str(tmp_path / "gone") in found.message


def test_a_token_in_the_place_of_its_file_is_not_repeated(tmp_path: Path) -> None:
    (found,) = problems("bots:\n  - name: a\n    token_file: '7700000001:AAE-of-the-bot'\n", tmp_path)
    assert (found.line, found.key) == (3, "bots[0].token_file")
    assert "AAE" not in found.message


def test_a_bots_own_token_wins_over_a_token_file_of_the_defaults(tmp_path: Path) -> None:
    fleet = parse(f'bots: [{{name: a, token: "{TOKEN}"}}]', tmp_path)
    assert fleet.bots[0].bot_id == 123456


def test_every_fault_of_a_file_is_reported_in_the_order_of_its_lines() -> None:
    found = problems(
        f"""
        defaults:
          flavour: sweet
        bots:
          - name: Support Desk
            token: nonsense
          - name: sales
            token: "{TOKEN}"
            limits: {{memory: lots}}
            tokken: x
        extra: 1
        """
    )
    assert [(problem.line, problem.key) for problem in found] == [
        (2, "defaults.flavour"),
        (4, "bots[0].name"),
        (5, "bots[0].token"),
        (8, "bots[1].limits.memory"),
        (9, "bots[1].tokken"),
        (10, "extra"),
    ]
    assert found[-2].message == "unknown key"


def test_a_fault_in_the_defaults_is_reported_there_and_once() -> None:
    found = problems(
        f"""
        defaults:
          limits:
            memory: lots
        bots:
          - {{name: a, token: "{TOKEN}"}}
          - {{name: b, token: "{OTHER}"}}
        """
    )
    assert [(problem.line, problem.key) for problem in found] == [(3, "defaults.limits.memory")]


def test_a_fault_in_the_defaults_is_reported_there_also_when_a_bot_overrides_a_sibling() -> None:
    found = problems(
        f"""
        defaults:
          limits:
            memory: lots
        bots:
          - name: a
            token: "{TOKEN}"
            limits: {{open_files: 100}}
        """
    )
    assert [(problem.line, problem.key) for problem in found] == [(3, "defaults.limits.memory")]


def test_a_duplicate_name_and_a_duplicate_bot_id_are_errors() -> None:
    found = problems(
        f"""
        bots:
          - name: a
            token: "{TOKEN}"
          - name: a
            token: "{OTHER}"
          - name: c
            token: "{TOKEN}"
        """
    )
    assert [(problem.line, problem.key) for problem in found] == [(4, "bots[1].name"), (7, "bots[2].token")]
    assert "123456" in found[1].message
    assert TOKEN.split(":")[1] not in found[1].message


def test_a_bot_copied_whole_is_two_errors() -> None:
    found = problems(
        f"""
        bots:
          - name: a
            token: "{TOKEN}"
          - name: a
            token: "{TOKEN}"
        """
    )
    assert [(problem.line, problem.key) for problem in found] == [(4, "bots[1].name"), (5, "bots[1].token")]


def test_a_key_that_stands_twice_is_an_error() -> None:
    (found,) = problems(f'bots:\n  - name: a\n    token: "{TOKEN}"\n    name: b\n')
    assert (found.line, found.key, found.message) == (4, "bots[0].name", "stands twice")


@pytest.mark.parametrize("text", ["", "# only a comment\n", "- a\n", "bots: {}\n", "bots: []\n", "defaults: {}\n"])
def test_a_file_without_bots_is_refused(text: str) -> None:
    assert problems(text)


@pytest.mark.parametrize(
    "text",
    [
        "bots: [\n",
        "bots:\n\t- name: a\n",
        "a: &x [*x]\n",
        "bots: !!python/object:os.system {}\n",
        "a: *unknown\n",
        "{[1]: 2}\n",
    ],
)
def test_what_is_no_plain_yaml_is_refused_without_a_traceback(text: str) -> None:
    assert problems(text)


def test_anchors_and_merge_keys_work() -> None:
    fleet = parse(
        f"""
        bots:
          - &first
            name: a
            token: "{TOKEN}"
            log_level: debug
          - <<: *first
            name: b
            token: "{OTHER}"
        """
    )
    assert [(bot.name, bot.log_level) for bot in fleet.bots] == [("a", "DEBUG"), ("b", "DEBUG")]


def test_a_secret_shows_in_no_message_and_no_repr() -> None:
    fleet = parse(f'bots: [{{name: a, token: "{TOKEN}", assistant: {{api_key: sk-secret}}}}]')
    assert "AAAA" not in repr(fleet)
    assert "sk-secret" not in repr(fleet)
    found = problems('bots: [{name: a, token: "123:not a token but secret"}]')
    assert "secret" not in str(found)


def test_a_fleet_survives_its_own_json_with_secrets() -> None:
    fleet = parse(f'bots: [{{name: a, token: "{TOKEN}", access: {{allow: [3, 1, 2]}}, subscribe: [bot.*]}}]')
    assert Fleet.model_validate_json(fleet.model_dump_json()) == fleet


def test_a_file_that_cannot_be_read_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(InvalidFileError) as caught:
        load_fleet(tmp_path / "none.yaml", {})
    assert "none.yaml" in str(caught.value)
    assert caught.value.hint


def test_numbers_where_names_are_wanted_are_refused_with_their_line() -> None:
    found = problems(f'bots:\n  - name: 5\n    token: "{TOKEN}"\n')
    assert [(problem.line, problem.key) for problem in found] == [(2, "bots[0].name")]


def test_a_size_that_is_too_small_is_told_in_the_files_own_words() -> None:
    (found,) = problems(f'bots: [{{name: a, token: "{TOKEN}", limits: {{memory: 1M}}}}]')
    assert found.message == "input should be greater than or equal to 64M"
