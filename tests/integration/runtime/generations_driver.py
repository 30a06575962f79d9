"""`driver.py` with a preloaded module that tests rewrite, and words for generations of the forkserver.

    generations_driver.py LOG_FOLDER FLEET NUDGES

More commands on stdin: `generation VERB NUMBER`, `assign NAME GENERATION`. Without NUDGES (`False`) a stopped
forkserver is not told to go on.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import driver
from driver import Driver, tell_lifecycle

from botctl.runtime import fork_client, messages


class GenerationsDriver(Driver):
    def do_generation(self, rest: str) -> None:
        verb, number = rest.split()
        children = list(self.supervisor.children.values())
        done, message, number = self.supervisor.generations.command(verb, int(number), children)
        self.outlet.tell("answered", done=done, message=message, generation=number)

    def do_assign(self, rest: str) -> None:
        name, generation = rest.split()
        key = next(child.key for child in self.supervisor.children.values() if child.name == name)
        sources = {key: messages.Source(generation=int(generation))}
        self.supervisor.desk.handle(messages.Assign(sources=sources))


if __name__ == "__main__":
    os.umask(0o022)
    driver.MODULES.append("changing_child")
    if sys.argv[3] == "False":
        fork_client.NUDGE_AFTER = 1e9
    made = GenerationsDriver(Path(sys.argv[1]), json.loads(sys.argv[2]))
    tell_lifecycle(made.outlet)
    made.run()
