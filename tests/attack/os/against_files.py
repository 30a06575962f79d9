"""Attacks on files: reading what is secret, writing what is others'."""

from __future__ import annotations

import ctypes
import os
import struct
from pathlib import Path

import botctl
from attack.cases import attack
from attack.os.terrain import AREA, OPEN, Ground, RefusedError, any_of, checked, libc, read_file

COPIES = ("prod.env", "fleet.yaml.bak", "fleet.yaml~", "old-fleet.orig", "server.key", "server.pem", "link-to-env")
"""Secrets by their name."""


@attack("read the master key", area=AREA, none=OPEN)
def master_key(ground: Ground) -> str:
    return read_file(ground.data, "master.key")


@attack("read the API's token", area=AREA, none=OPEN)
def api_token(ground: Ground) -> str:
    return read_file(ground.data, "api.token")


@attack("read log files", area=AREA, none=OPEN)
def logs(ground: Ground) -> str:
    return any_of([lambda: os.listdir(f"{ground.data}/logs"), lambda: read_file(ground.data, "logs/victim.log")])


@attack("read the folders of the embedded servers", area=AREA, none=OPEN)
def servers(ground: Ground) -> str:
    files = ("postgres/admin.password", "valkey/users/users.acl")
    return any_of([lambda name=name: read_file(ground.data, name) for name in files])


@attack("read the fleet file, token files and hidden files beside the handlers", area=AREA, none=OPEN)
def fleet_file(ground: Ground) -> str:
    names = ("fleet.yaml", "secrets/a.token", ".env", "link-to-fleet")
    return any_of([lambda name=name: read_file(ground.folder, name) for name in names])


@attack("read copies of the fleet file, settings and keys beside the handlers", area=AREA, none=OPEN)
def copies(ground: Ground) -> str:
    return any_of([lambda name=name: read_file(ground.folder, name) for name in COPIES])


@attack("read what its mode keeps for the daemon's user, beside the handlers", area=AREA, landlock=OPEN, none=OPEN)
def closed_by_mode(ground: Ground) -> str:
    names = ("shop/accounts.json", "shop/closed/readme", "link-to-accounts")
    return any_of([lambda name=name: read_file(ground.folder, name) for name in names])


@attack("read another bot's own folder", area=AREA, none=OPEN)
def others_folder(ground: Ground) -> str:
    return any_of([lambda: os.listdir(ground.victims_home), lambda: read_file(ground.victims_home, "notes")])


@attack("read files of the system that hold secrets", area=AREA)
def system_secrets(_: Ground) -> str:
    return any_of([lambda path=path: read_file(path) for path in ("/etc/shadow", "/etc/sudoers", "/dev/mem")])


@attack("read what others share in /dev/shm", area=AREA, none=OPEN)
def shared_memory(ground: Ground) -> str:
    return read_file(ground.shared)


@attack("write into the handlers, the data folder or another bot's folder", area=AREA, none=OPEN)
def write(ground: Ground) -> str:
    folders = (ground.folder, f"{ground.folder}/shop", ground.data, f"{ground.data}/code", ground.victims_home)
    return any_of([lambda folder=folder: Path(folder, "planted.py").write_text("import os") for folder in folders])


@attack("change, rename or remove a handler", area=AREA, none=OPEN)
def change_handler(ground: Ground) -> str:
    handler = Path(ground.folder, "bot.py")
    tries = (
        lambda: os.truncate(handler, 0),
        lambda: handler.open("a").write("import os"),
        lambda: handler.rename(handler.with_suffix(".old")),
        lambda: Path(ground.folder, "shop/prices.py").unlink(),
    )
    return any_of(tries)


@attack("write into installed packages, or their compiled files", area=AREA)
def packages(_: Ground) -> str:
    places = (Path(botctl.__file__).parent, Path(os.__file__).parent, Path(os.__file__).parent / "__pycache__")
    return any_of([lambda place=place: (place / "planted.py").write_text("import os") for place in places])


@attack("change the modes, owners or times of the daemon's files", area=AREA, landlock=OPEN, none=OPEN)
def modes(ground: Ground) -> str:
    key = f"{ground.data}/master.key"
    return any_of([lambda: os.chmod(key, 0o600), lambda: os.chown(key, os.getuid(), -1), lambda: os.utime(key)])


@attack("reach a file through a symbolic link", area=AREA, none=OPEN)
def symbolic_link(ground: Ground) -> str:
    links = {"key": f"{ground.data}/master.key", "up": ground.data, "fleet": f"{ground.folder}/fleet.yaml"}
    for name, target in links.items():
        Path(ground.home, name).symlink_to(target)
    return any_of([lambda name=name: read_file(ground.home, name) for name in ("key", "up/master.key", "fleet")])


@attack("reach a file through a hard link", area=AREA, none=OPEN)
def hard_link(ground: Ground) -> str:
    tries = {"key": f"{ground.data}/master.key", "fleet": f"{ground.folder}/fleet.yaml"}

    def link(name: str, target: str) -> str:
        os.link(target, f"{ground.home}/hard-{name}")
        return read_file(ground.home, f"hard-{name}")

    return any_of([lambda name=name, target=target: link(name, target) for name, target in tries.items()])


@attack("move one's own folder, or put another in its place", area=AREA, none=OPEN)
def move_home(ground: Ground) -> str:
    os.rename(ground.home, f"{ground.home}-moved")
    os.rename(f"{ground.home}-moved", ground.home)
    return "moved"


@attack("open a file by its handle (open_by_handle_at)", area=AREA)
def by_handle(ground: Ground) -> str:
    handle = ctypes.create_string_buffer(struct.pack("Ii", 128, 0) + bytes(128))
    mount = ctypes.c_int()
    target = f"{ground.data}/master.key".encode()
    checked(libc.name_to_handle_at(-100, target, handle, ctypes.byref(mount), 0))
    at = os.open(ground.home, os.O_RDONLY)
    return os.read(checked(libc.open_by_handle_at(at, handle, os.O_RDONLY)), 100).decode()


@attack("mount something over the system's files", area=AREA, none=f"{OPEN} where users may make namespaces")
def mount(_: Ground) -> str:
    child = os.fork()
    if child == 0:
        libc.unshare(0x10000000 | 0x00020000)  # CLONE_NEWUSER, CLONE_NEWNS
        os._exit(0 if libc.mount(b"none", b"/etc", b"tmpfs", 0, None) == 0 else 1)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0:
        raise RefusedError("it can't mount")
    return "mounted"
