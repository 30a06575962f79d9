"""Keys and tokens in the control process, against a real database: made, handed over, rotated, refused, resumed."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from botctl.control.fleet.applied import FleetSource
from botctl.control.fleet.keeper import FleetKeeper
from botctl.control.secrets.master_rotation import MasterRotation
from botctl.control.secrets.vault import Vault
from botctl.errors import RefusedError, UsageError, VaultError
from botctl.fleet import BotSpec, Fleet
from botctl.handover import BotConfig
from botctl.security import master_keys
from botctl.security.master_keys import MasterKeys, Source, new_keys
from botctl.security.vault import key_id_of
from botctl.storage.engine import connect
from support.fleet_stage import Stage, around, bot, eventually


class Keys:
    """One control with a vault over a stage's servers; `again` is the control that comes after it."""

    def __init__(self, stage: Stage, folder: Path, source: Source = Source.FILE) -> None:
        self.stage, self.folder, self.source = stage, folder, source
        self.given = master_keys.create_file(folder) if source is Source.FILE else new_keys()
        self.begin(self.given)

    def begin(self, masters: MasterKeys | None, held: dict[int, int] | None = None) -> None:
        stage = self.stage
        self.vault = Vault(masters, self.source, held)
        self.keeper = FleetKeeper(
            stage.engine, stage.bus, stage.supervisor, around(stage.login.target, stage.redis_url), vault=self.vault
        )
        self.rotation = MasterRotation(stage.engine, self.vault, self.folder, self.keeper.hold, batch=2)

    def again(self) -> None:
        """The next control, after a crash: it has the file, or the note, and what the supervisor holds."""
        desired = self.stage.supervisor.desired[-1]
        held = {one.bot_id: one.keys[0][0] for one in desired.bots if one.keys}
        self.begin(master_keys.read_file(self.folder) if self.source is Source.FILE else self.given, held)
        self.keeper.resume(desired.applied, dict.fromkeys(held, 1))

    async def load(self) -> None:
        async with self.stage.engine.connect() as connection:
            await self.vault.load(connection)

    async def apply(self, *bots: BotSpec) -> Any:
        return await self.keeper.apply(Fleet(bots=bots), FleetSource())

    def handed(self, bot_id: int) -> tuple[tuple[int, str], ...]:
        """The keys the supervisor was last given for a bot."""
        return next(one.keys for one in self.stage.supervisor.desired[-1].bots if one.bot_id == bot_id)

    def token(self, bot_id: int) -> str:
        """The token the supervisor was last given for a bot."""
        wanted = next(one for one in self.stage.supervisor.desired[-1].bots if one.bot_id == bot_id)
        spec = bytes(msgspec.json.decode(wanted.config, type=BotConfig).spec)
        return BotSpec.model_validate_json(spec).token.get_secret_value()

    async def rows(self) -> list[tuple[Any, ...]]:
        return await self.stage.rows(
            "SELECT bot_id, key_id, master_version, wrapped, retired_at IS NOT NULL FROM bot_keys ORDER BY 1, 2"
        )


@pytest.fixture
async def admin(database: Any) -> AsyncIterator[Any]:
    connection = await connect(database.admin)
    await connection.execute("TRUNCATE bot_keys, bot_secrets")
    yield connection
    await connection.close()


@pytest.fixture
def keys(stage: Stage, tmp_path: Path, admin: Any) -> Keys:
    return Keys(stage, tmp_path)


async def test_each_bot_gets_a_key_of_its_own_and_no_other(keys: Keys) -> None:
    one, two = bot("one"), bot("two", encrypt_messages=True)
    assert (await keys.apply(one, two)).failed == {}
    (first,), (second,) = keys.handed(one.bot_id), keys.handed(two.bot_id)
    assert (first[0], second[0]) == (1, 1)
    assert len({first[1], second[1]}) == 2
    desired = keys.stage.supervisor.desired[-1]
    assert first[1] in desired.bots[0].secrets, "so that no log ever shows it"
    assert second[1] not in repr(desired)
    assert second[1] not in str(desired.bots[0])
    wrapped = [row[3] for row in await keys.rows()]
    for row in wrapped:
        assert base64.b64decode(first[1]) not in row
        assert keys.given.current.material not in row


