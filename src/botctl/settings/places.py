"""Where things lie: the settings file, the data folder and what is in it.

Standard library only, so that `botctl status` need not load the settings model to find its daemon.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botctl.errors import InvalidFileError, Problem

SYSTEM_FILE = Path("/etc/botctl/botctl.toml")
LOCAL_FILE = Path("config/botctl.toml")
_LINE_IN_MESSAGE = re.compile(r" \(at line (\d+), column (\d+)\)$")


@dataclass(frozen=True)
class DataFolder:
    """The paths inside a data folder. Nothing is created by asking."""

    root: Path

    @property
    def run(self) -> Path:
        """Folder of what lives as long as the daemon."""
        return self.root / "run"

    @property
    def daemon_note(self) -> Path:
        """What the daemon says of itself, as JSON."""
        return self.run / "daemon.json"

    @property
    def boot_error(self) -> Path:
        """Why the last start failed, in the operator's words."""
        return self.run / "boot-error.txt"

    @property
    def api_token(self) -> Path:
        """What a command has to show to the daemon."""
        return self.root / "api.token"

    @property
    def bots(self) -> Path:
        """Where each bot has a folder of its own."""
        return self.root / "bots"

    @property
    def logs(self) -> Path:
        """Folder of the rotated logs."""
        return self.root / "logs"

    def log(self, name: str) -> Path:
        """The log of a bot, of `control` or of the `daemon`."""
        return self.logs / f"{name}.log"


def default_data_dir(env: Mapping[str, str] = os.environ) -> Path:
    """`/var/lib/botctl` for root, else `$XDG_STATE_HOME/botctl`, else `~/.local/state/botctl`."""
    if os.geteuid() == 0:
        return Path("/var/lib/botctl")
    state_home = env.get("XDG_STATE_HOME")
    return (Path(state_home) if state_home else Path.home() / ".local" / "state") / "botctl"


def settings_file(env: Mapping[str, str] = os.environ) -> Path | None:
    """The TOML file in force: `BOTCTL_CONFIG`, else `./config/botctl.toml`, else `/etc/botctl/botctl.toml`, else none.

    Raises InvalidFileError when `BOTCTL_CONFIG` names a file that isn't there.
    """
    named = env.get("BOTCTL_CONFIG")
    if named:
        path = Path(named).expanduser()
        if not path.is_file():
            raise InvalidFileError(
                [Problem(str(path), None, "", "is no file")],
                hint="Correct or unset the environment variable BOTCTL_CONFIG.",
            )
        return path
    return next((path for path in (LOCAL_FILE, SYSTEM_FILE) if path.is_file()), None)


def read_settings_file(path: Path) -> dict[str, Any]:
    """The file as a mapping. Raises InvalidFileError when it can't be read or is no TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidFileError([Problem(str(path), None, "", f"cannot be read: {error.strerror}")]) from error
    except UnicodeDecodeError as error:
        raise InvalidFileError([Problem(str(path), None, "", f"is not UTF-8: {error.reason}")]) from error
    except tomllib.TOMLDecodeError as error:
        message = str(error)
        place = _LINE_IN_MESSAGE.search(message)
        line = int(place[1]) if place else None
        text = _LINE_IN_MESSAGE.sub("", message)
        raise InvalidFileError(
            [Problem(str(path), line, "", f"is not TOML: {text}")],
            hint="Nothing was changed. config/botctl.example.toml shows every setting.",
        ) from error


def find_data_dir(flag: Path | None, env: Mapping[str, str] = os.environ) -> Path:
    """The data folder: the flag, `BOTCTL_DATA_DIR`, `data_dir` of the settings file, or the default; absolute."""
    if flag is not None:
        return flag.expanduser().absolute()
    named = env.get("BOTCTL_DATA_DIR")
    if named:
        return Path(named).expanduser().absolute()
    file = settings_file(env)
    if file is not None:
        written = read_settings_file(file).get("data_dir")
        if isinstance(written, str) and written:
            return Path(written).expanduser().absolute()
    return default_data_dir(env)
