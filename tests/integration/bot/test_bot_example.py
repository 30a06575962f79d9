"""The example under `examples/` works as its README says, with the real router between the two bots."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

from bot_waiting import until

from botctl.bus.client import connect
from botctl.bus.routing.roster import Roster
from botctl.bus.routing.router import Router
from botctl.bus.topology import Topology
from botctl.fleet import load_fleet

EXAMPLE = Path(__file__).parents[3] / "examples" / "concierge"


async def test_the_kitchen_cooks_what_the_concierge_has_ordered(
    new_bot: Any, database: Any, redis: Any, valkey_admin_url: str
) -> None:
    concierge, kitchen = await new_bot(database), await new_bot(database)
    env = {"CONCIERGE_TOKEN": concierge.token, "KITCHEN_TOKEN": kitchen.token}
    fleet = load_fleet(EXAMPLE / "fleet.yaml", env)
    for bot, spec in zip((concierge, kitchen), fleet.bots, strict=True):
        bot.folder = fleet.folder
        bot.start(**spec.model_dump(mode="json"))
        await bot.ready()
    roster = Roster.of({concierge.bot_id: fleet.bots[0].subscribe, kitchen.bot_id: fleet.bots[1].subscribe})
    blocking = connect(valkey_admin_url, blocking=True)
    routing = asyncio.create_task(Router(blocking, Topology("test"), lambda: roster).run())
    try:
        await concierge.say("/menu")
        await concierge.answers(1)
        message = (await concierge.telegram.transcript(concierge.bot_id, 100))[-1]
        await concierge.telegram.press(concierge.bot_id, 100, message["message_id"], "order:soup")

        async def served() -> bool:
            return await concierge.heard() == ["Tomato soup is ordered.", "Tomato soup is ready. Enjoy!"]

        await until(served)
        await concierge.say("thanks!")
        assert (await concierge.answers(3))[2] == "You are welcome."
        await concierge.say("My name is Ada.")
        assert "Ada" in (await concierge.answers(4))[3]
    finally:
        routing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await routing
        await blocking.aclose()
