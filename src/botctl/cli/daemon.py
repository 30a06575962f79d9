"""The daemon: composition root of the supervisor with its embedded servers. `python -m botctl.cli.daemon`.

Slim on purpose (design §9: at most 25 MB): no asyncio, no pydantic, no database or network library is imported here.
Reads one boot document from standard input, takes the data folder, starts servers, set-up, `control`, and then only
supervises.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import resource
import signal
import sys
import time
from pathlib import Path

import msgspec
import setproctitle

from botctl import __version__
from botctl.cli.boot import BootPayload, decode
from botctl.cli.control_config import config_of_control
from botctl.cli.servers import embedded
from botctl.cli.unkept import HINT, unkept, wishes_in
from botctl.errors import BotctlError, ExitCode
from botctl.handover import ControlConfig, ExecSpec, SetupConfig, SetupResult
from botctl.observability.redactors import Redactors
from botctl.runtime import linux, messages
from botctl.runtime.cgroups import Cgroups
from botctl.runtime.children import Child, Kind
from botctl.runtime.fleet_end import lost_fleet
from botctl.runtime.folder import DataFolder
from botctl.runtime.folder_modes import FolderModes
from botctl.runtime.launcher import Launcher
from botctl.runtime.logs import LogKeeper
from botctl.runtime.notify import Notifier, fleet_words
from botctl.runtime.policies import CONTROL_POLICY, SETUP_POLICY, service_policy
from botctl.runtime.supervisor import ProcessSupervisor
from botctl.security import master_keys
from botctl.supervision.fleet_machine import FleetMachine
from botctl.supervision.model import Record
from botctl.supervision.pacing import Pace

PRELOAD = ("botctl.bot.preload", "botctl.control.preload", "botctl.runtime.confinement.confine")
"""Imported once by the forkserver; each may have a `warm()` that touches code paths before the heap is frozen."""

STARTS_PER_CORE = 4
"""Bots that are on their way up at once, for each core: most of a start is waiting for the database and Telegram."""

TOLD_EVERY = 60.0
"""Seconds in which rights on the same place are told of once, though they are put back each time."""


class Daemon:
    """Owns the supervisor and gives it what it must not know: configuration, servers, words for the operator."""

    def __init__(self, payload: BootPayload, folder: DataFolder, notifier: Notifier) -> None:
        self._payload = payload
        self._folder = folder
        self._modes = FolderModes(folder.path)
        self._mended: dict[str, float] = {}
        self._notifier = notifier
        self._redactors = Redactors()
        for secret in (payload.openai_api_key, *payload.fleet_env.values()):
            if len(secret) >= 8:
                self._redactors.common.add(secret)
        self._logs = LogKeeper(folder.path / "logs", redact=self._redactors.redact)
        self._started = time.time()
        self._socket = folder.socket_path()
        self._api_token = ""
        self._control_config: ControlConfig | None = None
        self._failure: str | None = None
        self._services: dict[str, str] = {}
        self._database_url = payload.database_url
        self._redis_url = payload.redis_url
        self._serving = False
        self._waiting = ""
        self._groups = Cgroups.detect(lambda note: self.log("info", note))
        self._controllers = sorted(self._groups.controllers) if self._groups is not None else []
        self.supervisor = ProcessSupervisor(
            self,
            lambda report: Launcher(PRELOAD, lambda: self._logs.open("forkserver")[1], report),
            self._logs,
            machine=FleetMachine(Pace(at_once=STARTS_PER_CORE * len(os.sched_getaffinity(0)))),
            groups=self._groups,
        )

    def run(self) -> int:
        """Until told to stop. Returns the exit code."""
        linux.adopt_orphans()
        self._logs.start()
        self.supervisor.install_signals()
        self.log("info", "daemon starting", version=__version__, data_dir=str(self._folder.path))
        if self._groups is not None:
            self.log("info", "control groups", home=str(self._groups.home), limits=self._controllers)
        if lost := unkept(wishes_in(bytes(self._payload.fleet)), self._controllers):
            self.log("warning", lost)
            self._say(f"warning: {lost}\nhint: {HINT}")
        try:
            self._write_note("starting")
            self._api_token = self._folder.new_api_token()
            self._redactors.common.add(self._api_token)
            self._start_servers()
        except BotctlError as error:
            self.boot_failed(_in_full(error))
        except OSError as error:
            self.boot_failed(_in_full(self._folder.unusable(error)))
        else:
            self._start_setup()
        self.supervisor.run()
        self._notifier.stopping()
        if self._groups is not None:
            self._groups.close()
        self.log("info", "daemon ended")
        self._logs.stop(2.0)
        if self._failure is not None:
            with contextlib.suppress(OSError):
                self._folder.write_boot_error(self._failure)
            self._say(f"error: {self._failure}")
            return int(ExitCode.FAILED)
        return int(ExitCode.DONE)

    # --- starting --------------------------------------------------------------------------------------------------

    def _start_servers(self) -> None:
        if self._payload.sandbox is not None:
            self._add_service(self._payload.sandbox)
        for server in embedded(self._payload, self._folder, self._tell):
            self._add_service(server.spec)
            if server.spec.name == "postgres":
                self._database_url = server.admin_url
            else:
                self._redis_url = server.admin_url

    def _add_service(self, spec: ExecSpec) -> None:
        key = -10 - len(self._services)
        self._services[spec.name] = spec.argv[0]
        child = Child(key, spec.name, Kind.SERVICE, Record(key, service_policy(spec)), exec=spec)
        self.supervisor.add(child)
        self.supervisor.want(child)

    def _start_setup(self) -> None:
        config = SetupConfig(
            database_url=self._database_url,
            redis_url=self._redis_url,
            namespace=self._payload.namespace,
            own_database=not self._payload.database_url,
        )
        child = Child(
            -2,
            "setup",
            Kind.SETUP,
            Record(-2, SETUP_POLICY),
            entry="botctl.control.setup:main",
            config=msgspec.Raw(msgspec.json.encode(config)),
        )
        self._tell("preparing the database")
        self.supervisor.add(child)
        self.supervisor.want(child)

    # --- what the supervisor asks (runtime.owner.Owner) ------------------------------------------------------------

    def setup_done(self, result: bytes) -> None:
        """The database is at its newest revision: start `control`, unless all is to end already.

        Whatever keeps that from working ends the start; an error of our own is raised, too, for the log.
        """
        if self.supervisor.shutting_down:
            return
        try:
            self._start_control(msgspec.json.decode(result, type=SetupResult))
        except BotctlError as error:
            self.boot_failed(_in_full(error))
        except Exception as error:
            # Nothing else would end the start: it would go on for ever.
            self.boot_failed(f"the start can't go on after set-up: {error!r}"[:500])
            raise

    def _start_control(self, setup: SetupResult) -> None:
        self.log(
            "info",
            "set-up done",
            postgres=setup.postgres_version,
            redis=setup.redis_version,
            migrated_from=setup.migrated_from,
            migrated_to=setup.migrated_to,
        )
        payload = self._payload
        masters = master_keys.at_start(
            payload.master_keys, payload.master_source, setup.master_checks, self._folder.path
        )
        self._redactors.common.add(*masters.words())
        self._control_config = config_of_control(
            payload,
            setup,
            redis_url=self._redis_url,
            data_dir=self._folder.path,
            socket=self._socket,
            api_token=self._api_token,
            master_keys=masters.text(),
        )
        control = Child(-1, "control", Kind.CONTROL, Record(-1, CONTROL_POLICY), entry="botctl.control.process:main")
        self.supervisor.add(control)
        self.supervisor.want(control)

    def configure(self, child: Child) -> messages.Configure:
        """The first frame of an incarnation; a new `control` learns what the last one had applied."""
        config = child.config
        if child.kind is Kind.CONTROL and self._control_config is not None:
            wanted = self.supervisor.wanted
            config = msgspec.Raw(
                msgspec.json.encode(
                    msgspec.structs.replace(
                        self._control_config,
                        applied=wanted.applied,
                        credentials=wanted.held_credentials(),
                        data_keys=wanted.held_data_keys(),
                        master_keys=self._master_keys(self._control_config),
                    )
                )
            )
        return messages.Configure(
            name=child.name,
            incarnation=child.record.incarnation,
            config=config,
            credentials=child.credentials,
            keys=child.keys,
            previous_failure=child.record.previous_failure.value if child.record.previous_failure is not None else "",
            code=child.source.code,
            isolation=child.isolation,
        )

    def _master_keys(self, given: ControlConfig) -> str:
        """Those in the file, if they are from it: the last `control` may have ended while it replaced them."""
        if given.master_source != master_keys.Source.FILE.value:
            return given.master_keys
        try:
            found = master_keys.read_file(self._folder.path)
        except BotctlError as error:
            self.log("error", "the master key can't be read again", error=_in_full(error))
            return given.master_keys
        if found is None:
            return given.master_keys
        self._redactors.common.add(*found.words())
        return found.text()

    def keep_secret(self, log_name: str, secrets: list[str]) -> None:
        """Never write these into this log."""
        self._redactors.keep(log_name, secrets)

    def forget_secrets(self, log_names: list[str]) -> None:
        """Bots with other logs are gone."""
        self._redactors.forget_all_but(log_names)

    def serving(self) -> None:
        """`control` answers commands; of no use to anybody once the daemon is ending."""
        if self.supervisor.shutting_down:
            return
        self._note("serving")
        if not self._serving:
            self._serving = True
            self._say(f"serving; `botctl status --data-dir {self._folder.path}` shows the bots")
        self._notifier.ready()

    def boot_failed(self, message: str) -> None:
        """Come down again, leaving word of why."""
        self._fail("start failed", message)

    def broken(self, message: str) -> None:
        """Come down as failed: the error may not stand in a log that nobody writes any more, but where we were told."""
        self._fail("broken", message)

    def reloading(self) -> None:
        """SIGHUP arrived; `desired` tells of the end, unless the fleet file is wrong."""
        self._notifier.reloading()

    def desired(self, generation: int) -> None:
        """`control` has sent a wanted fleet: what was to be reloaded is."""
        self.log("info", "fleet taken over", generation=generation)
        self._notifier.reloaded()

    def pulse(self, states: dict[str, int]) -> None:
        """About once a second, with the number of bots by state: tell systemd, and end with a lost fleet."""
        words = fleet_words(states)
        if self.supervisor.shutting_down:
            words = f"stopping; {words}"
        self._notifier.pulse(words if self._serving else "")
        self._mend_modes()
        if self._payload.fail_with_fleet and not self.supervisor.shutting_down:
            bots = {child.name: child.record for child in self.supervisor.children.values() if child.kind is Kind.BOT}
            if lost := lost_fleet(bots):
                reasons = "\n".join(f"{name}: {reason}" for name, reason in lost.items())
                self._fail("fleet failed", f"every wanted bot is quarantined\n{reasons}")

    def _mend_modes(self) -> None:
        """Put back rights on the data folder; who has our uid can change them, and nothing says who did."""
        for one in self._modes.mend():
            now = time.monotonic()
            if self._mended.get(one.path, -TOLD_EVERY) > now - TOLD_EVERY:
                continue
            self._mended[one.path] = now
            bots = (child for child in self.supervisor.children.values() if child.isolated is not None)
            suspects = sorted(child.name for child in bots if child.isolated is not None and not child.isolated.uid)
            event = "rights can't be put back" if one.error else "rights were put back"
            self.log(
                "warning",
                event,
                path=one.path,
                was=f"{one.was:04o}",
                now=f"{one.now:04o}",
                error=one.error,
                by_one_of=suspects[:10] or ["a process of the daemon's user, which is no bot"],
            )

    def _fail(self, event: str, message: str) -> None:
        if self._failure is None:
            self._failure = self._logs.redact("daemon", message)
            self.log("error", event, error=message)
        self.supervisor.shut_down()

    def log(self, level: str, event: str, **fields: object) -> None:
        """A line in `logs/daemon.log`, as JSON."""
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = {"timestamp": now, "level": level, "event": event, "process": "supervisor", **fields}
        self._logs.write("daemon", json.dumps({key: value for key, value in line.items() if value not in (None, "")}))
        if event == "setup paused":
            self._waiting = str(fields["reason"])
            self._tell(self._waiting)
            self._note("starting")
        if event == "shutting down":
            self._note("stopping")
            self._say("stopping")
            self._notifier.stopping()

    # --- notes and words -------------------------------------------------------------------------------------------

    def _note(self, state: str) -> None:
        try:
            self._write_note(state)
        except OSError as error:
            self.log("error", "the daemon's note can't be written", error=str(error))

    def _write_note(self, state: str) -> None:
        self._folder.write_note(
            started_at=self._started,
            version=__version__,
            state=state,
            socket=str(self._socket),
            data_dir=str(self._folder.path),
            telegram_base_url=self._payload.telegram_base_url,
            fleet_path=self._payload.fleet_path,
            database_url_kind="external" if self._payload.database_url else "embedded",
            services=self._services,
            waiting=self._waiting if state == "starting" else "",
            controllers=self._controllers,
        )

    def _tell(self, text: str, *, silent_for: float = 0.0) -> None:
        """What the start is at, for people and for systemd."""
        self._notifier.starting(text, silent_for=silent_for)
        self._say(text)

    def _say(self, text: str) -> None:
        if self._payload.foreground:
            with contextlib.suppress(OSError, ValueError):  # a terminal that is gone is no reason to end
                sys.stderr.write(f"botctl: {text}\n")
                sys.stderr.flush()


def _in_full(error: BotctlError) -> str:
    return error.message + (f"\nhint: {error.hint}" if error.hint else "")


def _raise_open_files() -> None:
    """Each bot costs the supervisor four descriptors; the usual soft limit of 1024 ends at some 240 bots."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def main() -> int:
    """Read the boot document, be the daemon."""
    linux.undumpable()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # of all that it starts, too
    setproctitle.setproctitle("botctl: supervisor")
    _raise_open_files()
    notifier = Notifier()  # before anything is started that could inherit what it takes out of the environment
    # A terminal's Ctrl-C reaches the whole foreground group; children have sessions of their own.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.umask(0o022)
    try:
        payload = decode(sys.stdin.buffer.read())
        if payload.ends_with:
            linux.die_with_parent(signal.SIGTERM, payload.ends_with)
        folder = DataFolder(Path(payload.data_dir).resolve())
        folder.acquire()
    except BotctlError as error:
        sys.stderr.write(f"botctl: error: {_in_full(error)}\n")
        return int(error.exit_code)
    try:
        return Daemon(payload, folder, notifier).run()
    finally:
        folder.release()


if __name__ == "__main__":
    sys.exit(main())