async def test_the_next_control_unwraps_the_same_keys_and_bothers_nobody(keys: Keys) -> None:
    one = bot("one")
    await keys.apply(one)
    before, told = keys.handed(one.bot_id), len(keys.stage.supervisor.desired)
    keys.again()
    await keys.load()
    assert keys.vault.words(one.bot_id) == before
    assert not keys.vault.owed([one.bot_id])
    assert len(keys.stage.supervisor.desired) == told
    keys.begin(keys.given)
    await keys.apply(one)
    assert keys.handed(one.bot_id) == before
    assert len(await keys.rows()) == 1


async def test_a_key_the_supervisor_lacks_is_handed_over_by_the_next_control(keys: Keys) -> None:
    one = bot("one")
    await keys.apply(one)
    keys.again()
    await keys.load()
    await keys.vault.renew(keys.stage.engine, one.bot_id)  # and then the process ends
    keys.again()
    running = asyncio.create_task(keys.keeper.run())
    try:

        async def handed() -> bool:
            return [number for number, _ in keys.handed(one.bot_id)] == [2, 1]

        await eventually(handed)
    finally:
        running.cancel()


async def test_a_wrong_master_key_refuses_and_makes_nothing(keys: Keys) -> None:
    one, two = bot("one"), bot("two")
    await keys.apply(one)
    before = await keys.rows()
    keys.begin(new_keys())
    applied = await keys.apply(one, two)
    assert list(applied.failed) == ["one"]
    assert "is not the one that wrapped it" in applied.failed["one"]
    assert [row for row in await keys.rows() if row[0] == one.bot_id] == before
    assert [wanted.name for wanted in keys.stage.supervisor.desired[-1].bots] == ["two"]


async def test_without_a_master_key_no_bot_may_ask_for_sealed_messages(keys: Keys) -> None:
    keys.begin(None)
    applied = await keys.apply(bot("one"), bot("two", encrypt_messages=True))
    assert list(applied.failed) == ["two"]
    assert [wanted.name for wanted in keys.stage.supervisor.desired[-1].bots] == ["one"]


async def test_the_key_of_another_bot_is_refused(keys: Keys, admin: Any) -> None:
    one, two = bot("one"), bot("two")
    await keys.apply(one, two)
    await admin.execute(
        "UPDATE bot_keys SET wrapped = (SELECT wrapped FROM bot_keys WHERE bot_id = $2) WHERE bot_id = $1",
        one.bot_id,
        two.bot_id,
    )
    keys.begin(keys.given)
    applied = await keys.apply(one, two)
    assert list(applied.failed) == ["one"]
    assert "another bot's" in applied.failed["one"]
    with pytest.raises(VaultError, match="another bot's"):
        await keys.keeper.renew_key("one")


async def test_a_new_data_key_is_handed_over_beside_the_old_one(keys: Keys) -> None:
    one = bot("one")
    await keys.apply(one)
    old = keys.handed(one.bot_id)
    digest = keys.stage.supervisor.desired[-1].bots[0].digest
    await keys.keeper.replace_token("one", f"{one.bot_id}:new-token")
    assert await keys.keeper.renew_key("one") == 2
    handed = keys.handed(one.bot_id)
    assert ([number for number, _ in handed], handed[1:]) == ([2, 1], old)
    assert digest != keys.stage.supervisor.desired[-2].bots[0].digest, "a new token restarts it"
    assert keys.stage.supervisor.desired[-2].bots[0].digest == keys.stage.supervisor.desired[-1].bots[0].digest
    assert [row[4] for row in await keys.rows()] == [True, False]
    ((number, sealed),) = await keys.stage.rows("SELECT key_id, sealed FROM bot_secrets")
    assert (number, key_id_of(sealed)) == (2, 2), "its secrets are sealed anew"
    keys.begin(keys.given)
    await keys.load()
    rotated = keys.vault.token(one.bot_id)
    assert rotated is not None
    assert rotated.token == f"{one.bot_id}:new-token"


