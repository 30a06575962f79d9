"""Imported once by the forkserver, so that `control` and set-up begin at once. Opens nothing, starts nothing."""

from __future__ import annotations

import botctl.control.process
import botctl.control.setup  # noqa: F401
