"""An ingress on a free port over a real database, and somebody who sends updates to it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from botctl.control.ingress.door import Door, Resident
from botctl.control.ingress.house import House
from botctl.control.ingress.secrets import WebhookSecret
from botctl.handover import DatabaseLogin
from botctl.security.vault import Cipher, DataKey
from botctl.settings.webhook import WebhookSettings
from botctl.storage.engine import connect, login_engine
from botctl.storage.sealing import UNSEALED, Sealing

HEADER = "X-Telegram-Bot-Api-Secret-Token"
ALICE, BOB, SEALED, NOBODY = 88_001, 88_002, 88_003, 88_004


class IngressStage:
    """Three bots may be sent updates; the third one's are sealed. `woken` are the bots that were, in order."""

    def __init__(self, login: DatabaseLogin, **settings: Any) -> None:
        given = {"listen": "127.0.0.1:0", "public_url": "https://bots.example.org/telegram"} | settings
        self.login = login
        self.woken: list[int] = []
        self.cipher = Cipher(SEALED, [DataKey.new(SEALED, 1)])
        self.secrets = {bot_id: WebhookSecret.new(0.0) for bot_id in (ALICE, BOB, SEALED)}
        self.house = House(
            WebhookSettings.model_validate(given),
            lambda: login_engine(login, pool_size=1, application_name="botctl webhook"),
            self.woken.extend,
        )
        self.open_door()
        self.house.start()

    def open_door(self) -> None:
        """Let in whoever shows one of `secrets` now."""
        residents = {
            bot_id: Resident(bot_id, secret, Sealing(self.cipher, seals=True) if bot_id == SEALED else UNSEALED)
            for bot_id, secret in self.secrets.items()
        }
        self.house.door = Door(self.house.settings.path, residents)

    @property
    def port(self) -> int:
        """Where it listens."""
        port: int = self.house.address[1]
        return port

    @property
    def url(self) -> str:
        """Without a bot's id."""
        scheme = "https" if self.house.certificate is not None else "http"
        return f"{scheme}://127.0.0.1:{self.port}/telegram"

    def secret(self, bot_id: int) -> str:
        """The newest one of a bot."""
        return self.secrets[bot_id].current

    async def send(
        self, client: httpx.AsyncClient, bot_id: int, update: Any, secret: str | None = None, **more: Any
    ) -> httpx.Response:
        """An update as Telegram sends it; bytes are sent as they are."""
        body = update if isinstance(update, bytes) else json.dumps(update).encode()
        shown = self.secrets[bot_id].current if secret is None else secret
        return await client.post(f"{self.url}/{bot_id}", content=body, headers={HEADER: shown} if shown else {}, **more)

    async def rows(self, bot_id: int) -> list[Any]:
        """What stands in a bot's inbox, in order of arrival."""
        connection = await connect(self.login)
        try:
            found: list[Any] = await connection.fetch(
                "SELECT cause, update_id, kind, lane, payload::text, state, last_error FROM inbox WHERE bot_id = $1"
                " ORDER BY inbox_id",
                bot_id,
            )
            return found
        finally:
            await connection.close()


@contextmanager
def ingress(login: DatabaseLogin, **settings: Any) -> Iterator[IngressStage]:
    """One that is closed at the end."""
    made = IngressStage(login, **settings)
    try:
        yield made
    finally:
        made.house.close()


def message(update_id: int, chat: int = 5, text: str = "hello", user: int = 5) -> dict[str, Any]:
    """An update with a message."""
    return {
        "update_id": update_id,
        "message": {
            "message_id": update_id,
            "date": 1,
            "chat": {"id": chat, "type": "private"},
            "from": {"id": user, "is_bot": False, "first_name": "Ada"},
            "text": text,
        },
    }
