"""A new token is taken only when Telegram says that it is this bot's; whatever goes wrong, it is never shown."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from botctl.control.secrets.desk import VaultDesk
from botctl.control.secrets.telegram_check import owner_of
from botctl.control.secrets.vault import Vault
from botctl.errors import BotctlError, NoSuchBotError, RefusedError, UsageError
from botctl.fleet import Fleet
from botctl.sandbox.client import SandboxClient
from botctl.sandbox.process import SandboxProcess, start_sandbox
from support.fleet_stage import bot, new_ids


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxProcess]:
    with start_sandbox() as running:
        yield running


@pytest.fixture
async def telegram(sandbox: SandboxProcess) -> AsyncIterator[SandboxClient]:
    async with SandboxClient(sandbox.telegram) as client:
        yield client
        await client.clear_faults()


class KeeperDouble:
    """Has one bot, `nora`; notes the tokens it is given."""

    def __init__(self, number: int) -> None:
        self.vault = Vault()
        self.shut: dict[int, object] = {}
        self.fleet = Fleet(bots=(bot("nora", number),))
        self.given: list[tuple[str, str]] = []

    def bot(self, name: str) -> Any:
        return self.fleet.by_name(name)

    async def replace_token(self, name: str, token: str) -> None:
        self.given.append((name, token))


def desk(keeper: KeeperDouble, telegram: str, refusal: Exception | None = None) -> VaultDesk:
    def refuse_beside(what: str) -> None:
        if refusal is not None:
            raise refusal

    given: Any = (None, keeper, None, SimpleNamespace(refuse_beside=refuse_beside), telegram)
    return VaultDesk(*given)


async def test_a_token_that_telegram_knows_is_given_to_its_bot(
    sandbox: SandboxProcess, telegram: SandboxClient
) -> None:
    number = next(new_ids)
    await telegram.register_bot(f"{number}:fresh-token")
    keeper = KeeperDouble(number)
    answer = await desk(keeper, sandbox.telegram).rotate_token("nora", f"{number}:fresh-token")
    assert keeper.given == [("nora", f"{number}:fresh-token")]
    assert "fresh" not in answer.message
    assert await owner_of(f"{number}:fresh-token", sandbox.telegram + "/") == number


async def test_tokens_that_are_none_or_anothers_or_refused_are_not_taken(sandbox: SandboxProcess) -> None:
    number, other = next(new_ids), next(new_ids)
    keeper = KeeperDouble(number)
    for token, error, message in (
        ("nonsense", UsageError, "no bot token"),
        (f"{other}:fresh-token", RefusedError, f"token is of bot {other}, and nora is bot {number}"),
        (f"{number}:abc", RefusedError, "has this token already"),
        (f"{number}:unknown-token", RefusedError, "Telegram refuses this token"),
    ):
        with pytest.raises(error, match=message) as caught:
            await desk(keeper, sandbox.telegram).rotate_token("nora", token)
        assert "-token" not in str(caught.value) + str(caught.value.hint)
    with pytest.raises(NoSuchBotError):
        await desk(keeper, sandbox.telegram).rotate_token("nobody", f"{number}:fresh-token")
    assert keeper.given == []


async def test_nothing_is_asked_beside_a_rolling_restart(sandbox: SandboxProcess, telegram: SandboxClient) -> None:
    number = next(new_ids)
    await telegram.register_bot(f"{number}:fresh-token")
    keeper = KeeperDouble(number)
    with pytest.raises(RefusedError, match="rolling"):
        await desk(keeper, sandbox.telegram, RefusedError("rolling")).rotate_token("nora", f"{number}:fresh-token")
    assert keeper.given == []


async def test_a_telegram_that_does_not_answer_changes_nothing_and_the_token_is_not_shown(
    sandbox: SandboxProcess, telegram: SandboxClient
) -> None:
    number = next(new_ids)
    keeper = KeeperDouble(number)
    for place in ("http://127.0.0.1:1", "http://nowhere.invalid"):
        with pytest.raises(BotctlError, match="can't be asked") as caught:
            await desk(keeper, place).rotate_token("nora", f"{number}:fresh-token")
        assert "fresh" not in str(caught.value) + repr(caught.value.__cause__)
    await telegram.register_bot(f"{number}:fresh-token")
    await telegram.inject_fault("getMe", status=502)
    with pytest.raises(BotctlError, match="HTTP 502"):
        await desk(keeper, sandbox.telegram).rotate_token("nora", f"{number}:fresh-token")
    assert keeper.given == []
