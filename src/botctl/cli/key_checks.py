"""What `doctor` says of the master key: where it is, whether it can be used, and whether a copy of it is called for."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from botctl.cli.findings import Finding, Verdict
from botctl.errors import BotctlError
from botctl.security import master_keys

_SUBJECT = "master key"


def master_key(data_dir: Path, env: Mapping[str, str] = os.environ) -> Iterator[Finding]:
    """One finding. Whether it is the right one for the database, the start finds out."""
    try:
        found = master_keys.find(env, data_dir)
    except BotctlError as error:
        yield Finding(Verdict.FAIL, _SUBJECT, error.message, error.hint)
        return
    if found is None:
        yield Finding(Verdict.OK, _SUBJECT, f"none yet; the first start makes {data_dir / master_keys.FILE_NAME}")
        return
    place = master_keys.place(found.source, data_dir)
    if len(found.keys.keys) > 1:
        held = ", ".join(str(version) for version in found.keys.versions)
        yield Finding(
            Verdict.WARN,
            _SUBJECT,
            f"versions {held} ({place}): a rotation is under way, or a data key can't be unwrapped",
            "`botctl secrets rotate-master` finishes it, or says which data keys need the older version.",
        )
        return
    hint = None
    if found.source is master_keys.Source.FILE:
        hint = "Keep a copy elsewhere: without it nothing that is sealed can be read."
    yield Finding(Verdict.OK, _SUBJECT, f"version {found.keys.current.version} ({place})", hint)
