"""Which files a bot may read, run and write, as Landlock's rules: what its process needs, and what its fleet file adds.

A rule is about what stands beneath a path, and can't take back a part of another one. So a folder in which something
private stands is never allowed as a whole: what it holds is allowed entry by entry, as it is when the bot starts.
"""

from __future__ import annotations

import contextlib
import fnmatch
import functools
import os
import ssl
import sys
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from botctl.runtime.confinement.landlock import KEEP, LIST, READ, RUN, USE, Access
from botctl.runtime.messages import Isolation


class Rule(NamedTuple):
    """Allow `access` beneath `path`."""

    path: str
    access: Access


OURS = (
    *("api.token", "audit.head", "bots", "code", "logs", "master.key", "postgres", "quarantine.pending"),
    *("run", "valkey"),
)
"""What stands in a data folder; named one by one for the case that handlers stand in it too."""

SECRET_NAMES = (".*", "#*#", "*~", "*.bak", "*.orig", "*.env", "*.key", "*.pem")
"""Of what no handler needs, right beside the fleet file. `files: read:` opens one of them by its path."""

_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store", "/gnu/store")

_CONFIGURATION = (
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/etc/pki/tls/certs",
    "/etc/pki/tls/cert.pem",
    "/etc/pki/tls/openssl.cnf",
    "/etc/pki/ca-trust/extracted",
    "/etc/ca-certificates",
    "/var/lib/ca-certificates",
    "/etc/crypto-policies",
    "/etc/fonts",
    "/proc/sys",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/loadavg",
    "/proc/uptime",
    "/proc/version",
    "/proc/filesystems",
    "/sys/devices/system/cpu",
    "/sys/devices/system/node",
    "/sys/kernel/mm/transparent_hugepage",
)

REPLACED = (
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/host.conf",
    "/etc/gai.conf",
    "/etc/services",
    "/etc/protocols",
    "/etc/localtime",
    "/etc/timezone",
    "/etc/passwd",
    "/etc/group",
    "/etc/mime.types",
    "/etc/os-release",
    "/etc/ld.so.cache",
)
"""Single files. Editors and network managers put new ones in their place, which a process that runs may not read."""

_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
_SHARED_MEMORY = "/dev/shm"
_FILE_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "TZDIR")
_PATH_VARIABLES = ("LD_LIBRARY_PATH", "SSL_CERT_DIR")


def rules(
    wish: Isolation, code: str, cgroup: str, *, shared_memory: bool, closed: Iterable[str] = ()
) -> Iterator[Rule]:
    """Everything that one bot is allowed. `code` is the copy of its handlers' code that it is to run, if any.

    `shared_memory` only where files of others there are closed to it by their owner. `closed` is private besides.
    """
    private, closed = private_paths(wish), frozenset(closed)
    kept = _Kept(private, closed)
    for rule in common():
        yield from kept.beneath(*rule)
    for path in (*_resolver(), code, cgroup):
        if path:
            yield Rule(path, READ)
    yield Rule(f"/proc/{os.getpid()}", READ)
    if wish.folder:
        yield from _handlers(wish, private, closed)
    for path in wish.read:
        yield from kept.beneath(os.path.realpath(path), RUN)
    for path in wish.write:
        yield from kept.beneath(os.path.realpath(path), KEEP)
    if shared_memory:
        yield Rule(_SHARED_MEMORY, KEEP)
    if wish.home:
        yield Rule(wish.home, KEEP)


@functools.cache
def common() -> tuple[Rule, ...]:
    """What every bot is allowed, but for what is private; once for a forkserver and all its children."""
    readable = (*imported(), *_CONFIGURATION, *certificates(), *_from_environment())
    found = [Rule(os.path.realpath(path), RUN) for path in (*_SYSTEM, *installed())]
    found += [Rule(os.path.realpath(path), READ) for path in readable]
    found += [Rule(path, USE) for path in _DEVICES]
    there = [rule for rule in dict.fromkeys(found) if os.path.exists(rule.path)]
    return (*there, *(Rule(path, READ) for path in REPLACED))


