"""The example files of the repository are valid as they stand."""

from __future__ import annotations

import re
import shutil
import subprocess
import textwrap
import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from botctl.errors import InvalidFileError
from botctl.fleet import Fleet, load_fleet
from botctl.fleet.load import parse_fleet, referenced_variables
from botctl.fleet.threats import Mode
from botctl.settings.load import load_settings
from botctl.settings.model import Settings
from botctl.settings.webhook import WebhookSettings

CONFIG = Path(__file__).parents[3] / "config"


def test_the_example_fleet_is_valid_once_its_variables_are_set() -> None:
    path = CONFIG / "fleet.example.yaml"
    names = sorted(referenced_variables(path.read_text()))
    env = {name: f"{number}:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA" for number, name in enumerate(names, start=1)}
    assert len(load_fleet(path, env).bots) == 2


def _parsed(text: str, env: Mapping[str, str] = MappingProxyType({})) -> Fleet:
    return parse_fleet(text, file="fleet.yaml", folder=CONFIG, env=env)


def test_the_example_fleet_is_valid_with_its_comments_uncommented() -> None:
    text = (CONFIG / "fleet.example.yaml").read_text()
    uncommented, count = re.subn(r"(?m)^( +)# (?!token_file)(\w+: )", r"\1\2", text)
    uncommented = re.sub(r"(?m)^# ((groups:| +\w+:).*)$", r"\1", uncommented)
    assert count > 8
    names = sorted(referenced_variables(uncommented))
    env = {name: f"{number}:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA" for number, name in enumerate(names, start=1)}
    bots = _parsed(uncommented, env).bots
    assert bots[0].threats.mode("bad_events", hard=False) is Mode.OFF


def test_the_tuning_in_the_page_on_threats_is_valid() -> None:
    page = (CONFIG.parent / "docs" / "threats.md").read_text()
    examples = re.findall(r"(?ms)^```yaml\n(threats:.*?)^```", page)
    assert examples
    for example in examples:
        text = f"defaults:\n{textwrap.indent(example, '  ')}\nbots:\n  - {{name: a, token: '7:{'A' * 35}'}}\n"
        (bot,) = _parsed(text).bots
        assert bot.threats.mode("bad_events", hard=False) is Mode.OFF


@pytest.mark.parametrize("key", ["soft", "hard"])
def test_off_needs_no_quotes(key: str) -> None:
    text = f"bots:\n  - {{name: a, token: '7:{'A' * 35}', threats: {{{key}: off}}}}\n"
    (bot,) = _parsed(text).bots
    assert bot.threats.mode("canary", hard=key == "hard") is Mode.OFF


@pytest.mark.parametrize(
    ("tuning", "words"), [("watch_at: 11", "above block_at"), ("soft: on", "soft"), ("block_at: 3", "above block_at")]
)
def test_tuning_that_makes_no_sense_is_refused(tuning: str, words: str) -> None:
    text = f"bots:\n  - {{name: a, token: '7:{'A' * 35}', threats: {{{tuning}}}}}\n"
    with pytest.raises(InvalidFileError) as told:
        _parsed(text)
    assert any(words in f"{one.key} {one.message}" for one in told.value.problems)


def test_the_demos_fleet_needs_no_variable() -> None:
    fleet = load_fleet(CONFIG.parent / "examples/concierge/demo.yaml", {})
    assert [bot.name for bot in fleet.bots] == ["nora", "gus", "pip"]


def test_the_example_settings_show_every_key_and_are_valid_when_uncommented(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    text = (CONFIG / "botctl.example.toml").read_text()
    uncommented = re.sub(r"(?m)^# ?(\w+ = |\[\w)", r"\1", text)
    document = tomllib.loads(uncommented)
    shown = set(document)
    assert set(document["webhook"]) == set(WebhookSettings.model_fields)
    assert shown == set(Settings.model_fields) - {"openai_api_key", "openai_base_url"}
    file = tmp_path / "botctl.toml"
    file.write_text(uncommented)
    monkeypatch.setenv("BOTCTL_CONFIG", str(file))
    load_settings()


def test_the_unit_file_is_one_that_systemd_understands(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd-analyze(1)")
    unit = tmp_path / "botctl.service"
    unit.write_text((CONFIG / "systemd/botctl.service").read_text().replace("/opt/botctl/bin/botctl", "/bin/true"))
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False, timeout=60)
    # It exits with 0 also when it ignores a line.
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
