"""When a crashed PostgreSQL may sync a whole file system at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from botctl.embedded.disks import file_system, sync_method

MOUNTS = """\
21 28 0:20 / /proc rw,nosuid - proc proc rw
28 1 254:0 / / rw,relatime shared:1 - overlay overlay rw,lowerdir=/a:/b
31 28 254:1 / /var/lib rw,relatime - ext4 /dev/vdb rw
32 31 0:40 / /var/lib/with\\040blank rw - xfs /dev/vdc rw
33 31 0:41 / /var/lib/shadowed rw - ext4 /dev/vdd rw
34 31 0:42 / /var/lib/shadowed rw - fuse.sshfs somebody:/ rw
a line that means nothing
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/srv/bots", "overlay"),
        ("/var/lib", "ext4"),
        ("/var/lib/botctl/postgres/data", "ext4"),
        ("/var/library", "overlay"),
        ("/var/lib/with blank/data", "xfs"),
        ("/var/lib/shadowed/data", "fuse.sshfs"),
    ],
)
def test_the_innermost_mount_tells_the_file_system(path: str, kind: str) -> None:
    assert file_system(Path(path), MOUNTS) == kind


@pytest.mark.parametrize(
    ("folder", "release", "method"),
    [
        ("/var/lib/botctl", "6.1.0-18-amd64", "syncfs"),
        ("/var/lib/botctl", "5.8.0", "syncfs"),
        ("/var/lib/botctl", "5.7.19-generic", "fsync"),
        ("/var/lib/botctl", "4.19.0", "fsync"),
        ("/var/lib/botctl", "unheard-of", "fsync"),
        ("/var/lib/shadowed", "6.1.0", "fsync"),
        ("/srv/bots", "6.1.0", "fsync"),
    ],
)
def test_a_file_system_is_synced_as_a_whole_only_where_that_is_known_to_be_safe(
    folder: str, release: str, method: str
) -> None:
    assert sync_method(Path(folder), release=release, mounts=MOUNTS) == method


def test_without_a_list_of_mounts_each_file_is_synced() -> None:
    assert sync_method(Path("/var/lib/botctl"), release="6.1.0", mounts="") == "fsync"