# --- the master key ------------------------------------------------------------------------------------------------


async def test_a_new_master_key_rewraps_everything_and_the_old_one_goes(keys: Keys) -> None:
    bots = [bot(f"b{number}") for number in range(5)]
    await keys.apply(*bots)
    await keys.keeper.renew_key("b0")
    before = {one.bot_id: keys.vault.words(one.bot_id) for one in bots}
    done = await keys.rotation.rotate()
    assert (done.version, done.rewrapped, done.todo, done.entry) == (2, 6, "", "")
    assert {row[2] for row in await keys.rows()} == {2}
    file = master_keys.read_file(keys.folder)
    assert file is not None
    assert file.versions == (2,)
    assert file == keys.vault.masters
    keys.begin(file)
    await keys.load()
    assert {one.bot_id: keys.vault.words(one.bot_id) for one in bots} == before
    audited = await keys.stage.rows("SELECT action, after::text FROM audit_log WHERE entity = 'master key' ORDER BY at")
    assert [(action, json.loads(after)["version"]) for action, after in audited[-2:]] == [
        *(("master_key.begun", 2), ("master_key.done", 2))
    ]
    keys.begin(keys.given)
    await keys.load()
    assert all(not keys.vault.ready(one.bot_id) for one in bots), "the old one opens nothing any more"


class CrashError(BaseException):
    """The process ends here."""


STEPS = 9
"""Of a rotation of five keys in batches of two: file, note, four rewrappings (the last finds nothing), file, note …"""


