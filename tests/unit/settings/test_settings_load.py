"""Settings: command line over environment over file, and errors that say which of them is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from botctl.errors import InvalidFileError
from botctl.settings.load import load_settings
from botctl.settings.places import default_data_dir, find_data_dir, settings_file


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("CONFIG", "DATA_DIR", "FLEET", "DATABASE_URL", "REDIS_URL", "TELEGRAM_BASE_URL", "NAMESPACE"):
        monkeypatch.delenv(f"BOTCTL_{name}", raising=False)
    for name in ("BOTCTL_LOG_FORMAT", "BOTCTL_LOG_LEVEL", "BOTCTL_API_LISTEN", "OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def write(text: str) -> Path:
    path = Path("config/botctl.toml")
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def test_without_anything_the_servers_are_embedded_and_telegram_is_telegram() -> None:
    settings = load_settings()
    assert settings.database_url is None
    assert settings.redis_url is None
    assert settings.telegram_base_url == "https://api.telegram.org"
    assert settings.fleet == Path.cwd() / "fleet.yaml"
    assert settings.data_dir == default_data_dir()


def test_the_command_line_wins_over_the_environment_and_that_over_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    write('data_dir = "/file"\nnamespace = "file"\nlog_level = "debug"\n')
    monkeypatch.setenv("BOTCTL_DATA_DIR", "/environment")
    monkeypatch.setenv("BOTCTL_NAMESPACE", "environment")
    settings = load_settings(data_dir=Path("/flag"), fleet=None)
    assert (settings.data_dir, settings.namespace, settings.log_level) == (Path("/flag"), "environment", "DEBUG")


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    write('namespace = "file"\n')
    monkeypatch.setenv("BOTCTL_NAMESPACE", "")
    assert load_settings().namespace == "file"


def test_openais_variables_are_the_ordinary_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://localhost:8080/v1/")
    settings = load_settings()
    assert settings.openai_api_key is not None
    assert settings.openai_api_key.get_secret_value() == "sk-secret"
    assert settings.openai_base_url == "http://localhost:8080/v1"
    assert "sk-secret" not in repr(settings)


def refused() -> str:
    with pytest.raises(InvalidFileError) as caught:
        load_settings()
    assert caught.value.hint
    return str(caught.value)


def test_an_unknown_key_of_the_file_is_an_error_with_its_line() -> None:
    write('namespace = "x"\n\nname_space = "y"\n')
    assert refused() == "config/botctl.toml:3: name_space: unknown key"


def test_an_unknown_table_is_an_error_with_its_line() -> None:
    write('namespace = "x"\n[redis]\nurl = "y"\n')
    assert refused() == "config/botctl.toml:2: redis: unknown key"


def test_a_wrong_value_of_the_file_is_named_with_line_and_key() -> None:
    write('# settings\nlog_format = "xml"\n')
    assert refused().startswith("config/botctl.toml:2: log_format: ")


def test_a_wrong_variable_is_named_as_such_even_if_the_file_has_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    write('log_format = "json"\n')
    monkeypatch.setenv("BOTCTL_LOG_FORMAT", "xml")
    assert refused().startswith("environment: BOTCTL_LOG_FORMAT: ")


def test_every_wrong_value_is_reported() -> None:
    write('log_format = "xml"\napi_listen = "here"\n')
    assert len(refused().splitlines()) == 2


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BOTCTL_DATABASE_URL", "mysql://u:hidden@h/d"),
        ("BOTCTL_DATABASE_URL", "postgresql://u:hidden@h:port/d"),
        ("BOTCTL_REDIS_URL", "http://u:hidden@h"),
        ("BOTCTL_REDIS_URL", "redis://"),
        ("BOTCTL_TELEGRAM_BASE_URL", "api.telegram.org"),
        ("BOTCTL_API_LISTEN", "127.0.0.1:99999"),
        ("BOTCTL_NAMESPACE", "Has Space"),
        ("OPENAI_BASE_URL", "ftp://h"),
    ],
)
def test_a_wrong_variable_is_refused_without_showing_its_secret(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    message = refused()
    assert message.startswith(f"environment: {name}: ")
    assert "hidden" not in message


def test_a_file_that_is_no_toml_is_named_with_its_line() -> None:
    write('namespace = "x"\nlog_level = \n')
    assert refused().startswith("config/botctl.toml:2: is not TOML: ")


def test_a_key_belongs_to_the_environment_only() -> None:
    write('openai_api_key = "sk-secret"\n')
    message = refused()
    assert "OPENAI_API_KEY" in message
    assert "sk-secret" not in message


def test_a_config_file_that_is_named_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOTCTL_CONFIG", "/nowhere/botctl.toml")
    assert "/nowhere/botctl.toml" in refused()


def test_the_named_config_file_wins_over_the_local_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write('namespace = "local"\n')
    other = tmp_path / "other.toml"
    other.write_text('namespace = "named"\n')
    monkeypatch.setenv("BOTCTL_CONFIG", str(other))
    assert load_settings().namespace == "named"
    assert settings_file({}) == Path("config/botctl.toml")


def test_the_data_folder_is_found_without_the_whole_settings() -> None:
    write('data_dir = "here"\n')
    assert find_data_dir(None, {}) == Path.cwd() / "here"
    assert find_data_dir(None, {"BOTCTL_DATA_DIR": "/there"}) == Path("/there")
    assert find_data_dir(Path("flag"), {"BOTCTL_DATA_DIR": "/there"}) == Path.cwd() / "flag"


def test_the_default_data_folder_is_the_systems_for_root_and_the_users_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert default_data_dir({}) == Path("/var/lib/botctl")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert default_data_dir({"XDG_STATE_HOME": "/state"}) == Path("/state/botctl")
    assert default_data_dir({}) == Path.home() / ".local/state/botctl"
