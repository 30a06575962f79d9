"""What the forkserver imports for set-up and `control`, so that both start at once and share their memory."""

from __future__ import annotations

import alembic.command  # noqa: F401

import botctl.control.process
import botctl.control.setup  # noqa: F401
