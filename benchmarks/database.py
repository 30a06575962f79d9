"""An embedded PostgreSQL of a benchmark alone, run with production's settings in a temporary folder that is removed."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from botctl.embedded.postgres import prepare_postgres
from botctl.embedded.probes import ping_postgres


@contextlib.contextmanager
def server() -> Iterator[str]:
    """The administrator's URL."""
    folder = Path(tempfile.mkdtemp(prefix="botctl-benchmark-"))
    folder.chmod(0o755)  # the server's own user has to be able to enter
    process: subprocess.Popen[bytes] | None = None
    try:
        made = prepare_postgres(folder / "postgres", max_connections=30)
        spec = made.spec
        process = subprocess.Popen(
            spec.argv, env=spec.env, cwd=spec.cwd, user=spec.uid, group=spec.gid,
            extra_groups=None if spec.uid is None else [], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + 30
        while not ping_postgres(made.admin_url):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the embedded PostgreSQL does not answer")
            time.sleep(0.02)
        yield made.admin_url
    finally:
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(spec.stop_signal)
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)
