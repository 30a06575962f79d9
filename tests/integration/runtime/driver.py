"""A daemon without servers: the real supervisor over children with one habit each, told what to do on stdin.

    driver.py LOG_FOLDER '{"name": {"habit": "well", "policy": {…}, "limits": {…}}, …}' [DESCRIPTORS]

A habit is a function `do_HABIT` of `children_for_tests`, or of another module as `module.habit`. Writes one JSON line
for each entry of the daemon's log and for each lifecycle record (event `lifecycle`). Commands on stdin, a line each:
those of operators (`stop NAME`, `start` for all, …) and the methods `do_…` below.
"""

from __future__ import annotations

import json
import os
import queue
import random
import resource
import sys
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from botctl.observability.redactors import Redactors
from botctl.runtime import linux, messages
from botctl.runtime.children import Child, Kind, Limits
from botctl.runtime.launcher import Launcher
from botctl.runtime.logs import LogKeeper
from botctl.runtime.record_outbox import RecordOutbox
from botctl.runtime.supervisor import ProcessSupervisor
from botctl.supervision.model import Policy, Record

MODULES = ["children_for_tests", "attackers", "stuck", "families"]


class Supervisor(ProcessSupervisor):
    """Notes how long each timed heartbeat was under way, from its child's clock to its being handled."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.lags: list[float] = []

    def _handle(self, child: Child, message: messages.ControlUpward) -> None:
        if isinstance(message, messages.Heartbeat) and "sent" in message.gauges:
            self.lags.append(time.monotonic() - message.gauges["sent"])
        super()._handle(child, message)


class Outlet:
    """Lines to stdout from a thread of its own: whoever reads them slowly doesn't hold up the loop."""

    def __init__(self) -> None:
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def tell(self, event: str, **fields: object) -> None:
        self._lines.put(json.dumps({"event": event, **fields}))

    def stop(self) -> None:
        self._lines.put(None)
        self._thread.join(5)

    def _run(self) -> None:
        # A signal may cut a long write short; a file object goes on where it was cut.
        with open(1, "wb", closefd=False) as out:
            while (line := self._lines.get()) is not None:
                out.write(line.encode() + b"\n")
                out.flush()


