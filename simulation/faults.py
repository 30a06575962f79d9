"""The storyteller: draws what goes wrong next, and what operators wish meanwhile."""

from __future__ import annotations

from math import log
from random import Random

from botctl.supervision import events
from botctl.supervision.model import HAS_PROCESS, Exit, Failure, Health, Record, State
from botctl.supervision.reconcile import Wanted
from simulation.driver import HEARD, Child
from simulation.orders import Command, Fleet, GaveUp, Heard, NewLimits, Order
from simulation.process import Kind, Process
from simulation.profiles import draw_policy
from simulation.world import CLEAN, CRASHES, KILLS, OOM, Weighted, World

VERBS = ("start", "stop", "restart", "restart", "quarantine", "release", "start", "stop", "restart")
MOODS = (
    (Health.DEGRADED, "completions fail"),
    (Health.PAUSED, "Redis is away"),
    (Health.OK, ""),
    (Health.DEGRADED, "429"),
)
STRAYS: tuple[events.Event, ...] = (
    events.Spawned(77),
    events.SpawnFailed("late"),
    events.BecameReady(),
    events.Beat(),
    events.Beat(Health.PAUSED, "late"),
    events.LastWords(Failure.BAD_TOKEN, "late"),
    events.Misbehaved("late"),
    events.Exited(Exit(code=1)),
)
_WEIGHTS: dict[str, Weighted] = {}


