"""A daemon without servers, for intruders: the driver of `integration/runtime`, hardened as the daemon is.

    stage.py LOG_FOLDER '{"name": {"habit": …, "isolation": {…}}, …}'

`isolation` is the JSON of `messages.Isolation`; a child without it is one of ours, such as `control` would be.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from pathlib import Path
from typing import Any

import driver
import msgspec

from botctl.runtime import linux, messages
from botctl.runtime.children import Child

driver.MODULES.append("intruder")


class Stage(driver.Driver):
    def __init__(self, folder: Path, fleet: dict[str, dict[str, Any]]) -> None:
        super().__init__(folder, fleet)
        for child in self.supervisor.children.values():
            wish = fleet[child.name].get("isolation")
            child.isolation = msgspec.convert(wish, messages.Isolation) if wish is not None else None

    def configure(self, child: Child) -> messages.Configure:
        return msgspec.structs.replace(super().configure(child), isolation=child.isolation)

    def do_tell(self, rest: str) -> None:
        """`tell NAME JSON`: an Adjust with these settings."""
        name, _, settings = rest.partition(" ")
        child = next(child for child in self.supervisor.children.values() if child.name == name)
        self.supervisor._wire.send(child, messages.Adjust(settings=json.loads(settings)))


if __name__ == "__main__":
    linux.undumpable()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.umask(0o022)
    stage = Stage(Path(sys.argv[1]), json.loads(sys.argv[2]))
    driver.tell_lifecycle(stage.outlet)
    stage.run()
