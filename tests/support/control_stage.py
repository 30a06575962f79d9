"""The part of `control` that keeps an ingress and the fleet it is for, over real servers."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import msgspec

from botctl.control.fleet.applied import FleetSource
from botctl.control.fleet.keeper import FleetKeeper
from botctl.control.ingress.keeper import IngressKeeper
from botctl.control.secrets.vault import Vault
from botctl.control.watching.hearing import WebhookSight
from botctl.fleet import BotSpec, Fleet
from botctl.handover import BotConfig, WebhookTarget
from botctl.security import master_keys
from botctl.settings.webhook import WebhookSettings
from botctl.storage.engine import login_engine
from support.fleet_stage import Stage, around
from support.ingress_stage import HEADER, message

SETTINGS = WebhookSettings.model_validate({"listen": "127.0.0.1:0", "public_url": "https://bots.example.org/t"})


class Control:
    """One `control` with an ingress; `again` is the one that comes after it."""

    def __init__(self, stage: Stage, folder: Path, telegram: str = "http://127.0.0.1:9") -> None:
        self.stage, self.telegram = stage, telegram
        self.given = master_keys.create_file(folder)
        self.woken: list[int] = []
        self.task: asyncio.Task[None] | None = None
        self.shown: dict[int, WebhookSight] = {}
        self.looks = 0
        self.begin()

    def begin(self, **more: Any) -> None:
        stage = self.stage
        self.vault = Vault(more.get("masters", self.given), held=more.get("held"))
        surroundings = replace(
            around(stage.login.target, stage.redis_url),
            webhook=WebhookTarget(url=SETTINGS.public_url, secret="", max_connections=9),
        )
        self.keeper = FleetKeeper(stage.engine, stage.bus, stage.supervisor, surroundings, vault=self.vault)
        self.ingress = IngressKeeper(
            SETTINGS,
            self.keeper,
            lambda: login_engine(stage.login, pool_size=1),
            self.woken.append,
            self.telegram,
            self._told,
            grace=0.2,
        )
        self.keeper.before_desire = self.ingress.renew
        self.task = asyncio.create_task(self.ingress.run())

    def _told(self) -> Mapping[int, WebhookSight]:
        self.looks += 1
        return self.shown

    async def end(self) -> None:
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)

    async def again(self) -> None:
        await self.end()
        desired = self.stage.supervisor.desired[-1]
        held = {one.bot_id: 1 for one in desired.bots}
        self.begin(held=held)
        self.keeper.resume(desired.applied, held)

    async def apply(self, *bots: BotSpec) -> Any:
        return await self.keeper.apply(Fleet(bots=bots), FleetSource())

    def told(self, bot_id: int) -> WebhookTarget | None:
        """What the bot was last told of its webhook."""
        wanted = next(one for one in self.stage.supervisor.desired[-1].bots if one.bot_id == bot_id)
        return msgspec.json.decode(wanted.config, type=BotConfig).webhook

    async def knock(self, bot_id: int, secret: str, update_id: int = 1) -> int:
        house = self.ingress.house
        assert house is not None
        async with httpx.AsyncClient(timeout=20) as client:
            answer = await client.post(
                f"http://127.0.0.1:{house.address[1]}/t/{bot_id}", json=message(update_id), headers={HEADER: secret}
            )
        return answer.status_code