class Storyteller:
    """`desired` is the fleet as the operators want it; `tell` makes the next thing happen and comes back later."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.random: Random = world.random
        setting = world.setting
        self.desired: dict[int, Wanted] = {}
        self.told = 0
        self._gap = (setting.base.heartbeat_timeout or 10.0) / setting.profile.rate / len(setting.keys) * 2
        weights = _WEIGHTS.get(setting.profile.name)
        if weights is None:
            deeds = {f"_{name.replace(' ', '_')}": weight for name, weight in setting.profile.faults.items()}
            weights = _WEIGHTS[setting.profile.name] = Weighted(deeds)
        self._weights = weights

    def tell(self, _: object = None) -> None:
        """The next deed."""
        world = self.world
        if world.calm:
            return
        getattr(self, self._weights.draw(self.random))()
        gap = min(-log(1.0 - self.random.random()), 4.0) * self._gap
        if world.held_until > world.now:
            gap += self.random.random() * (world.held_until - world.now)  # some of it while nobody listens
        world.after(world.tick * int(gap / world.tick + 0.5), self.tell)

    # --- processes -------------------------------------------------------------------------------------------------

    def _one(self) -> Process | None:
        living = self.world.bots()
        return living[int(self.random.random() * len(living))] if living else None

    def _ends(self, ending: Exit) -> None:
        process = self._one()
        if process is not None:
            self.world.die((process, ending))

    def _crash(self) -> None:
        self._ends(CRASHES[int(self.random.random() * 5)] if self.random.random() < 0.95 else Exit())

    def _kill(self) -> None:
        self._ends(KILLS[int(self.random.random() * 4)])

    def _oom(self) -> None:
        self._ends(OOM)

    def _exit(self) -> None:
        self._ends(CLEAN)

    def _hang(self) -> None:
        process = self._one()
        if process is not None:
            self.world.freeze(process)

    def _stop(self) -> None:
        process = self._one()
        if process is not None:
            self.world.freeze(process, stopped=True)

    def _continue(self) -> None:
        for process in self.world.bots():
            if process.stopped:
                self.world.thaw(process)

    def _words(self) -> None:
        process = self._one()
        if process is not None:
            self.world.last_words(process)

    def _abuse(self) -> None:
        process = self._one()
        if process is not None:
            self.world.write(process, events.Misbehaved("frame of 3 bytes refused"))

    def _leak(self) -> None:
        process = self._one()
        if process is not None:
            process.grows = 5 + self.random.random() * 40

    def _busy(self) -> None:
        process = self._one()
        if process is not None:
            process.updates_step = 1 + self.random.random() * 20

    def _mood(self) -> None:
        process = self._one()
        if process is not None:
            process.mood, process.mood_reason = MOODS[int(self.random.random() * len(MOODS))]

    def _give_up(self) -> None:
        """One that has failed finds that an update was to blame."""
        children = self.world.driver.children
        failed = [one for one in self.world.bots() if not one.frozen and children[one.key].record.failures]
        if failed:
            self.world.write(failed[int(self.random.random() * len(failed))], GaveUp())

    def _again(self) -> None:
        """It says once more that it is ready, whatever it has been since."""
        for process in self.world.bots():
            if process.ready and not process.frozen:
                self.world.write(process, events.BecameReady())

    def _lose(self) -> None:
        self.world.losing = 1 + int(self.random.random() * 5)

    def _double(self) -> None:
        self.world.doubling = 1 + int(self.random.random() * 4)

    def _control(self) -> None:
        process = self.world.living.get(-1)
        if process is not None:
            if self.random.random() < 0.5:
                self.world.freeze(process)
            else:
                self.world.crash(process)

    # --- many at once ----------------------------------------------------------------------------------------------

    def _timeout(self) -> float:
        return self.world.setting.base.heartbeat_timeout or 10.0

    def _crash_all(self) -> None:
        world = self.world
        spread = self.random.random() * 2.0
        for process in world.bots():
            if self.random.random() < 0.9:
                world.after(world.span(0.0, spread), world.crash, process)

    def _hang_all(self) -> None:
        for process in self.world.bots():
            self.world.freeze(process)

    def _storm(self) -> None:
        self.world.storm = self.world.now + self.world.span(0.5, 2.0) * self._timeout()
        self._crash_all()

    def _database(self) -> None:
        self.world.database_out = self.world.now + self.world.span(0.5, 3.0) * self._timeout()

    def _network(self) -> None:
        self.world.network_out = self.world.now + self.world.span(0.5, 3.0) * self._timeout()

    def _forkserver(self) -> None:
        self.world.forkserver_out = self.world.now + self.world.span(0.2, 1.5) * self._timeout()

    def _launcher(self) -> None:
        self.world.launcher_slow = self.world.now + self.world.span(0.2, 1.5) * self._timeout()

    def _descriptors(self) -> None:
        self.world.descriptors_out = self.world.now + self.world.span(0.0, 0.8) * self._timeout()

    # --- the supervisor itself -------------------------------------------------------------------------------------

    def _hold(self) -> None:
        self._hold_for(self.world.span(0.2, 6.0))

    def _long_hold(self) -> None:
        self._hold_for(self.world.span(10.0, 10_000.0))

    def _hold_for(self, seconds: float) -> None:
        world = self.world
        world.held_until = world.now + seconds
        world.held_busy = self.random.random() < 0.5

    def _stray(self) -> None:
        """A report of a process that is gone, to a bot that has none; or the launcher's answer a second time."""
        children = self.world.driver.children
        chance = self.random.random()
        if chance > 0.7:
            heard = [child for child in children.values() if child.record.state in HEARD]
            unwell = [child for child in heard if child.record.state is not State.RUNNING]
            heard = unwell or heard
            if heard:
                child = heard[int(self.random.random() * len(heard))]
                self.world.driver.strays.append((child, STRAYS[int(self.random.random() * 2)]))
            return
        resting = [child for child in children.values() if child.record.state not in HAS_PROCESS]
        if chance < 0.05:
            resting = [Child(99, Kind.BOT, Record(99))]  # of one that nobody knows any more
        if resting:
            child = resting[int(self.random.random() * len(resting))]
            self.world.driver.strays.append((child, STRAYS[int(self.random.random() * len(STRAYS))]))

    # --- operators -------------------------------------------------------------------------------------------------

    def _say(self, *orders: Order) -> bool:
        """Through `control`, if it is there."""
        process = self.world.living.get(-1)
        if process is None or not process.ready or process.frozen:
            return False
        for order in orders:
            self.world.write(process, order)
        return True

    def _key(self) -> int:
        keys = self.world.setting.keys
        return keys[int(self.random.random() * len(keys))]

    def _any_command(self, key: int | None) -> Command:
        verb = VERBS[int(self.random.random() * len(VERBS))]
        return Command(verb, key, "" if self.random.random() < 0.5 else f"an operator says {verb}")

    def _command(self) -> None:
        key = self._key()
        if self.random.random() < 0.3:
            self._say(self._any_command(key), self._any_command(key))
        else:
            self._say(self._any_command(key))

    def _all(self) -> None:
        self._say(self._any_command(None))

    def _twice(self) -> None:
        command = self._any_command(self._key())
        self._say(command, command)

    def _release(self) -> None:
        children = self.world.driver.children
        shut = [key for key, child in children.items() if child.record.state is State.QUARANTINED and key > 0]
        key = shut[int(self.random.random() * len(shut))] if shut else self._key()
        self._say(Command("release", key))

    def _limits(self) -> None:
        self._say(NewLimits(self._key()))

    def _hear(self) -> None:
        deaf = self.random.random() < 0.7
        reason = ("12 updates wait" if self.random.random() < 0.9 else "") if deaf else ""
        key = self._key()
        if self.random.random() < 0.4:
            for _ in range(2):
                self._say(Heard(key, deaf, reason))
        else:
            self._say(Heard(key, deaf, reason))

    def _policy(self) -> None:
        world = self.world
        key = self._key()
        if key in self.desired:
            before = world.policies.get(key)
            world.policies[key] = draw_policy(self.random, world.tick, self.random.random() < 0.3)
            if not self._desire() and before is not None:
                world.policies[key] = before

    def _farewell(self) -> None:
        """A bot leaves the fleet while its end is awaited, and somebody who doesn't know wants it all the same."""
        children = self.world.driver.children.values()
        judged = [child.key for child in children if child.record.state is State.FAILED and child.key in self.desired]
        if judged:
            key = judged[int(self.random.random() * len(judged))]
            one = self.desired.pop(key)
            if self._desire():
                self._say(Command("start", key))
            else:
                self.desired[key] = one

    def _fleet(self) -> None:
        before = dict(self.desired)
        live: set[int] = set()
        for _ in range(1 if self.random.random() < 0.7 else 3):
            key, chance = self._key(), self.random.random()
            one = self.desired.get(key)
            if one is None:
                self.desired[key] = Wanted(f"d{self.told}", self.random.random() < 0.9)
            elif chance < 0.4:
                self.desired[key] = Wanted(f"d{self.told}", one.enabled)
            elif chance < 0.55:
                self.desired[key] = Wanted(one.digest, not one.enabled)
            elif chance < 0.7:
                del self.desired[key]
            elif chance < 0.8:
                self.desired[key] = Wanted(f"d{self.told}", not one.enabled)
            else:
                live.add(key)
            self.told += 1
        if not self._desire(frozenset(live)):
            self.desired = before

    def _desire(self, live: frozenset[int] = frozenset()) -> bool:
        return self._say(Fleet({key: (one, self.world.policies[key]) for key, one in self.desired.items()}, live))

    def begin(self) -> Fleet:
        """The fleet as it is first wanted."""
        for key in self.world.setting.keys:
            self.desired[key] = Wanted("d", self.random.random() < 0.95)
        return Fleet({key: (one, self.world.policies[key]) for key, one in self.desired.items()})
