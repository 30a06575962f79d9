"""An operator's sends, from the desk into the inbox and back from the journal; what is sealed stays so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from botctl.control.fleet.applied import FleetSource
from botctl.control.fleet.keeper import FleetKeeper
from botctl.control.secrets.sealing import sealing_of
from botctl.control.secrets.vault import Vault
from botctl.control.tracing.room import DeskRoom
from botctl.control.tracing.send_desk import LONGEST, SendDesk
from botctl.errors import ConflictError, NoSuchBotError, UsageError
from botctl.fleet import BotSpec, Fleet
from botctl.security import master_keys
from botctl.storage.engine import bot_engine
from botctl.storage.sends import SendRow, Sends
from support.fleet_stage import Stage, around, bot


class Desk:
    """A fleet of bots, and the desk that has them send."""

    def __init__(self, stage: Stage, folder: Path) -> None:
        self.stage = stage
        self.vault = Vault(master_keys.create_file(folder))
        self.keeper = FleetKeeper(
            stage.engine, stage.bus, stage.supervisor, around(stage.login.target, stage.redis_url), vault=self.vault
        )
        self.woken: list[int] = []
        room = DeskRoom(stage.engine, self.vault, dict, stage.supervisor.sight, lambda *_: None)
        self.desk = SendDesk(
            room, lambda: self.keeper.fleet, lambda one: sealing_of(self.vault, one), self.woken.append
        )

    async def fleet(self, *bots: BotSpec) -> None:
        await self.keeper.apply(Fleet(bots=bots), FleetSource())

    async def row(self, bot_id: int) -> Any:
        (found,) = await self.stage.rows(
            f"SELECT cause, kind, lane, payload::text, state FROM inbox WHERE bot_id = {bot_id}"
        )
        return found

    async def journal(self, spec: BotSpec, operation: str, state: str, **more: Any) -> None:
        """As the bot would write it."""
        sends = Sends(spec.bot_id, sealing_of(self.vault, spec))
        row = SendRow(f"op:{operation}", 0, "deferred", "sendMessage", 5, {"chat_id": 5}, "planned")
        password = self.stage.supervisor.passwords[spec.bot_id].database
        engine = bot_engine(self.stage.login.target, spec.bot_id, lambda: (password,))
        async with engine.begin() as connection:
            await sends.plan(connection, [row])
            if state == "sent":
                await sends.begin(connection, row.cause, 0)
                await sends.sent(connection, row.cause, 0, more["result"], begin_next=False)
            elif state == "failed":
                await sends.failed(connection, row.cause, 0, more["error"])
        await engine.dispose()


@pytest.fixture
def desk(stage: Stage, tmp_path: Path) -> Desk:
    return Desk(stage, tmp_path)


async def test_a_text_is_put_into_the_lane_of_its_chat_and_the_bot_is_woken(desk: Desk) -> None:
    spec = bot("one")
    await desk.fleet(spec)
    body = await desk.desk.send("one", [5], "hello", None, {"parse_mode": "HTML"})
    (view,) = body.sends
    cause, kind, lane, payload, state = await desk.row(spec.bot_id)
    assert (cause, kind, lane, state) == (f"op:{view.id}", "operation", "chat:5", "new")
    assert json.loads(payload) == {
        "method": "sendMessage",
        "parameters": {"chat_id": 5, "text": "hello", "parse_mode": "HTML"},
    }
    assert (desk.woken, body.runs, body.bot_state) == ([spec.bot_id], True, "running")
    assert (await desk.desk.sent("one", [view.id])).sends[0].state == "waiting"


async def test_several_chats_are_several_sends_each_once(desk: Desk) -> None:
    spec = bot("one")
    await desk.fleet(spec)
    body = await desk.desk.send("one", [5, "@channel", 5], "hello", "my-own-id", {})
    assert [(one.id, one.chat) for one in body.sends] == [("my-own-id", 5), ("my-own-id.1", "@channel")]
    again = await desk.desk.send("one", [5, "@channel"], "hello", "my-own-id", {})
    assert [one.id for one in again.sends] == ["my-own-id", "my-own-id.1"]
    for chats, text, more in (
        ([5, "@channel"], "goodbye", {}),
        ([5, "@channel"], "hello", {"parse_mode": "HTML"}),
        ([5], "hello", {}),
        ([5, "@channel", 6], "hello", {}),
        (["@channel", 5], "hello", {}),
    ):
        with pytest.raises(ConflictError, match="my-own-id was used before"):
            await desk.desk.send("one", chats, text, "my-own-id", more)
    assert len(desk.woken) == 2
    lanes = await desk.stage.rows(f"SELECT lane FROM inbox WHERE bot_id = {spec.bot_id} ORDER BY inbox_id")
    assert [row[0] for row in lanes] == ["chat:5", "other"]


async def test_a_bot_that_encrypts_has_it_sealed_and_the_answer_is_read(desk: Desk) -> None:
    spec = bot("one", encrypt_messages=True)
    await desk.fleet(spec)
    (view,) = (await desk.desk.send("one", [5], "between us", None, {})).sends
    assert "between us" not in (await desk.row(spec.bot_id))[3]
    assert (await desk.desk.send("one", [5], "between us", view.id, {})).sends == [view]
    with pytest.raises(ConflictError):
        await desk.desk.send("one", [5], "between them", view.id, {})
    await desk.journal(spec, view.id, "sent", result={"message_id": 77})
    (told,) = (await desk.desk.sent("one", [view.id])).sends
    assert (told.state, told.message_id, told.error) == ("sent", 77, None)


async def test_a_refusal_of_telegram_is_told(desk: Desk) -> None:
    spec = bot("one")
    await desk.fleet(spec)
    (view,) = (await desk.desk.send("one", [5], "hello", None, {})).sends
    await desk.journal(spec, view.id, "failed", error="Forbidden: bot was blocked by the user")
    (told,) = (await desk.desk.sent("one", [view.id])).sends
    assert (told.state, told.error) == ("refused", "Forbidden: bot was blocked by the user")
    (view,) = (await desk.desk.send("one", [6], "hello", None, {})).sends
    await desk.journal(spec, view.id, "failed", error="Forbidden: the chat is unreachable: blocked")
    assert (await desk.desk.sent("one", [view.id])).sends[0].state == "unsent"  # nobody has asked Telegram
    (gone,) = (await desk.desk.sent("one", ["nobody-knows"])).sends
    assert gone.state == "gone"


async def test_one_that_was_given_up_or_dropped_waits_no_more(desk: Desk) -> None:
    spec = bot("one")
    await desk.fleet(spec)
    (view,) = (await desk.desk.send("one", [5], "hello", None, {})).sends
    for state in ("dead", "dropped"):
        async with desk.stage.engine.begin() as connection:
            await connection.exec_driver_sql(
                f"UPDATE inbox SET state = '{state}', last_error = 'ValueError: why' WHERE bot_id = {spec.bot_id}"
            )
        (told,) = (await desk.desk.sent("one", [view.id])).sends
        assert (told.state, told.error) == ("unsent", "ValueError: why")


async def test_what_makes_no_sense_is_refused_and_nothing_is_kept(desk: Desk) -> None:
    await desk.fleet(bot("one"))
    for text in ("", "  \n", "x" * (LONGEST + 1)):
        with pytest.raises(UsageError):
            await desk.desk.send("one", [5], text, None, {})
    with pytest.raises(NoSuchBotError):
        await desk.desk.send("two", [5], "hello", None, {})
    assert not desk.woken
