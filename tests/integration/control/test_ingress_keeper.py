"""Who may bring updates, as the fleet changes: secrets made, kept over a restart, renewed without a gap, let go."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from botctl.control.defence.threat_feeds import Talkative
from botctl.control.ports import BotSight, FleetSight
from botctl.control.watching.hearing import WebhookSight
from botctl.errors import UsageError
from botctl.security.threat.observations import UserVolume
from support import stack as stacks
from support.control_stage import Control
from support.fleet_stage import Stage, bot


@pytest.fixture
async def control(stage: Stage, tmp_path: Path) -> AsyncIterator[Control]:
    made = Control(stage, tmp_path)
    await stacks.eventually(lambda: made.ingress.house is not None, "the ingress is open")
    yield made
    await made.end()


async def test_a_bot_is_told_of_its_webhook_and_let_in_with_its_secret(control: Control, stage: Stage) -> None:
    hooked, other, polls = (
        bot(name, updates=way) for name, way in (("a", "webhook"), ("b", "webhook"), ("c", "polling"))
    )
    await control.apply(hooked, other, polls)
    target = control.told(hooked.bot_id)
    assert target is not None
    assert target.url.startswith(f"https://bots.example.org/t/{hooked.bot_id}?v=")
    assert control.told(polls.bot_id) is None
    assert await control.knock(hooked.bot_id, target.secret) == 200
    assert await control.knock(other.bot_id, target.secret) == 404
    assert await control.knock(polls.bot_id, target.secret) == 404
    await stacks.eventually(lambda: control.woken == [hooked.bot_id], "the bot is woken")
    stored = await stage.rows("SELECT encode(sealed, 'escape') FROM bot_secrets WHERE name = 'webhook'")
    assert len(stored) >= 2
    assert not any(target.secret in row[0] for row in stored)


async def test_the_next_control_knows_the_secret_and_lets_nobody_in_before_it_has_looked(
    control: Control, stage: Stage
) -> None:
    hooked = bot("a", updates="webhook", encrypt_messages=True)
    await control.apply(hooked)
    target = control.told(hooked.bot_id)
    assert target is not None
    await control.again()
    await stacks.eventually(lambda: control.ingress.house is not None, "the ingress is open")
    assert await control.knock(hooked.bot_id, target.secret) == 503
    await control.keeper.hold()
    assert control.told(hooked.bot_id) == target, "whatever the database says, or doesn't"
    settling = asyncio.create_task(control.keeper.run())
    try:
        await stacks.eventually(lambda: control.vault.loaded, "the vault is open")

        async def let_in() -> bool:
            return await control.knock(hooked.bot_id, target.secret, 77) == 200

        await stacks.eventually(let_in, "it is let in")
    finally:
        settling.cancel()
    rows = await stage.rows(f"SELECT payload::text FROM inbox WHERE bot_id = {hooked.bot_id}")
    assert len(rows) == 1
    assert '"$sealed"' in rows[0][0]


async def test_a_new_secret_leaves_no_gap_and_the_old_one_goes_when_telegram_uses_it(control: Control) -> None:
    hooked = bot("a", updates="webhook")
    await control.apply(hooked)
    old = control.told(hooked.bot_id)
    await control.keeper.renew_webhook("a")
    new = control.told(hooked.bot_id)
    assert old is not None
    assert new is not None
    assert (old.secret != new.secret, old.url != new.url) == (True, True)
    await asyncio.sleep(0.5)  # longer than the grace: time alone changes nothing
    assert await control.knock(hooked.bot_id, old.secret) == 200
    assert await control.knock(hooked.bot_id, new.secret) == 200

    async def refused() -> bool:
        return await control.knock(hooked.bot_id, old.secret) == 404

    await stacks.eventually(refused, "the old one is refused")
    assert await control.knock(hooked.bot_id, new.secret) == 200


async def test_an_idle_bots_old_secret_goes_when_telegram_says_that_it_has_the_new_one(control: Control) -> None:
    hooked = bot("a", updates="webhook")
    await control.apply(hooked)
    old = control.told(hooked.bot_id)
    await control.keeper.renew_credentials([hooked.bot_id])
    new = control.told(hooked.bot_id)
    assert old is not None
    assert new is not None
    control.shown[hooked.bot_id] = WebhookSight(0, url=old.url)
    looks = control.looks
    await stacks.eventually(lambda: control.looks > looks + 2, "it has been looked at")
    assert await control.knock(hooked.bot_id, old.secret) == 200
    control.shown[hooked.bot_id] = WebhookSight(0, url=new.url)

    async def refused() -> bool:
        return await control.knock(hooked.bot_id, old.secret) == 404

    await stacks.eventually(refused, "the old one is refused")
    await control.keeper.renew_credentials([hooked.bot_id])
    assert control.told(hooked.bot_id) != new, "the next rotation doesn't wait"


async def test_daily_rotation_waits_for_a_bot_that_is_down_and_a_wish_does_not(control: Control) -> None:
    hooked = bot("a", updates="webhook")
    await control.apply(hooked)
    seen = [control.told(hooked.bot_id)]
    for _ in range(3):
        await control.keeper.renew_credentials([hooked.bot_id])
        seen.append(control.told(hooked.bot_id))
    assert [one == seen[1] for one in seen] == [False, True, True, True]
    await control.keeper.renew_webhook("a")
    assert control.told(hooked.bot_id) not in seen
    for one in seen:
        assert one is not None
        assert await control.knock(hooked.bot_id, one.secret) == 200, "Telegram may use any of them"


async def test_one_that_polls_now_gets_what_was_on_its_way(control: Control) -> None:
    await control.apply(bot("a", 47_001, updates="webhook"))
    target = control.told(47_001)
    assert target is not None
    await control.apply(bot("a", 47_001))
    assert control.told(47_001) is None
    assert await control.knock(47_001, target.secret) == 200
    with pytest.raises(UsageError, match="no webhook"):
        await control.keeper.renew_webhook("a")


async def test_without_a_master_key_there_is_no_webhook(control: Control) -> None:
    await control.end()
    control.begin(masters=None)
    applied = await control.apply(bot("a", updates="webhook"), bot("b"))
    assert "no master key" in applied.failed["a"]
    assert [one.name for one in control.stage.supervisor.desired[-1].bots] == ["b"]


async def test_without_an_ingress_nobody_may_want_a_webhook(stage: Stage) -> None:
    with pytest.raises(UsageError, match=r"no \[webhook\]"):
        await stage.apply(bot("a", updates="webhook"))


async def test_who_floods_a_bot_is_judged_once_a_minute_whatever_incarnations_it_has(
    control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    hooked, polls = bot("a", updates="webhook"), bot("b")
    await control.apply(hooked, polls)
    target = control.told(hooked.bot_id)
    assert target is not None
    for number in range(35):
        assert await control.knock(hooked.bot_id, target.secret, number) == 200
    later = time.monotonic() + 61
    monkeypatch.setattr("botctl.control.ingress.house.time.monotonic", lambda: later)
    talkative = Talkative()

    def sight(incarnation: int) -> FleetSight:
        bots = tuple(
            BotSight(name=one.name, bot_id=one.bot_id, state="running", pid=1, incarnation=incarnation)
            for one in (hooked, polls)
        )
        return control.ingress.seen(FleetSight(pid=1, state="running", started_at=0.0, generation=1, bots=bots))

    bare = FleetSight(pid=1, state="running", started_at=0.0, generation=1)
    assert talkative.read(bare, 0.0) == []
    (found,) = talkative.read(sight(1), 1.0)
    assert isinstance(found, UserVolume)
    assert (found.bot_id, found.user_id, found.count) == (hooked.bot_id, 5, 35.0)
    assert talkative.read(sight(2), 2.0) == []
