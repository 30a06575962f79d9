"""The example files of the repository are valid as they stand."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from botctl.fleet import load_fleet
from botctl.fleet.load import referenced_variables
from botctl.settings.load import load_settings
from botctl.settings.model import Settings

CONFIG = Path(__file__).parents[3] / "config"


def test_the_example_fleet_is_valid_once_its_variables_are_set() -> None:
    path = CONFIG / "fleet.example.yaml"
    names = sorted(referenced_variables(path.read_text()))
    env = {name: f"{number}:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA" for number, name in enumerate(names, start=1)}
    assert len(load_fleet(path, env).bots) == 2


def test_the_demos_fleet_needs_no_variable() -> None:
    fleet = load_fleet(CONFIG.parent / "examples/concierge/demo.yaml", {})
    assert [bot.name for bot in fleet.bots] == ["nora", "gus", "pip"]


def test_the_example_settings_show_every_key_and_are_valid_when_uncommented(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    text = (CONFIG / "botctl.example.toml").read_text()
    uncommented = re.sub(r"(?m)^# ?(\w+ = )", r"\1", text)
    shown = set(re.findall(r"(?m)^(\w+) = ", uncommented))
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
