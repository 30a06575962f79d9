"""The world outside the supervisor: processes and their fates, the launcher, outages. Follows its seed only.

Time is a heap of happenings. `Storyteller` (`faults.py`) adds the faults; this is what they act on.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import accumulate
from math import ceil
from random import Random
from typing import TYPE_CHECKING, Any

from botctl.supervision.events import Beat, BecameReady, LastWords
from botctl.supervision.model import Exit, Failure, Health, Policy
from simulation.orders import SetUp
from simulation.process import CAPACITY, Kind, Process, Report
from simulation.profiles import Setting

if TYPE_CHECKING:
    from simulation.driver import Child, Driver
    from simulation.oracle import Oracle

CRASHES = (Exit(code=1), Exit(code=1), Exit(code=3), Exit(signal=11), Exit(signal=6))
KILLS = (Exit(signal=9), Exit(signal=15), Exit(signal=2), Exit(signal=1))
OOM = Exit(signal=9, oom=True)
CLEAN = Exit(code=0)
FAILURES = tuple(Failure)
WELL = Beat()
PAUSED = Beat(Health.PAUSED, "the database is away")
DEGRADED = Beat(Health.DEGRADED, "Telegram can't be reached")


class Weighted:
    """Draws names by weight."""

    def __init__(self, weights: dict[str, float]) -> None:
        self._names = list(weights)
        self._sums = list(accumulate(weights.values()))

    def draw(self, random: Random) -> str:
        """One of them."""
        return self._names[bisect(self._sums, random.random() * self._sums[-1])]


_FATES: dict[str, Weighted] = {}


class World:
    """`living` are the processes there are, by key; `heap` what will happen."""

    def __init__(self, random: Random, setting: Setting) -> None:
        self.random = random
        self.setting = setting
        self.tick = setting.tick
        self.now = 0.0
        self.heap: list[tuple[float, int, Callable[[Any], None], Any]] = []
        self.living: dict[int, Process] = {}
        self.policies: dict[int, Policy] = {}
        """As the children themselves know them."""
        self.flapping: set[int] = set()
        self.calm = False
        self.database_out = self.network_out = self.storm = 0.0
        """Until when."""
        self.forkserver_out = self.launcher_slow = self.descriptors_out = 0.0
        self.losing = self.doubling = 0
        self.held_until = 0.0
        self.held_busy = False
        self.frozen_at: dict[int, float] = {}
        self._free_at = 0.0
        self._serial = 0
        self._pid = 1000
        fates = _FATES.get(setting.profile.name)
        if fates is None:
            fates = _FATES[setting.profile.name] = Weighted(setting.profile.fates)
        self._fates = fates

    def connect(self, driver: Driver, oracle: Oracle) -> None:
        """The supervisor's side, and who watches both."""
        self.driver = driver
        self.oracle = oracle

    # --- time ------------------------------------------------------------------------------------------------------

    def after(self, seconds: float, happening: Callable[[Any], None], what: object = None) -> None:
        """Have something happen."""
        self._serial += 1
        heappush(self.heap, (self.now + seconds, self._serial, happening, what))

    def span(self, least: float, most: float) -> float:
        """A duration in ticks."""
        tick = self.tick
        return tick * int((least + (most - least) * self.random.random()) / tick + 0.5)

    def happen(self, until: float) -> None:
        """All that happens up to and including this moment."""
        heap = self.heap
        while heap and heap[0][0] <= until:
            self.now, _, happening, what = heappop(heap)
            happening(what)
        self.now = until

    # --- the launcher ----------------------------------------------------------------------------------------------

    def out_of_descriptors(self) -> bool:
        """Whether the supervisor itself can't open what a child needs."""
        return self.now < self.descriptors_out

    def launch(self, process: Process) -> None:
        """One request after the other; each ends with a process or an error, sooner or later."""
        profile, number = self.setting.profile, self.random.random
        process.asked_at = self.now
        begin = max(self.now, self._free_at)
        fails = False
        if process.kind is Kind.SERVICE:
            takes = self.span(0.0, 0.1)
        elif begin < self.forkserver_out:
            fails = True
            takes = self.span(0.0, 0.2) if number() < 0.7 else self.span(0.5, 4.0)
        elif begin < self.launcher_slow or (not self.calm and number() < profile.slow_launcher):
            fails = number() < 0.1
            takes = self.span(0.1, 4.0)
        else:
            takes = self.span(0.0, 0.05)
        told = begin + takes + (self.tick * int(number() * 3) if number() < 0.3 else 0.0)
        self._free_at = told
        if fails:
            self.after(told - self.now, self._refused, process)
        else:
            self.after(begin + takes - self.now, self._born, process)
            self.after(told - self.now, self._reported, process)

    def _refused(self, process: Process) -> None:
        self.driver.launched.append((process, None, "forkserver: no answer within 10 s"))

    def _reported(self, process: Process) -> None:
        self.driver.launched.append((process, process.pid, ""))

    # --- the life of a process -------------------------------------------------------------------------------------

    def _born(self, process: Process) -> None:
        self._pid += 1
        process.pid = self._pid
        process.alive = True
        process.born_at = self.now
        self.oracle.born(process, self.living.get(process.key))
        self.living[process.key] = process
        kind = process.kind
        if kind is Kind.BOT:
            self._draw_fate(process)
        elif kind is Kind.CONTROL:
            self._beats(process)
            self.after(self.span(0.0, 1.0), self._becomes_ready, process)
            process.drain_time = self.span(0.0, 1.0)
        elif kind is Kind.SETUP:
            process.drain_time = self.span(0.0, 0.2)
            if self.random.random() < 0.8:
                self.after(self.span(0.1, 3.0), self._set_up, process)
            else:
                self.after(self.span(0.1, 3.0), self.crash, process)
        else:
            process.drain_time = self.span(0.0, 3.0)
            if not self.calm and self.random.random() < 0.3:
                self.after(self.span(0.0, 30.0), self.crash, process)
        if process.stop_seen:
            process.stop_seen = False
            self.asked_to_stop(process)

    def _draw_fate(self, process: Process) -> None:
        random = self.random
        number = random.random
        policy = self.policies[process.key]
        ready_timeout, refuses = policy.ready_timeout, self.setting.profile.refuses
        fate = "well"
        if not self.calm:
            fate = self._fates.draw(random)
            if self.now < self.storm:
                fate = "die early"
            elif process.key in self.flapping:
                fate = "die early" if number() < 0.7 else "words"
        process.drain_time = self.span(0.0, 0.6 * policy.stop_timeout)
        if not self.calm and number() < refuses:
            process.drain_time = None if number() < 0.5 else self.span(0.5, 4.0)
            process.drain_exit = CRASHES[0] if number() < 0.3 else CLEAN
            process.term_ignored = number() < 0.5
            if number() < 0.3:
                process.kill_time = self.span(0.0, 3.0)
        process.memory = 40.0
        ready_in = self.span(0.0, 0.4 * ready_timeout)
        if fate == "never ready":
            if number() < 0.5:
                self._beats(process)
                if number() < 0.5:
                    process.mood, process.mood_reason = Health.DEGRADED, "Telegram says 409"
                    self.after(self.span(0.5, 2.0) * ready_timeout, self._cheer_up, process)
            return
        if fate == "slow":
            ready_in = self.span(0.2 * ready_timeout, 1.5 * ready_timeout)
            if number() < 0.5:
                process.mood, process.mood_reason = Health.DEGRADED, "it loads"
                self.after(ready_in, self._cheer_up, process)
        elif fate == "die early":
            ending = CRASHES[int(number() * 5)] if number() < 0.8 else CLEAN if number() < 0.5 else OOM
            self.after(self.span(0.0, 0.6 * ready_timeout), self.die, (process, ending))
        elif fate == "words":
            self.after(self.span(0.0, 0.8 * ready_timeout), self.last_words, process)
        elif fate == "leak":
            process.grows = 10.0 if number() < 0.5 else number() * 20
        elif fate == "busy":
            process.updates_step = 1.0 if number() < 0.5 else number() * 10
            self._ages(process)
        self._beats(process)
        self.after(ready_in, self._becomes_ready, process)

    def _ages(self, process: Process) -> None:
        """It is at the very limit of its work from the start, or heard of when it is at that of its age."""
        policy = self.policies[process.key]
        if policy.max_updates and self.random.random() < 0.5:
            process.updates = policy.max_updates * (1.102 if self.random.random() < 0.7 else 0.9)
            process.updates_step = 0.0
        if policy.max_age:
            at = process.asked_at + policy.max_age * (1.1 if self.random.random() < 0.7 else 0.9)
            self.after(ceil(at / self.tick) * self.tick - self.now, self._one_beat, process)

    def _one_beat(self, process: Process) -> None:
        if process.alive and not process.frozen and len(process.pipe) < CAPACITY:
            self.write(process, Beat(Health.OK, "", process.memory, process.updates))

    def _beats(self, process: Process) -> None:
        policy = self.policies[process.key]
        timeout = policy.heartbeat_timeout or 10.0
        most = max(self.tick, 0.75 * timeout)
        process.beat_every = max(self.tick, self.span(0.4 * timeout, most))
        process.beating = True
        self.after(self.span(0.0, 0.5 * timeout), self._beat, process)

    def _beat(self, process: Process) -> None:
        if not process.alive or process.frozen:
            process.beating = False
            return
        if len(process.pipe) >= CAPACITY:
            process.blocked = True
            return
        self._serial += 1
        heappush(self.heap, (self.now + process.beat_every, self._serial, self._beat, process))
        if process.kind is not Kind.BOT:
            self.write(process, WELL)
            return
        process.memory += process.grows
        process.updates += process.updates_step
        if process.mood is not Health.OK:
            report = Beat(process.mood, process.mood_reason, process.memory, process.updates)
        elif process.grows or process.updates:
            report = Beat(Health.OK, "", process.memory, process.updates)
        elif self.now < self.database_out:
            report = PAUSED
        elif self.now < self.network_out:
            report = DEGRADED
        else:
            report = WELL
        self.write(process, report)

    def _becomes_ready(self, process: Process) -> None:
        if not process.alive or process.frozen or process.ready:
            return
        out = max(self.database_out, self.network_out)
        if self.now < out and process.kind is Kind.BOT:
            self.after(out - self.now, self._becomes_ready, process)
            return
        process.ready = True
        self.write(process, BecameReady())

    def _cheer_up(self, process: Process) -> None:
        process.mood, process.mood_reason = Health.OK, ""

    def _set_up(self, process: Process) -> None:
        if process.alive:
            self.write(process, SetUp())

    def write(self, process: Process, report: Report) -> None:
        """Put a report into its pipe, if that takes it."""
        if type(report) is Beat:
            if self.losing and process.kind is Kind.BOT:
                self.losing -= 1
                return
            process.last_beat = self.now
        elif type(report) is BecameReady and self.losing and process.kind is Kind.BOT:
            self.losing -= 1
            return
        process.pipe.append(report)
        if self.doubling and process.kind is Kind.BOT:
            self.doubling -= 1
            process.pipe.append(report)
        if process.listened and not process.waiting and not process.hung_up:
            child = self.driver.children.get(process.key)
            if child is not None and child.process is process:
                process.waiting = True
                self.driver.ready.append((child, process, False))

    def die(self, what: tuple[Process, Exit]) -> None:
        """The end of a process."""
        process, ending = what
        if not process.alive:
            return
        process.alive = False
        process.exit = ending
        del self.living[process.key]
        self.oracle.died(process, self.now)
        if process.known:
            child = self.driver.children.get(process.key)
            if child is not None and child.process is process:
                self.driver.ready.append((child, process, True))

    def crash(self, process: Process) -> None:
        """It ends with an error of its own, unless the faults have ended before."""
        if not self.calm:
            self.die((process, CRASHES[int(self.random.random() * 5)]))

    def last_words(self, process: Process) -> None:
        """It says what it will die of; then it does, mostly."""
        if not process.alive or process.frozen or self.calm:
            return
        number = self.random.random
        failure = FAILURES[int(number() * len(FAILURES))]
        self.write(process, LastWords(failure, f"it says {failure.value}" if number() < 0.9 else ""))
        if number() < 0.9:
            self.after(self.span(0.0, 0.3), self.die, (process, CRASHES[0]))
        elif number() < 0.7:
            self.freeze(process)

    def freeze(self, process: Process, *, stopped: bool = False) -> None:
        """Its event loop stands still, or the whole process does."""
        if process.alive:
            process.frozen = True
            process.stopped = process.stopped or stopped

    def thaw(self, process: Process) -> None:
        """A stopped process goes on."""
        if not process.alive or not process.stopped:
            return
        process.stopped = process.frozen = False
        if process.term_pending:
            self.terminated(process)
        if not process.beating:
            process.beating = True
            self.after(self.span(0.0, 0.2), self._beat, process)
        if process.stop_seen:
            process.stop_seen = False
            self.asked_to_stop(process)

    # --- what the supervisor does to it ----------------------------------------------------------------------------

    def goes_on(self, process: Process) -> None:
        """Its pipe was full, and has been read."""
        process.blocked = False
        self._beat(process)

    def takes_frames(self, process: Process) -> bool:
        """Whether there is room in the pipe that carries its commands."""
        return not ((process.frozen or not process.known) and self.random.random() < 0.3)

    def asked_to_stop(self, process: Process) -> None:
        """A `Stop` is in its pipe."""
        if process.stop_seen:
            return
        process.stop_seen = True
        if process.alive and not process.frozen and process.drain_time is not None:
            self.after(process.drain_time, self._drained, process)

    def _drained(self, process: Process) -> None:
        if not process.frozen:
            self.die((process, process.drain_exit))

    def terminated(self, process: Process) -> None:
        """TERM."""
        if process.stopped:
            process.term_pending = True
        elif not process.term_ignored:
            self.after(self.tick * int(self.random.random() * 3), self.die, (process, Exit(signal=15)))

    def killed(self, process: Process) -> None:
        """KILL; some take their time."""
        if not process.killed:
            process.killed = True
            self.after(process.kill_time, self.die, (process, Exit(signal=9)))

    def dumps(self, process: Process) -> None:
        """It is asked for its stacks; a stopped process is let run for that."""
        process.woken = process.stopped
        self.thaw(process)

    def fits(self, number: int) -> int:
        """How much of what was put off a turn of the loop has time for."""
        return number if number < 2 or self.random.random() < 0.7 else 1 + int(self.random.random() * number)

    # --- the end of the faults -------------------------------------------------------------------------------------

    def calm_down(self) -> None:
        """From now on nothing breaks; what is broken stays so until somebody ends it."""
        self.calm = True
        self.database_out = self.network_out = self.storm = 0.0
        self.forkserver_out = self.launcher_slow = self.descriptors_out = 0.0
        self.losing = self.doubling = 0
        for process in self.living.values():
            process.mood, process.mood_reason = Health.OK, ""
            process.grows = process.updates_step = 0.0

    def bots(self) -> list[Process]:
        """Processes of bots."""
        return [process for process in self.living.values() if process.kind is Kind.BOT]

    def child(self, key: int) -> Child | None:
        """The supervisor's side of it."""
        return self.driver.children.get(key)
