"""One schedule: from its seed to what came of it."""

from __future__ import annotations

import hashlib
import math
import random as random_module
import traceback
from dataclasses import dataclass, field

from botctl.supervision.fleet_machine import FleetMachine
from botctl.supervision.model import Policy, State
from simulation import profiles
from simulation.account import BrokenError
from simulation.driver import Driver
from simulation.faults import Storyteller
from simulation.oracle import Oracle
from simulation.process import Kind
from simulation.world import World

CONTROL, SERVICE, SET_UP = -1, -2, -3
SERVICE_POLICY = Policy(intensity=None, first_delay=0.0625, max_delay=2.0, stop_timeout=2.0, heartbeat_timeout=None)
MOST_TURNS = 20_000
SPINS = 100
"""Looks in a row for which supervision may ask at once: much can happen in a moment, but not without end."""


@dataclass
class Outcome:
    """What came of a schedule; `broken` is None when every invariant held."""

    seed: int
    events: int
    seconds: float
    broken: BrokenError | None = None
    tale: list[str] = field(default_factory=list)
    tallies: dict[str, int] = field(default_factory=dict)
    fractions: list[float] = field(default_factory=list)
    spreads: list[float] = field(default_factory=list)
    trips: int = 0

    @property
    def digest(self) -> str:
        """The same for the same history."""
        return hashlib.blake2b("\n".join(self.tale).encode(), digest_size=16).hexdigest()


def run(seed: int, *, tell: bool = False) -> Outcome:
    """Play the schedule of this seed. With `tell`, the whole history is kept."""
    return Schedule(seed, tell=tell).run()