def installed() -> list[str]:
    """Where the interpreter and its packages stand."""
    return list(dict.fromkeys((sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix)))


def imported() -> list[str]:
    """Where modules are imported from, besides."""
    below = tuple(f"{prefix}/" for prefix in installed())
    return [path for path in sys.path if os.path.isabs(path) and not path.startswith(below)]


def certificates() -> list[str]:
    """Where OpenSSL looks for certificates, and where links there lead to."""
    paths = ssl.get_default_verify_paths()
    found = (paths.cafile, paths.capath, paths.openssl_cafile, paths.openssl_capath)
    return [os.path.realpath(path) for path in found if path]


def _handlers(wish: Isolation, private: set[str], closed: frozenset[str]) -> Iterator[Rule]:
    """The folder of the fleet file, but for what is private or closed; also what links right in it lead to."""
    real = os.path.realpath(wish.folder)
    originals = tuple(os.path.basename(one) for one in wish.private if os.path.realpath(os.path.dirname(one)) == real)
    private, links = set(private), []
    with contextlib.suppress(OSError), os.scandir(real) as entries:
        for entry in entries:
            if _is_secret(entry.name, originals):
                private |= {entry.path, os.path.realpath(entry.path)}
            elif entry.is_symlink():
                links.append(os.path.realpath(entry.path))
    never, elsewhere = _Kept(private), _Kept(closed)
    for target in links:
        if not never.touches(target) and not elsewhere.covers(target):
            yield from elsewhere.beneath(target, RUN)
    yield from _Kept(private, closed).beneath(real, RUN)


def _is_secret(name: str, originals: tuple[str, ...]) -> bool:
    """By its name, right beside the fleet file: hidden, settings, keys, or a copy of a private file."""
    if any(fnmatch.fnmatchcase(name.lower(), pattern) for pattern in SECRET_NAMES):
        return True
    return name.startswith(originals) and not name.endswith(".py")


def private_paths(wish: Isolation) -> set[str]:
    """What no rule may open, but one for just that path: the data folder, the fleet file, token files, settings."""
    found = {os.path.realpath(path) for path in wish.private}
    if wish.data:
        data = os.path.realpath(wish.data)
        found |= {data, *(os.path.join(data, name) for name in OURS)}
    return found


class _Kept:
    """Paths that rules for what is above them must leave out."""

    def __init__(self, *kinds: Iterable[str]) -> None:
        self.paths = frozenset().union(*kinds)
        self._above: set[str] = set()
        for path in self.paths:
            while (path := os.path.dirname(path)) not in self._above:
                self._above.add(path)

    def beneath(self, root: str, access: Access) -> Iterator[Rule]:
        """A rule for `root`, or, when one of these stands beneath it, rules for all else that it holds.

        Names in it can be listed then, whatever they are: an import needs that.
        """
        if root not in self._above:
            yield Rule(root, access)
            return
        yield Rule(root, access & LIST)
        with contextlib.suppress(OSError), os.scandir(root) as entries:
            for entry in entries:
                if entry.path not in self.paths and not entry.is_symlink():
                    yield from self.beneath(entry.path, access)

    def touches(self, path: str) -> bool:
        """Whether it is one of them, or above or beneath one."""
        return path in self._above or self.covers(path)

    def covers(self, path: str) -> bool:
        """Whether it is one of them, or beneath one."""
        while path not in self.paths:
            if path == (path := os.path.dirname(path)):
                return False
        return True


def _from_environment() -> Iterator[str]:
    for name in _FILE_VARIABLES:
        if value := os.environ.get(name):
            yield value
    for name in _PATH_VARIABLES:
        yield from filter(os.path.isabs, os.environ.get(name, "").split(":"))


def _resolver() -> Iterator[str]:
    """The folder that /etc/resolv.conf leads to, where that is one of the resolver's own."""
    folder = os.path.dirname(os.path.realpath("/etc/resolv.conf"))
    if folder.startswith(("/run/", "/var/run/")):
        yield folder
