"""The attacks on the bus in the order of their table. Import the modules through here."""

from __future__ import annotations

from attack.redis import reach  # isort: skip
from attack.redis import powers  # isort: skip
from attack.redis import own_stream  # isort: skip
from attack.redis import floods  # isort: skip
from attack.redis import outside  # isort: skip

__all__ = ["floods", "outside", "own_stream", "powers", "reach"]
