"""`python -m botctl.sandbox`: run both emulators."""

from __future__ import annotations

import sys

from botctl.sandbox.server import main

if __name__ == "__main__":
    sys.exit(main())