@pytest.mark.parametrize("point", range(1, STEPS))
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_crash_at_any_step_leaves_every_key_openable_and_the_next_one_finishes(
    keys: Keys, monkeypatch: pytest.MonkeyPatch, point: int, when: str
) -> None:
    bots = [bot(f"b{number}") for number in range(5)]
    await keys.apply(*bots)
    before = {one.bot_id: keys.vault.words(one.bot_id) for one in bots}
    taken = 0

    def step() -> bool:
        nonlocal taken
        taken += 1
        return taken == point

    def crashing(work: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def run(*arguments: Any) -> Any:
            crash = step()
            if crash and when == "before":
                raise CrashError
            result = await work(*arguments)
            if crash:
                raise CrashError
            return result

        return run

    replace = master_keys.replace_file

    def replacing(folder: Path, given: MasterKeys) -> None:
        crash = step()
        if crash and when == "before":
            raise CrashError
        replace(folder, given)
        if crash:
            raise CrashError

    with monkeypatch.context() as patch:
        patch.setattr(keys.vault, "rewrap", crashing(keys.vault.rewrap))
        patch.setattr(keys.rotation, "_hold", crashing(keys.rotation._hold))
        patch.setattr(master_keys, "replace_file", replacing)
        with pytest.raises(CrashError):
            await keys.rotation.rotate()
    assert taken == point
    keys.again()
    await keys.load()
    assert {one.bot_id: keys.vault.words(one.bot_id) for one in bots} == before, "all of them open"
    await keys.rotation.run()
    file = master_keys.read_file(keys.folder)
    assert file is not None
    begun = point > 1 or when == "after"
    assert file.versions == ((2,) if begun else (1,))
    assert {row[2] for row in await keys.rows()} == set(file.versions)
    keys.begin(file)
    await keys.load()
    assert {one.bot_id: keys.vault.words(one.bot_id) for one in bots} == before
    assert (await keys.rotation.rotate()).version == file.current.version + 1


@pytest.fixture
def elsewhere(stage: Stage, tmp_path: Path, admin: Any) -> Keys:
    """A control whose master key the operator keeps in the environment."""
    return Keys(stage, tmp_path, Source.ENVIRONMENT)


async def test_a_key_that_can_not_be_unwrapped_holds_up_no_other_and_is_named(keys: Keys, admin: Any) -> None:
    specs = [bot(f"bot-{number}") for number in range(4)]
    await keys.apply(*specs)
    broken = specs[0].bot_id
    whole = await admin.fetchval("SELECT wrapped FROM bot_keys WHERE bot_id = $1", broken)
    await admin.execute("UPDATE bot_keys SET wrapped = '\\x00' WHERE bot_id = $1", broken)
    keys.rotation._names = lambda: {broken: "bot-0"}
    for version, moved in ((2, 3), (3, 3)):
        with pytest.raises(VaultError, match=f"bot-0: data key 1 of bot {broken} can't be unwrapped") as refused:
            await keys.rotation.rotate()
        assert f"version {version} is in use, {moved} rewrapped; 1 data key can't be" in refused.value.message
        assert "backup" in (refused.value.hint or "")
        kept = master_keys.read_file(keys.folder)
        assert kept is not None
        assert kept.versions == (version, 1), "as long as somebody needs it"
        assert [row[2] for row in await keys.rows()] == [1, version, version, version]
    keys.again()
    await keys.load()
    await asyncio.wait_for(keys.rotation.run(), 10)
    await admin.execute("UPDATE bot_keys SET wrapped = $2 WHERE bot_id = $1", broken, whole)
    assert (await keys.rotation.rotate()).rewrapped == 1
    kept = master_keys.read_file(keys.folder)
    assert kept is not None
    assert kept.versions == (3,)


@pytest.mark.parametrize("renewed", [False, True])
async def test_a_bot_whose_key_was_deleted_is_refused_and_gets_no_other_in_its_place(
    keys: Keys, admin: Any, renewed: bool
) -> None:
    one, two = bot("one", encrypt_messages=True), bot("two")
    await keys.apply(one, two)
    if renewed:
        await keys.keeper.renew_key("one")
    await admin.execute("DELETE FROM bot_keys WHERE bot_id = $1 AND key_id = $2", one.bot_id, 1 + renewed)
    before = await keys.rows()
    keys.begin(keys.given)
    applied = await keys.apply(one, two)
    assert f"data key {1 + renewed} is gone" in applied.failed["one"]
    assert [wanted.bot_id for wanted in keys.stage.supervisor.desired[-1].bots] == [two.bot_id]
    assert await keys.rows() == before
    with pytest.raises(VaultError, match="is gone"):
        await keys.keeper.renew_key("one")


async def test_a_key_that_the_operator_keeps_is_rotated_in_two_steps(elsewhere: Keys) -> None:
    one = bot("one")
    await elsewhere.apply(one)
    before = elsewhere.handed(one.bot_id)
    first = await elsewhere.rotation.rotate(elsewhere.given.text())
    assert (first.rewrapped, first.version) == (0, 1)
    assert first.entry.startswith("2:")
    assert "BOTCTL_MASTER_KEY" in first.todo
    assert (await elsewhere.rotation.rotate(elsewhere.given.text())).entry == first.entry, "as long as it is not in use"
    put = f"{first.entry},{elsewhere.given.text()}"
    second = await elsewhere.rotation.rotate(put)
    assert (second.rewrapped, second.version, second.entry) == (1, 2, "")
    assert "Version 1 is needed no more" in second.todo
    assert list(elsewhere.folder.iterdir()) == [], "nothing is written where the operator does not look"
    elsewhere.again()  # still with the key the daemon was started with
    await elsewhere.load()
    assert elsewhere.vault.words(one.bot_id) == before, "the note has the new one"
    third = await elsewhere.rotation.rotate(first.entry)
    assert (third.rewrapped, third.todo) == (0, "")
    assert elsewhere.vault.masters == master_keys.parse(first.entry)
    assert (await elsewhere.rotation.rotate(first.entry)).entry.startswith("3:")


async def test_a_daemon_started_with_two_versions_rewraps_by_itself(elsewhere: Keys) -> None:
    one = bot("one")
    await elsewhere.apply(one)
    elsewhere.begin(elsewhere.given.renewed())
    await elsewhere.load()
    await elsewhere.rotation.run()
    assert [row[2] for row in await elsewhere.rows()] == [2]


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (lambda held: "nonsense", UsageError, "can't be read"),
        (lambda held: held.renewed().settled().text(), VaultError, "version 1 is missing"),
        (lambda held: new_keys().text(), VaultError, "is another one"),
        (lambda held: new_keys().renewed().text(), VaultError, "is another one"),
    ],
)
async def test_keys_that_do_not_fit_are_refused_and_nothing_is_changed(
    elsewhere: Keys, given: Callable[[MasterKeys], str], error: type[Exception], message: str
) -> None:
    await elsewhere.apply(bot("one"))
    with pytest.raises(error, match=message):
        await elsewhere.rotation.rotate(given(elsewhere.given))
    assert elsewhere.vault.masters == elsewhere.given
    assert [row[2] for row in await elsewhere.rows()] == [1]


