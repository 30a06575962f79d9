"""Sessions that bots have in the database, for threat detection: whence they come, and whether their bot runs.

Looks at what is there now: a session that begins and ends between two looks is not seen. Judges nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from botctl.control.defence.socket_owners import Place
from botctl.control.ports import FleetSight
from botctl.security.threat.observations import LoggedIn, Observation, StolenLogin
from botctl.storage.logins import Session

HOME_BOT = 0
"""In the place of a bot's id: the session that asks."""

_Stolen = tuple[int, int, int]
"""The bot whose process it is, the one whose login it is, and the server's process for it."""


class SessionFeed:
    """A session is told at its first sight, and once more when its bot has no process any more."""

    def __init__(self) -> None:
        self._known: set[tuple[int, int, bool]] = set()
        self._gone: dict[int, tuple[int, float]] = {}
        """Of a bot without a process: its last incarnation, and since when there is none, as far as was looked."""
        self._stolen: dict[_Stolen, int] = {}
        """In how many looks on end each was seen."""

    def read(
        self,
        sessions: Iterable[Session],
        sight: FleetSight,
        now: float,
        owners: Mapping[Place, int] = MappingProxyType({}),
    ) -> list[Observation]:
        """Sessions that were not there at the last call. `sight` must not be older than `sessions`.

        `owners` are uids by the address and port that a session comes from.
        """
        gone: dict[int, tuple[int, float]] = {}
        for bot in sight.bots:
            if bot.pid is None:
                last, since = self._gone.get(bot.bot_id, (bot.incarnation, now))
                gone[bot.bot_id] = (bot.incarnation, since if last == bot.incarnation else now)
        self._gone = gone
        found = list(sessions)
        home = next((one.address for one in found if one.bot_id == HOME_BOT), "")
        bots = [one for one in found if one.bot_id != HOME_BOT]
        known, self._known = self._known, {(one.bot_id, one.pid, one.bot_id in self._gone) for one in bots}
        new: list[Observation] = [
            LoggedIn(
                at=now,
                bot_id=one.bot_id,
                address=one.address,
                home=home,
                age=one.age,
                without_process=now - self._gone[one.bot_id][1] if one.bot_id in self._gone else None,
            )
            for one in bots
            if (one.bot_id, one.pid, one.bot_id in self._gone) not in known
        ]
        return new + self._stolen_logins(bots, sight, now, owners)

    def _stolen_logins(
        self, sessions: list[Session], sight: FleetSight, now: float, owners: Mapping[Place, int]
    ) -> list[Observation]:
        """Told when it is seen for the second time: a port may have changed hands between two questions."""
        uids = {bot.uid: bot.bot_id for bot in sight.bots if bot.uid}
        seen = {
            (thief, one.bot_id, one.pid)
            for one in sessions
            if (thief := uids.get(owners.get((one.address, one.port), 0), one.bot_id)) != one.bot_id
        }
        self._stolen = {one: self._stolen.get(one, 0) + 1 for one in seen}
        return [
            StolenLogin(at=now, bot_id=thief, used=used)
            for (thief, used, _), looks in sorted(self._stolen.items())
            if looks == 2
        ]