class Driver:
    def __init__(self, folder: Path, fleet: dict[str, dict[str, Any]]) -> None:
        self.outlet = Outlet()
        self.failed = False
        self.logs = LogKeeper(folder, redact=Redactors().redact, max_bytes=200_000, backups=2)
        self.supervisor = Supervisor(
            self, lambda report: Launcher(MODULES, lambda: self.logs.open("forkserver")[1], report), self.logs
        )
        for key, (name, bot) in enumerate(fleet.items(), start=1):
            policy = replace(Policy(first_delay=0.02, max_delay=0.5), **bot.get("policy", {}))
            config = msgspec.Raw(json.dumps(bot).encode())
            module, _, _ = bot["habit"].rpartition(".")
            entry = f"{module or 'children_for_tests'}:main"
            child = Child(key, name, Kind.BOT, Record(key, policy), entry=entry, config=config)
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
        self.outlet.stop()
        if self.failed:
            sys.exit(1)

    def listen(self) -> None:
        for line in sys.stdin:
            verb, _, rest = line.rstrip("\n").partition(" ")
            own = getattr(self, f"do_{verb}", None)
            # The supervisor has one thread; commands reach it like everything else, through its loop.
            if own is not None:
                self.supervisor.call(lambda own=own, rest=rest: own(rest))
            else:
                self.supervisor.call(lambda verb=verb, name=rest: self.command(verb, name))

    # --- commands --------------------------------------------------------------------------------------------------

    def command(self, verb: str, name: str) -> None:
        self.supervisor.desk.handle(messages.Command(id=0, verb=verb, name=name))

    def do_snapshot(self, _: str) -> None:
        snapshot = json.loads(msgspec.json.encode(self.supervisor.snapshots.take()))
        self.outlet.tell("snapshot", snapshot=snapshot)

    def do_ping(self, number: str) -> None:
        self.outlet.tell("pong", number=number)

    def do_measure(self, _: str) -> None:
        """Begin to measure anew; tell what has been measured since the last time."""
        loop = self.supervisor.loop
        self.outlet.tell(
            "measured",
            turn=loop.longest_turn,
            turn_own=loop.longest_turn_own,
            waited=loop._queueing.waited(),
            lags=self.supervisor.lags,
            process_cpu=time.process_time(),
        )
        loop.longest_turn = loop.longest_turn_own = 0.0
        self.supervisor.lags = []

    def do_break(self, which: str) -> None:
        """`break launcher` or `break logs`: an error in that thread, as of a defect of ours. `break tracers`: whoever
        traces is somebody whom we can't end."""

        def fail() -> None:
            raise RuntimeError("a defect")

        if which == "launcher":
            launcher = self.supervisor._launcher
            launcher._do = lambda _: fail()
            launcher.retire(99)
        elif which == "tracers":
            linux.tracers = lambda *_: set()
        else:
            self.logs._write_own_lines = fail
            self.logs.write("daemon", "a line")

    def do_adjust(self, rest: str) -> None:
        """`adjust NAME BYTES`: an Adjust of that size."""
        name, _, size = rest.rpartition(" ")
        child = next(child for child in self.supervisor.children.values() if child.name == name)
        self.supervisor._wire.send(child, messages.Adjust(settings={"log_level": "x" * int(size)}))

    def do_desire(self, rest: str) -> None:
        """`desire JSON`: the body of a `messages.Desired`."""
        self.supervisor.desk.handle(messages.decode_control(rest.encode()))

    def do_storm(self, rest: str) -> None:
        """`storm NAME SEED`: commands from many threads at once."""
        name, _, seed = rest.partition(" ")

        def blow(number: int) -> None:
            chance = random.Random(f"{seed} {number}")
            for _ in range(40):
                verb = chance.choice(("start", "stop", "restart"))
                self.supervisor.call(partial(self.command, verb, name))
                time.sleep(chance.random() * 0.02)

        def all_of_them() -> None:
            threads = [threading.Thread(target=blow, args=(number,)) for number in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            self.supervisor.call(lambda: self.outlet.tell("storm over", name=name))

        threading.Thread(target=all_of_them, daemon=True).start()

    # --- what the supervisor tells its owner -----------------------------------------------------------------------

    def log(self, level: str, event: str, **fields: object) -> None:
        self.outlet.tell(event, level=level, **fields)

    def setup_done(self, result: bytes) -> None:
        raise AssertionError

    def boot_failed(self, message: str) -> None:
        self.outlet.tell("boot failed", message=message)
        self.supervisor.shut_down()

    def broken(self, message: str) -> None:
        self.failed = True
        self.log("error", "broken", error=message)
        self.supervisor.shut_down()

    def serving(self) -> None:
        raise AssertionError

    def configure(self, child: Child) -> messages.Configure:
        return messages.Configure(name=child.name, incarnation=child.record.incarnation, config=child.config)

    def keep_secret(self, log_name: str, secrets: list[str]) -> None:
        assert not secrets

    def forget_secrets(self, log_names: list[str]) -> None:
        pass  # nothing is masked here

    def pulse(self, states: dict[str, int]) -> None:
        self.states = states

    def reloading(self) -> None:
        raise AssertionError

    def desired(self, generation: int) -> None:
        self.log("info", "desired", generation=generation)


def tell_lifecycle(outlet: Outlet) -> None:
    """Have every lifecycle record told, which otherwise only `control` hears of."""
    add = RecordOutbox.add

    def tell(records: RecordOutbox, record: messages.Lifecycle) -> None:
        outlet.tell("lifecycle", record=json.loads(msgspec.json.encode(record)))
        add(records, record)

    RecordOutbox.add = tell  # type: ignore[method-assign]


if __name__ == "__main__":
    os.umask(0o022)
    if len(sys.argv) > 3 and int(sys.argv[3]):
        resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[3]), int(sys.argv[3])))
    driver = Driver(Path(sys.argv[1]), json.loads(sys.argv[2]))
    tell_lifecycle(driver.outlet)
    driver.run()
