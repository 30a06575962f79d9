"""`[webhook]` of the settings: what Telegram takes, what belongs together, and where a mistake is."""

from __future__ import annotations

from pathlib import Path

import pytest

from botctl.errors import InvalidFileError
from botctl.settings.load import load_settings
from botctl.settings.webhook import WebhookSettings

GOOD = {"listen": "127.0.0.1:8480", "public_url": "https://bots.example.org/telegram/"}


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "botctl.toml"
    monkeypatch.setenv("BOTCTL_CONFIG", str(file))
    return file


def test_the_path_is_that_of_the_public_address_without_its_end() -> None:
    made = WebhookSettings.model_validate(GOOD)
    assert (made.public_url, made.path) == ("https://bots.example.org/telegram", "/telegram")
    assert WebhookSettings.model_validate({**GOOD, "public_url": "https://bots.example.org"}).path == ""


@pytest.mark.parametrize(
    "change",
    [
        {"listen": "8480"},
        {"listen": "127.0.0.1:70000"},
        {"listen": "unix:relative"},
        {"public_url": "bots.example.org"},
        {"public_url": "https://u:p@bots.example.org"},
        {"public_url": "https://bots.example.org/x?y"},
        {"public_url": "https://bots.example.org/{x}"},
        {"certificate": "/c.pem"},
        {"key": "/k.pem"},
        {"upload_certificate": True},
        {"max_connections": 0},
        {"max_connections": 101},
        {"allow_from": ["nowhere"]},
        {"allow_from": ["10.0.0.0/8"], "listen": "unix:/run/x.sock"},
        {"odd": 1},
    ],
)
def test_what_makes_no_sense_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"webhook|Webhook"):
        WebhookSettings.model_validate({**GOOD, **change})


@pytest.mark.parametrize(
    ("url", "taken"),
    [
        ("https://a.example/x", True),
        ("https://a.example:8443", True),
        ("https://a.example:8444", False),
        ("http://a.example", False),
    ],
)
def test_telegram_itself_wants_https_and_one_of_four_ports(url: str, taken: bool) -> None:
    assert (not WebhookSettings.model_validate({**GOOD, "public_url": url}).unacceptable) is taken


def test_variables_win_over_the_file(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written.write_text('[webhook]\nlisten = "127.0.0.1:1"\npublic_url = "https://a.example"\n')
    monkeypatch.setenv("BOTCTL_WEBHOOK_LISTEN", "127.0.0.1:2")
    monkeypatch.setenv("BOTCTL_WEBHOOK_ALLOW_FROM", "149.154.160.0/20, 91.108.4.0/22")
    found = load_settings().webhook
    assert found is not None
    assert (found.listen, found.public_url, len(found.allow_from)) == ("127.0.0.1:2", "https://a.example", 2)


def test_a_mistake_is_told_with_its_place(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written.write_text('[webhook]\nlisten = "127.0.0.1:1"\npublic_url = "ftp://a.example"\n')
    with pytest.raises(InvalidFileError) as told:
        load_settings()
    (problem,) = told.value.problems
    assert (problem.line, problem.key) == (3, "webhook.public_url")
    written.write_text('[webhook]\nlisten = "127.0.0.1:1"\npublic_url = "http://a.example"\n')
    with pytest.raises(InvalidFileError, match="HTTPS only"):
        load_settings()
    monkeypatch.setenv("BOTCTL_TELEGRAM_BASE_URL", "http://127.0.0.1:8081")
    assert load_settings().webhook is not None
    monkeypatch.setenv("BOTCTL_WEBHOOK_LISTN", "127.0.0.1:3")
    with pytest.raises(InvalidFileError, match="BOTCTL_WEBHOOK_LISTEN is meant"):
        load_settings()
