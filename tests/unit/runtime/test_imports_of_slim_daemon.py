"""The daemon stays slim by what it does not import; the figure itself is measured in an end-to-end run."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("asyncio", "pydantic", "structlog", "sqlalchemy", "asyncpg", "redis", "telegram", "openai", "typer", "rich")


def test_the_daemon_imports_nothing_heavy():
    code = (
        "import sys, botctl.cli.daemon, botctl.embedded.postgres, botctl.embedded.valkey;"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert found.stdout.strip() == "[]"
