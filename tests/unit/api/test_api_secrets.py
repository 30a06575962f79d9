"""Routes of keys and tokens: what reaches `control`, and that nothing is repeated that was given."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from botctl.api.app import create_app
from botctl.control.views import BotSecretsView, CommandBody, MasterBody, SecretsBody
from botctl.errors import RefusedError, VaultError

TOKEN = "7:sesame-sesame"


class VaultDouble:
    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.failure: Exception | None = None

    def _note(self, *what: Any) -> None:
        self.asked.append(what)
        if self.failure is not None:
            raise self.failure

    async def secrets(self) -> SecretsBody:
        self._note("secrets")
        bot = BotSecretsView(
            name="a", bot_id=7, key=2, key_since=1.0, keys=2, master_versions=[1], encrypts_messages=True
        )
        return SecretsBody(
            source="file", place="/d/master.key", version=1, held=[1], data_keys=2, to_rewrap=0, bots=[bot]
        )

    async def rotate_master(self, given: str) -> MasterBody:
        self._note("master", given)
        return MasterBody(version=2, rewrapped=3)

    async def rotate_bot(self, name: str) -> CommandBody:
        self._note("bot", name)
        return CommandBody(message="done")

    async def rotate_credentials(self, name: str) -> CommandBody:
        self._note("credentials", name)
        return CommandBody(message="done")

    async def rotate_token(self, name: str, token: str) -> CommandBody:
        self._note("token", name, token)
        return CommandBody(message="done")


@pytest.fixture
def vault() -> VaultDouble:
    return VaultDouble()


def client_of(vault: VaultDouble, **options: Any) -> httpx.AsyncClient:
    app = create_app(vault, **options)  # type: ignore[arg-type]
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app, raise_app_exceptions=False), base_url="http://botctl", timeout=5
    )


async def test_each_route_reaches_control(vault: VaultDouble) -> None:
    async with client_of(vault) as api:
        assert (await api.get("/v1/secrets")).json()["bots"][0]["key"] == 2
        assert (await api.post("/v1/secrets/rotate-master", json={"keys": "2:abc"})).json()["version"] == 2
        await api.post("/v1/secrets/rotate-master", json={})
        await api.post("/v1/secrets/rotate-bot", json={"bot": "a"})
        await api.post("/v1/secrets/rotate-credentials", json={"bot": "a"})
        await api.post("/v1/secrets/rotate-credentials", json={})
        assert (await api.post("/v1/bots/a/token", json={"token": f" {TOKEN}\n"})).status_code == 202
    assert vault.asked == [
        ("secrets",),
        ("master", "2:abc"),
        ("master", ""),
        ("bot", "a"),
        ("credentials", "a"),
        ("credentials", ""),
        ("token", "a", TOKEN),
    ]


@pytest.mark.parametrize(
    ("failure", "code"), [(VaultError("the key is lost", hint="x"), 1), (RefusedError("another bot's"), 5)]
)
async def test_refusals_carry_their_exit_code(vault: VaultDouble, failure: Exception, code: int) -> None:
    vault.failure = failure
    async with client_of(vault) as api:
        answer = await api.post("/v1/bots/a/token", json={"token": TOKEN})
    assert answer.json()["code"] == code
    assert "sesame" not in answer.text


@pytest.mark.parametrize("body", [{"token": [TOKEN]}, {"tokens": TOKEN}, {"token": TOKEN, "more": TOKEN}])
async def test_a_wrong_body_is_refused_without_being_repeated(vault: VaultDouble, body: dict[str, Any]) -> None:
    async with client_of(vault) as api:
        answer = await api.post("/v1/bots/a/token", json=body)
    assert answer.status_code == 422
    assert "sesame" not in answer.text
    assert vault.asked == []


async def test_who_may_only_look_reaches_none_of_it(vault: VaultDouble) -> None:
    async with client_of(vault, commands=False) as api:
        assert (await api.get("/v1/secrets")).status_code == 404
        assert (await api.post("/v1/secrets/rotate-master", json={})).status_code == 404
        assert (await api.post("/v1/bots/a/token", json={"token": TOKEN})).status_code == 404
    assert vault.asked == []
