"""A daemon without servers: the real supervisor over children of `children_for_tests`, told what to do on stdin.

    driver.py LOG_FOLDER '{"name": {"habit": "well", "policy": {…}}, …}'

Writes one JSON line for each entry of the daemon's log. Commands on stdin, a line each: `stop NAME`, `start NAME`, …
"""

from __future__ import annotations

import json
import os
import resource
import sys
import threading
from dataclasses import replace
from pathlib import Path

import msgspec

from botctl.observability.redaction import Redactor
from botctl.runtime import linux, messages
from botctl.runtime.children import Child, Kind, Limits
from botctl.runtime.launcher import Launcher
from botctl.runtime.logs import LogKeeper
from botctl.runtime.supervisor import ProcessSupervisor
from botctl.supervision.model import Policy, Record


class Driver:
    def __init__(self, folder: Path, fleet: dict[str, dict]) -> None:
        redactor = Redactor()
        self.logs = LogKeeper(folder, redact=redactor.redact_bytes, max_bytes=200_000, backups=2)
        preload = ["children_for_tests"]
        self.supervisor = ProcessSupervisor(
            self, lambda report: Launcher(preload, lambda: self.logs.open("forkserver")[1], report), self.logs
        )
        for key, (name, bot) in enumerate(fleet.items(), start=1):
            policy = replace(Policy(first_delay=0.02, max_delay=0.5), **bot.get("policy", {}))
            config = msgspec.Raw(json.dumps(bot).encode())
            child = Child(key, name, Kind.BOT, Record(key, policy), entry="children_for_tests:main", config=config)
            child.limits = Limits(**bot.get("limits", {}))
            self.supervisor.add(child)

    def run(self) -> None:
        linux.adopt_orphans()
        self.logs.start()
        self.supervisor.install_signals()
        for child in list(self.supervisor.children.values()):
            self.supervisor.want(child)
        threading.Thread(target=self.listen, daemon=True).start()
        self.supervisor.run()
        self.logs.stop(2)

    def listen(self) -> None:
        for number, line in enumerate(sys.stdin, start=1):
            verb, _, name = line.strip().partition(" ")
            if verb == "snapshot":
                print(
                    json.dumps(
                        {
                            "event": "snapshot",
                            "snapshot": json.loads(msgspec.json.encode(self.supervisor.desk.snapshot())),
                        }
                    ),
                    flush=True,
                )
                continue
            # The supervisor has one thread; commands reach it like everything else, through its loop.
            self.supervisor.call(
                lambda verb=verb, name=name, number=number: self.supervisor.desk.handle(
                    messages.Command(id=number, verb=verb, name=name)
                )
            )

    def log(self, level: str, event: str, **fields: object) -> None:
        print(json.dumps({"level": level, "event": event, **fields}), flush=True)

    def setup_done(self, result: bytes) -> None:
        raise AssertionError

    def boot_failed(self, message: str) -> None:
        print(json.dumps({"event": "boot failed", "message": message}), flush=True)
        self.supervisor.shut_down()

    def serving(self) -> None:
        raise AssertionError

    def configure(self, child: Child) -> messages.Configure:
        return messages.Configure(name=child.name, incarnation=child.record.incarnation, config=child.config)

    def keep_secret(self, secrets: list[str]) -> None:
        raise AssertionError

    def pulse(self, states: dict[str, int]) -> None:
        self.states = states

    def reloading(self) -> None:
        raise AssertionError

    def desired(self, generation: int) -> None:
        raise AssertionError


if __name__ == "__main__":
    os.umask(0o022)
    if len(sys.argv) > 3 and int(sys.argv[3]):
        resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[3]), int(sys.argv[3])))
    Driver(Path(sys.argv[1]), json.loads(sys.argv[2])).run()
