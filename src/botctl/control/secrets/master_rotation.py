"""A new master key in the place of the old one, while bots run: data keys are rewrapped in batches.

Both keys are held, here and where they are kept, until all is rewrapped, and an old one for as long as some data key
can't be unwrapped that names it: such are passed over, and told by name. So a crash at any point leaves every data key
with a key that opens it, and whoever comes next finishes. Of a key that the operator keeps (environment, credential)
nothing is written here: the operator puts the new one there, and takes the old one away afterwards.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from botctl.control.secrets.vault import Unwrappable, Vault
from botctl.control.trouble import DATABASE_TROUBLE, DatabaseAwayError, database_reason
from botctl.errors import RefusedError, UsageError, VaultError
from botctl.observability.logs import hide
from botctl.security import master_keys
from botctl.security.master_keys import MasterKeys, Source
from botctl.security.vault import DataKey
from botctl.storage import audit, secrets

_log = structlog.get_logger("botctl.control.master")

BATCH = 100
"""Data keys that are rewrapped in one transaction."""

_FIRST_WAIT, _LONGEST_WAIT = 0.5, 30.0


@dataclass(frozen=True, slots=True)
class Rotated:
    """What came of it: the current version, how many data keys were rewrapped, and what the operator has to do.

    `entry` is a new key that is to be put where the operator keeps it, in front of the one that is there. `bad` are
    data keys that can't be unwrapped, in words; they stay as they are.
    """

    version: int
    rewrapped: int
    todo: str = ""
    entry: str = ""
    bad: tuple[str, ...] = ()


class MasterRotation:
    """`hold` has the next `control` know the keys held now; it is called before anything is wrapped by a new one.

    `names` are those of the fleet's bots.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        vault: Vault,
        data_dir: Path,
        hold: Callable[[], Awaitable[None]],
        *,
        batch: int = BATCH,
        names: Callable[[], Mapping[int, str]] = dict,
    ) -> None:
        self._names = names
        self._engine = engine
        self._vault = vault
        self._source = vault.source
        self._data_dir = data_dir
        self._hold = hold
        self._batch = batch
        self._lock = asyncio.Lock()
        self._proposed: MasterKeys | None = None
        """A new key that the operator was told to put where keys are kept, before those that are there."""

    @property
    def source(self) -> Source:
        """Where the keys are kept."""
        return self._source

    @property
    def place(self) -> str:
        """The same in words."""
        return master_keys.place(self._source, self._data_dir)

    async def rotate(self, given: str = "") -> Rotated:
        """Begin a rotation, or go on with one. `given` are the keys as the operator keeps them now, if elsewhere.

        Raises VaultError, also when it is done but for keys that can't be unwrapped, DatabaseAwayError, UsageError for
        keys that are none, RefusedError for keys that don't fit.
        """
        async with self._lock:
            masters = self._held()
            try:
                if self._source is Source.FILE:
                    if not await self._under_way():
                        await self._adopt(masters.renewed(), "begun")
                elif given and (offered := self._offered(given)) != masters:
                    await self._take(offered)
                elif not await self._under_way():
                    return self._instructions(masters)
                done = await self._finish()
            except DATABASE_TROUBLE as error:
                raise DatabaseAwayError(error) from error
            if done.bad:
                raise _not_all(done)
            return done

    async def run(self) -> None:
        """Finish what an earlier process has left half done; returns when nothing is left."""
        wait = _FIRST_WAIT
        while self._vault.masters is not None:
            try:
                async with self._lock:
                    if not self._vault.loaded:
                        raise VaultError("not loaded yet")
                    if await self._under_way():
                        _log.warning("a rotation of the master key was left half done; going on with it")
                        done = await self._finish()
                        if done.bad:
                            _log.error("data keys can't be rewrapped", keys=list(done.bad))
                    return
            except DATABASE_TROUBLE as error:
                _log.warning("the master key's rotation waits for the database", reason=database_reason(error))
            except VaultError as error:
                if self._vault.loaded:
                    _log.error("the master key's rotation can't be finished", reason=error.message)
            await asyncio.sleep(wait)
            wait = min(wait * 2, _LONGEST_WAIT) if self._vault.loaded else wait

    def _held(self) -> MasterKeys:
        if self._vault.masters is None:
            raise VaultError("there is no master key", hint="Start the daemon with `botctl start`: it makes one.")
        return self._vault.masters

    async def _under_way(self) -> bool:
        """Whether there is something left to rewrap or to let go of."""
        left, bad = await self._left_over()
        return bool(left) or (self._source is Source.FILE and self._needed(bad) != self._held())

    async def _left_over(self) -> tuple[list[tuple[int, DataKey]], list[Unwrappable]]:
        async with self._engine.connect() as connection:
            return self._vault.left_over(await secrets.read_keys(connection))

    def _needed(self, bad: list[Unwrappable]) -> MasterKeys:
        """Of the keys that are held, the current one and those that an unwrappable data key names."""
        held = self._held()
        named = {one.master_version for one in bad}
        return MasterKeys((held.current, *(key for key in held.keys[1:] if key.version in named)))

    def _offered(self, given: str) -> MasterKeys:
        try:
            return master_keys.parse(given)
        except VaultError as error:
            raise UsageError(f"{self.place}: {error.message}", hint=error.hint) from None

    async def _take(self, offered: MasterKeys) -> None:
        """Go over to keys that the operator has put where they are kept."""
        held = self._held()
        if offered.current.version < held.current.version:
            raise RefusedError(
                f"master key version {offered.current.version} is older than {held.current.version}, which is in use",
                hint="The current key stands first and has the highest version.",
            )
        async with self._engine.connect() as connection:
            in_use = [(key.master_version, key.master_check) for key in await secrets.read_keys(connection)]
        master_keys.verify(offered, in_use, f"{self.place} of this shell")
        await self._adopt(offered, "begun")

    async def _adopt(self, keys: MasterKeys, step: str) -> None:
        hide(*keys.words())
        if self._source is Source.FILE:
            await asyncio.to_thread(master_keys.replace_file, self._data_dir, keys)
        self._vault.masters = keys
        await self._hold()
        async with self._engine.begin() as connection:
            versions = {"version": keys.current.version, "held": list(keys.versions)}
            await audit.record(connection, 0, f"master_key.{step}", "master key", after=versions)
        _log.info(f"rotation of the master key {step}", version=keys.current.version, held=list(keys.versions))

    async def _finish(self) -> Rotated:
        """Rewrap what is left; then let go of old keys, as far as they are ours to let go of."""
        total = 0
        while done := await self._vault.rewrap(self._engine, self._batch):
            total += done
        _, bad = await self._left_over()
        masters, needed = self._held(), self._needed(bad)
        version, todo = masters.current.version, ""
        if self._source is Source.FILE:
            if needed != masters:
                await self._adopt(needed, "done")
        elif free := [str(one) for one in masters.versions if one not in needed.versions]:
            todo = f"Version {', '.join(free)} is needed no more: take it out of {self.place}."
        return Rotated(version, total, todo, bad=tuple(map(self._told, bad)))

    def _told(self, one: Unwrappable) -> str:
        name = self._names().get(one.bot_id)
        return f"{name}: {one.reason}" if name else one.reason

    def _instructions(self, masters: MasterKeys) -> Rotated:
        # The same as long as it is not in use: whoever asks twice must not get two keys of one version.
        if self._proposed is None or self._proposed.keys[1:] != masters.keys:
            self._proposed = masters.renewed()
        fresh = self._proposed
        hide(*fresh.words())
        return Rotated(
            masters.current.version,
            0,
            f"Put this key and a comma in front of what {self.place} has now (a key without a version there is version "
            "1), for the service and for this shell. Then run this command again: it rewraps while the bots run.",
            fresh.settled().text(),
        )


def _not_all(done: Rotated) -> VaultError:
    keys = f"{len(done.bad)} data key{'s' if len(done.bad) > 1 else ''}"
    return VaultError(
        f"master key version {done.version} is in use, {done.rewrapped} rewrapped; {keys} can't be: "
        + "; ".join(done.bad),
        hint="Restore these rows of bot_keys from a backup, and run this again; the master key that they name is kept "
        "until then. If they are lost for good, delete them: what they have sealed can't be opened by anybody."
        + (f" {done.todo}" if done.todo else ""),
    )