class Schedule:
    """The loop's clock: decides nothing but when it wakes."""

    def __init__(self, seed: int, *, tell: bool) -> None:
        self.seed = seed
        self.random = random = random_module.Random(seed)
        self.setting = setting = profiles.draw(random)
        self.machine = FleetMachine(setting.pace, setting.breaker)
        self.tale: list[str] | None = [] if tell else None
        self.oracle = Oracle(self.machine, setting, self.tale)
        self.world = World(random, setting)
        self.driver = Driver(self.machine, self.world, self.oracle)
        self.world.connect(self.driver, self.oracle)
        self.oracle.living = self.world.living
        self.teller = Storyteller(self.world)
        self.now = 0.0
        self.spins = 0
        self.lost = 0.0
        """Seconds for which the loop was held up."""

    def run(self) -> Outcome:
        """Play it to its end."""
        outcome = Outcome(self.seed, 0, 0.0)
        try:
            self._begin()
            self._play(lambda: self.driver.fed >= self.setting.events)
            if self.setting.ends_with_shutdown:
                self._shut_down()
            else:
                self._calm()
        except BrokenError as error:
            outcome.broken = error
        except Exception as error:
            frames = traceback.extract_tb(error.__traceback__)
            if not any("supervision" in frame.filename for frame in frames):
                raise  # a fault of the simulation itself
            where = " < ".join(f"{frame.name}:{frame.lineno}" for frame in reversed(frames))
            outcome.broken = BrokenError("never falls over", f"{error!r} in {where}", None, self.now)
        oracle = self.oracle
        outcome.events, outcome.seconds = self.driver.fed, self.now
        outcome.tale, outcome.tallies = self.tale or [], oracle.tallies
        outcome.fractions, outcome.spreads, outcome.trips = oracle.fractions, oracle.spreads, oracle.fuse.trips
        return outcome

    # --- its parts -------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        if self.machine.next_look() is not None:
            self.oracle.broken("next look", "wants to be asked though there is nobody")
        setting, world, driver, random = self.setting, self.world, self.driver, self.random
        alike = random.random() < 0.5
        for key in setting.keys:
            limits = setting.base.memory_soft > 0
            world.policies[key] = setting.base if alike else profiles.draw_policy(random, setting.tick, limits)
            if random.random() < setting.profile.flapping:
                world.flapping.add(key)
        ticks = profiles.ticks
        control = Policy(
            intensity=None,
            first_delay=ticks(0.1, setting.tick),
            max_delay=5.0,
            stop_timeout=2.0,
            ready_timeout=10.0,
            heartbeat_timeout=ticks(4 * (setting.base.heartbeat_timeout or 10.0), setting.tick),
        )
        world.policies[CONTROL] = control
        others = [(CONTROL, Kind.CONTROL, control), (SERVICE, Kind.SERVICE, SERVICE_POLICY)]
        if setting.set_up:
            world.policies[SET_UP] = Policy(intensity=0, ready_timeout=20.0, heartbeat_timeout=None, stop_timeout=1.0)
            others.append((SET_UP, Kind.SETUP, world.policies[SET_UP]))
        for key, kind, policy in others:
            driver.want(driver.add(key, kind, policy))
        driver.desire(self.teller.begin())
        world.after(0.0, self.teller.tell)

    def _play(self, done: object) -> None:
        assert callable(done)
        for _ in range(MOST_TURNS):
            if done():
                return
            self._turn()
        self.oracle.broken("progress", f"no end after {MOST_TURNS} turns")

    def _turn(self) -> None:
        """Wait for what comes first: something happens, or supervision wants to be asked; then take a turn."""
        world, driver = self.world, self.driver
        heap, tick = world.heap, self.setting.tick
        look = self.machine.next_look()
        if not driver.deferred:
            self.oracle.looks(look, self.now)
            self.spins = self.spins + 1 if look is not None and look <= self.now else 0
            if self.spins > SPINS:
                self.oracle.broken("next look", f"wants to be asked again at once, {SPINS} times in a row")
        if driver.ready or driver.launched or driver.strays or driver.deferred:
            wake = self.now if self.random.random() < 0.8 else self.now + tick
        else:
            wake = heap[0][0] if heap else math.inf
            if look is not None and look < wake:
                wake = max(self.now, math.ceil(look / tick) * tick)
            if wake == math.inf:
                wake = self.now + 60.0
        late = self.setting.profile.late
        if self.random.random() < late:
            wake += world.span(0.0, 0.9)
        world.happen(wake)
        if (
            not world.held_until
            and not (driver.ready or driver.launched or driver.strays or driver.deferred or driver.shutting_down)
            and (look is None or look > wake)
        ):
            world.now = self.now = wake
            return  # nothing that the selector would show
        away, was = 0.0, self.now
        if world.held_until:
            began = world.now
            held, world.held_until = world.held_until, 0.0
            if held > wake:
                # Held up inside the selector, the loop knows of the time beyond what it meant to wait; else of all.
                meant = began if world.held_busy else min(look if look is not None else math.inf, began + 1.0)
                wake = held
                self.lost += wake - was
                self.oracle.held_up(wake - was)
                world.happen(wake)
                world.held_until = 0.0
                away = max(0.0, wake - meant)
        world.now = self.now = wake
        driver.turn(wake, away)

    def _calm(self) -> None:
        """The faults end and nobody commands: whoever is wanted must come up, and stay."""
        world = self.world
        world.calm_down()
        by = self.now + self._patience()
        settled_for = 0
        while settled_for < 2 or self.driver.fed < 200:
            for _ in range(4):
                self._turn()
            missing = self._unsettled()
            settled_for = 0 if missing else settled_for + 1
            if not missing:
                by = self.now + self._patience()  # somebody may be recycled
            if self.now > by + self.lost and missing:
                key, what = missing
                self.oracle.broken("wanted bots run", f"{what}, {self._patience():.0f} s after the last fault", key)
        self._check_end()

    def _patience(self) -> float:
        """Seconds in which everything must have come right; generous, as every single time is checked elsewhere."""
        total = 30.0
        for policy in [*self.world.policies.values(), SERVICE_POLICY]:
            beat = policy.heartbeat_timeout or 0.0
            once = beat + policy.ready_timeout + policy.dump_timeout + policy.stop_timeout + policy.term_timeout
            total = max(total, 3 * (once + 4 * policy.kill_timeout + policy.max_delay))
        breaker, pace = self.setting.breaker, self.setting.pace
        total += 4 * (breaker.max_pause + breaker.patience + breaker.settle + breaker.stagger * 4)
        return total + 10 * pace.turn_timeout + 10.0

    def _unsettled(self) -> tuple[int, str] | None:
        """Who is not yet as it was last wished to be."""
        for key, view in self.oracle.views.items():
            state = view.seen
            process = self.world.living.get(key)
            if view.leaving:
                return key, "it has left the fleet and is not forgotten"
            if view.shut:
                if state is not State.QUARANTINED or process is not None:
                    return key, f"it is to be in quarantine and is {state}"
            elif view.wish == "run":
                up = state is State.RUNNING or (state is State.DEGRADED and view.deaf)
                if not up or process is None or process.frozen or process.stop_seen:
                    return key, f"it is wanted and {state}"
                if view.incarnation <= view.newer_than:
                    return key, f"it was to be restarted and is still incarnation {view.incarnation}"
            elif view.process or process is not None:
                return key, f"it is not wanted and {state}"
        return None

    def _check_end(self) -> None:
        machine, oracle = self.machine, self.oracle
        if set(machine.records) != set(oracle.views):
            oracle.broken("forgotten", f"on the books are {sorted(machine.records)}, must be {sorted(oracle.views)}")

    def _shut_down(self) -> None:
        """SIGTERM: bots, then `control`, then servers, each within its time."""
        driver, world = self.driver, self.world
        driver.shut_down()
        total = self._patience()
        by = self.now + total
        again = self.random.random() < 0.3
        for _ in range(MOST_TURNS):
            if not driver.alive() and not driver.launched:
                break
            if again and self.random.random() < 0.05:
                driver.shut_down()
                again = False
            self._turn()
            if self.now > by + self.lost:
                self.oracle.broken("shutdown", f"{[child.key for child in driver.alive()]} are still there")
        else:
            self.oracle.broken("shutdown", "it does not end")
        if world.living:
            self.oracle.broken("shutdown", f"processes of {sorted(world.living)} are left")
