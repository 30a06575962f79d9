"""Warms the tests' forkserver as the daemon's does: everything imported, run through once, and frozen."""

from __future__ import annotations

import gc

from botctl.bot import preload

preload.warm()
gc.collect()
gc.freeze()
