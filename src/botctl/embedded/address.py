"""The administrator's URLs of embedded servers whose folders stand; nothing is started or changed."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from botctl.embedded.secrets_file import read_password
from botctl.errors import DataFolderError


def postgres_admin_url(folder: Path, *, user: str = "postgres", database: str = "botctl") -> str:
    """The superuser's URL of the PostgreSQL in `folder`. Raises DataFolderError when there is none."""
    password, port = _login(folder, "PostgreSQL")
    return f"postgresql://{user}:{password}@127.0.0.1:{port}/{database}?sslmode=disable"


def valkey_admin_url(folder: Path) -> str:
    """The administrator's URL of the Valkey in `folder`. Raises DataFolderError when there is none."""
    password, port = _login(folder, "Valkey")
    return f"redis://default:{password}@127.0.0.1:{port}/0"


def _login(folder: Path, server: str) -> tuple[str, str]:
    password = read_password(folder / "admin.password")
    try:
        port = (folder / "port").read_text("ascii").strip()
    except OSError:
        port = ""
    if password is None or not port:
        raise DataFolderError(
            f"{folder} holds no embedded {server} that has ever been started",
            hint="Start the daemon with `botctl start` first, or name its folder with --data-dir.",
        )
    return quote(password, safe=""), port