async def test_an_older_key_is_not_gone_back_to(elsewhere: Keys) -> None:
    await elsewhere.apply(bot("one"))
    await elsewhere.rotation.rotate(elsewhere.given.renewed().text())
    with pytest.raises(RefusedError, match="older than 2"):
        await elsewhere.rotation.rotate(elsewhere.given.text())


# --- tokens --------------------------------------------------------------------------------------------------------


async def test_a_new_token_stands_in_for_the_files_until_the_file_has_another(keys: Keys) -> None:
    one = bot("one")
    number = one.bot_id
    await keys.apply(one)
    for token in ("second-token", "third-token"):
        await keys.keeper.replace_token("one", f"{number}:{token}")
        assert keys.token(number) == f"{number}:{token}"
        again = await keys.apply(one)
        assert (again.unchanged, keys.token(number)) == (["one"], f"{number}:{token}"), "the file still has the first"
    keys.again()
    keys.begin(keys.given)
    await keys.apply(one)
    assert keys.token(number) == f"{number}:third-token", "it is kept"
    applied = await keys.apply(one.model_validate({"name": "one", "token": f"{number}:second-token"}))
    assert (applied.unchanged, keys.token(number)) == (["one"], f"{number}:third-token"), "that one was replaced too"
    await keys.apply(one.model_validate({"name": "one", "token": f"{number}:third-token"}))
    assert keys.token(number) == f"{number}:third-token"
    await keys.apply(one.model_validate({"name": "one", "token": f"{number}:fourth-token"}))
    assert keys.token(number) == f"{number}:fourth-token", "any other is newer"
    stored = await keys.stage.rows("SELECT sealed FROM bot_secrets")
    assert len(stored) == 1
    assert b"token" not in stored[0][0]


async def test_the_token_of_another_bot_is_refused(keys: Keys, admin: Any) -> None:
    one, two = bot("one"), bot("two")
    await keys.apply(one, two)
    for name, number in (("one", one.bot_id), ("two", two.bot_id)):
        await keys.keeper.replace_token(name, f"{number}:second-token")
    await admin.execute(
        "UPDATE bot_secrets SET sealed = (SELECT sealed FROM bot_secrets WHERE bot_id = $2) WHERE bot_id = $1",
        one.bot_id,
        two.bot_id,
    )
    keys.begin(keys.given)
    applied = await keys.apply(one, two)
    assert list(applied.failed) == ["one"]
    assert "token can't be opened" in applied.failed["one"]
    assert [wanted.name for wanted in keys.stage.supervisor.desired[-1].bots] == ["two"]
    assert keys.token(two.bot_id) == f"{two.bot_id}:second-token"
