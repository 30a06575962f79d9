"""Makes the ground on which an intruder is let loose, and the daemon above it; for the tests of this folder."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pwd
import secrets
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import botctl
from attack.cases import Level
from integration.runtime.daemons import Daemon

HERE = Path(__file__).parent
TESTS = HERE.parents[1]
NOBODY = next(name for name in ("games", "nobody") if name in {entry.pw_name for entry in pwd.getpwall()})
"""An ordinary user, one that runs nothing else: what fails to stop an intruder must hurt nobody."""

UIDS = {"uid_base": 0x70000000, "uid_count": 2**27}
PATIENT = {"heartbeat_timeout": 60.0, "ready_timeout": 30.0, "stop_timeout": 2.0, "term_timeout": 0.5}


@dataclass(frozen=True)
class Setting:
    """Who the daemon is, with which interpreter it runs, and what is wished."""

    name: str
    level: Level
    wish: str
    user: str | None = None
    """None for whoever runs the tests."""
    closed: bool | None = None
    """Whether the interpreter stands below a folder that other uids can't enter; None for either."""

    @property
    def account(self) -> pwd.struct_passwd:
        return pwd.getpwnam(self.user) if self.user is not None else pwd.getpwuid(os.geteuid())


def python_path() -> str:
    """Where an interpreter other than ours finds what we import."""
    import msgspec

    places = (HERE, TESTS, TESTS / "integration/runtime", Path(botctl.__file__).parents[1])
    return os.pathsep.join(map(str, (*places, Path(msgspec.__file__).parents[1])))


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": python_path(), "PYTHONDONTWRITEBYTECODE": "1"}


def interpreter(account: pwd.struct_passwd, closed: bool | None) -> str | None:
    """One that this account can run; `closed` as in `Setting`."""
    minor = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for python in (sys.executable, f"/usr/bin/{minor}", f"/usr/local/bin/{minor}"):
        if not os.path.exists(python) or (closed is not None and closed == _runs(python, pwd.getpwnam(NOBODY))):
            continue
        if _runs(python, account):
            return python
    return None


def _runs(python: str, account: pwd.struct_passwd) -> bool:
    try:
        done = subprocess.run(
            [python, "-c", "import botctl.runtime.supervisor, setproctitle"],
            env=environment(),
            cwd="/",
            capture_output=True,
            check=False,
            timeout=60,
            **_as(account),
        )
    except OSError:
        return False
    return done.returncode == 0


def _as(account: pwd.struct_passwd) -> dict[str, Any]:
    if account.pw_uid == os.geteuid():
        return {}
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


class StageDaemon(Daemon):
    """`stage.py` in a process of its own, as an account."""

    def __init__(self, python: str, account: pwd.struct_passwd, folder: Path, fleet: dict[str, dict[str, Any]]) -> None:
        # As `Daemon` does, but for who it is.
        import queue

        self.folder = folder
        self.seen = []
        self._pings = 0
        self._entries = queue.Queue()
        self.process = subprocess.Popen(
            [python, "-P", str(HERE / "stage.py"), str(folder), json.dumps(fleet)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
            cwd="/",
            **_as(account),
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()


class Place:
    """A data folder, a folder of handlers beside it, sockets: all that is worth an attack. Belongs to the account."""

    def __init__(self, account: pwd.struct_passwd) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="botctl-attack-"))
        self.root.chmod(0o755)
        self.data, self.folder, self.logs = self.root / "data", self.root / "fleet", self.root / "daemon-logs"
        self.account = account
        for name, mode in {
            "run": 0o700,
            "logs": 0o750,
            "code": 0o700,
            "postgres": 0o711,
            "valkey/users": 0o700,
        }.items():
            (self.data / name).mkdir(parents=True)
            (self.data / name).chmod(mode)
        (self.folder / "shop").mkdir(parents=True)
        (self.folder / "secrets").mkdir()
        self.logs.mkdir()
        for name in ("master.key", "api.token", "postgres/admin.password", "valkey/users/users.acl", "logs/victim.log"):
            self._file(self.data / name, "a secret", 0o600)
        for name in ("secrets/a.token", ".env", "fleet.yaml", "bot.py", "shop/prices.py"):
            self._file(self.folder / name, "a = 'secret'", 0o644)
        for name in ("fleet.yaml.bak", "fleet.yaml~", "prod.env", "old-fleet.orig", "server.key", "server.pem"):
            self._file(self.folder / name, "a = 'secret'", 0o644)
        (self.folder / "shop/closed").mkdir(mode=0o700)
        self._file(self.folder / "shop/closed/readme", "a secret", 0o644)
        self._file(self.folder / "shop/accounts.json", "a secret", 0o600)
        for name, target in {"fleet": "fleet.yaml", "env": "prod.env", "accounts": "shop/accounts.json"}.items():
            (self.folder / f"link-to-{name}").symlink_to(target)
        self.shared = Path(f"/dev/shm/botctl-attack-{secrets.token_hex(8)}")
        self._file(self.shared, "shared", 0o600)
        self.set_uid = self.folder / "shop/set-uid"
        shutil.copy("/usr/bin/id", self.set_uid)
        self.abstract = f"botctl-attack-{secrets.token_hex(8)}"
        self._listeners = [socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)]
        self._listeners[0].bind(str(self.data / "run/api.sock"))
        self._listeners[1].bind("\0" + self.abstract)
        (self.data / "run/api.sock").chmod(0o600)
        for listener in self._listeners:
            listener.listen(64)
        if os.geteuid() == 0:
            for place, folders, files in os.walk(self.root):
                for name in (".", *folders, *files):
                    os.lchown(Path(place, name), account.pw_uid, account.pw_gid)
            os.chown(self.shared, account.pw_uid, account.pw_gid)
            os.chown(self.set_uid, 0, 0)
        self.set_uid.chmod(0o4755)

    def isolation(self, wish: str, bot_id: int) -> dict[str, Any]:
        """As `control` would wish it."""
        private = [str(self.folder / name) for name in ("fleet.yaml", "secrets/a.token")]
        return {
            "level": wish,
            "home": str(self.home(bot_id)),
            "data": str(self.data),
            "folder": str(self.folder),
            "private": private,
            **UIDS,
        }

    def home(self, bot_id: int) -> Path:
        return self.data / "bots" / str(bot_id)

    def fingerprint(self) -> str:
        """Changes when any file does, but for the bots' own."""
        found = hashlib.sha256()
        for place, folders, files in os.walk(self.root):
            if Path(place) == self.logs or Path(place).is_relative_to(self.data / "bots"):
                continue
            folders.sort()
            for name in sorted((*folders, *files)):
                path = Path(place, name)
                found.update(f"{path} {stat.S_IFMT(path.lstat().st_mode)} ".encode())
                if path.is_file():
                    found.update(path.read_bytes())
        return found.hexdigest()

    def close(self) -> None:
        for listener in self._listeners:
            listener.close()
        with contextlib.suppress(FileNotFoundError):
            self.shared.unlink()
        shutil.rmtree(self.root, ignore_errors=True)

    @staticmethod
    def _file(path: Path, text: str, mode: int) -> None:
        path.write_text(text)
        path.chmod(mode)


@contextlib.contextmanager
def place(account: pwd.struct_passwd) -> Iterator[Place]:
    made = Place(account)
    try:
        yield made
    finally:
        made.close()
