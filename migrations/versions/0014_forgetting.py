"""Counters that outlive what is forgotten, more that is forgotten, and an index for the messages of a chat.

Its SQL is in the folder of its name.
"""

from __future__ import annotations

from operator import methodcaller
from pathlib import Path

from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """Run the scripts in order of their names, each in one message."""
    connection = op.get_bind()
    adapted = connection.connection.dbapi_connection
    for script in sorted(Path(__file__).with_suffix("").glob("*.sql")):
        adapted.run_async(methodcaller("execute", script.read_text("utf-8")))
