"""Where the migrations are: beside the sources in a checkout, inside the package when installed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import botctl
from botctl.errors import BotctlError
from botctl.storage import migrate

CHECKOUT = Path(__file__).parents[3]


def test_a_checkout_has_them_at_its_root() -> None:
    assert migrate.migrations_folder() == CHECKOUT / "migrations"


def test_an_installation_has_them_in_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site-packages" / "botctl"
    shutil.copytree(CHECKOUT / "migrations", package / "migrations")
    monkeypatch.setattr(botctl, "__file__", str(package / "__init__.py"))
    assert migrate.migrations_folder() == package / "migrations"
    assert migrate.head() >= "0001"


def test_without_them_the_operator_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(botctl, "__file__", str(tmp_path / "site-packages" / "botctl" / "__init__.py"))
    with pytest.raises(BotctlError, match="migrations are missing"):
        migrate.migrations_folder()
