"""What a bot's process and its supervisor are given, and when a change means a restart."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import msgspec
import pytest

from botctl.control.fleet.wanted import Surroundings, fingerprint, public_config, wanted_bot, without_userinfo
from botctl.control.ports import Passwords
from botctl.control.process import _credentials
from botctl.fleet import BotSpec, Fleet
from botctl.handover import BotConfig, DatabaseTarget, WebhookTarget

AROUND = Surroundings(
    database=DatabaseTarget(host="db"),
    redis_url="redis://bus:6379/0",
    namespace="botctl",
    telegram_base_url="https://api.telegram.org",
    openai_api_key="sk-shared-secret",
    openai_base_url="",
    log_format="json",
)


def spec(**changes: Any) -> BotSpec:
    return BotSpec.model_validate({"name": "a", "token": "7:token-secret"} | changes)


def digest(bot: BotSpec, folder: str | None = "/x", around: Surroundings = AROUND) -> str:
    return wanted_bot(bot, Fleet(bots=(bot,), folder=folder), around, None).digest


@pytest.mark.parametrize(
    "change",
    [
        {"name": "b"},
        {"token": "7:another"},
        {"assistant": {"model": "other"}},
        {"assistant": None},
        {"handlers": "package.module:register"},
        {"on_uncertain": "skip"},
        {"access": {"allow": [1]}},
        {"proxy": "http://proxy:3128"},
        {"share": ["message.sent"]},
    ],
)
def test_what_the_process_must_know_restarts_it(change: dict[str, Any]) -> None:
    assert digest(spec(**change)) != digest(spec())


@pytest.mark.parametrize(
    "change",
    [
        {"log_level": "debug"},
        {"enabled": False},
        {"restart": {"max_delay": "5s"}},
        {"recycle": {"age": "1d", "updates": 1000}},
        {"limits": {"memory": "128M"}},
        {"limits": {"concurrent_chats": 3}},
    ],
)
def test_what_it_can_adopt_or_need_not_know_does_not_restart_it(change: dict[str, Any]) -> None:
    assert digest(spec(**change)) == digest(spec())


def test_the_order_of_an_access_list_does_not_restart() -> None:
    numbers = [5, 1_000_003, 77, 12, 9_999_999_999]
    assert digest(spec(access={"allow": numbers})) == digest(spec(access={"allow": numbers[::-1]}))


def test_a_moved_fleet_file_restarts_only_bots_with_handlers() -> None:
    with_handlers = spec(handlers="package.module:register")
    assert digest(spec(), "/x") == digest(spec(), "/y")
    assert digest(with_handlers, "/x") != digest(with_handlers, "/y")


def test_other_surroundings_restart() -> None:
    moved = Surroundings(**{**_fields(AROUND), "telegram_base_url": "http://elsewhere"})
    assert digest(spec(), around=moved) != digest(spec())


def test_the_config_is_the_handover_with_the_whole_spec_and_live_keys_beside_it() -> None:
    bot = spec(log_level="debug", restart={"intensity": 2}, limits={"memory": "64M", "open_files": 99})
    wanted = wanted_bot(bot, Fleet(bots=(bot,)), AROUND, None)
    config = msgspec.json.decode(wanted.config, type=BotConfig)
    assert BotSpec.model_validate_json(bytes(config.spec)) == bot
    limits = {"concurrent_chats": 32, "attempts": 5}
    assert wanted.live == {"log_level": "DEBUG", **limits, "ignored": {}, "canary": "", "webhook": None}
    assert (wanted.restart["intensity"], wanted.restart["memory_soft"]) == (2, int(0.8 * 64 * 1024**2))
    assert (wanted.memory, wanted.open_files) == (64 * 1024**2, 99)


def test_a_bot_with_a_webhook_is_told_where_it_is_and_its_polling_neighbour_is_not() -> None:
    target = WebhookTarget(url="https://bots.example/t", secret="", max_connections=7)
    around = dataclasses.replace(AROUND, webhook=target)
    hooked, polling = spec(updates="webhook"), spec()

    def wanted(bot: BotSpec, secret: str = "s3cret") -> Any:
        return wanted_bot(bot, Fleet(bots=(bot,)), around, None, webhook_secret=secret)

    first, other = wanted(hooked), wanted(hooked, "another")
    config = msgspec.json.decode(first.config, type=BotConfig)
    assert config.webhook is not None
    assert config.webhook.url.startswith("https://bots.example/t/7?v=")
    assert (config.webhook.secret, config.webhook.max_connections) == ("s3cret", 7)
    assert first.live["webhook"]["url"] == config.webhook.url != other.live["webhook"]["url"]
    assert first.digest == other.digest != wanted(polling).digest
    assert "s3cret" in first.secrets
    assert wanted(polling).live["webhook"] is None
    assert wanted(hooked, "").live["webhook"] is None


def test_what_the_fleet_file_allows_besides_reaches_the_supervisor() -> None:
    bot = spec(files={"read": ["data"], "write": ["/srv"], "listen": True})
    isolation = wanted_bot(bot, Fleet(bots=(bot,), folder="/x"), AROUND, None).isolation
    assert isolation is not None
    assert (isolation.read, isolation.write, isolation.listen) == (("/x/data",), ("/srv",), True)
    assert digest(bot) != digest(spec())


def test_secrets_are_named_for_the_logs_and_hidden_from_the_repr() -> None:
    bot = spec(assistant={"api_key": "sk-own-secret"}, proxy="http://u:proxy-secret@proxy:1")
    wanted = wanted_bot(bot, Fleet(bots=(bot,)), AROUND, None)
    assert set(wanted.secrets) == {"7:token-secret", "sk-own-secret", "proxy-secret"}
    assert "secret" not in repr(wanted)


@pytest.mark.parametrize(
    ("assistant", "given"), [({}, "sk-shared-secret"), ({"api_key": "sk-own-secret"}, ""), (None, "")]
)
def test_the_fleets_completion_key_is_given_to_whom_it_serves(assistant: dict[str, str] | None, given: str) -> None:
    bot = spec(assistant=assistant)
    wanted = wanted_bot(bot, Fleet(bots=(bot,)), AROUND, None)
    assert json.loads(wanted.config)["openai_api_key"] == given
    assert ("sk-shared-secret" in wanted.secrets) == bool(given)


def test_the_registry_gets_no_secret() -> None:
    bot = spec(
        assistant={"api_key": "sk-own-secret", "base_url": "http://u:url-secret@api"},
        proxy="http://u:proxy-secret@proxy:1",
    )
    shown = json.dumps(public_config(bot))
    assert "secret" not in shown
    assert "http://proxy:1" in shown
    assert "token-secret" not in fingerprint("7:token-secret")
    assert fingerprint("7:a") != fingerprint("7:b")


def test_keys_in_queries_and_texts_are_not_registered_and_are_named_for_the_logs() -> None:
    bot = spec(
        assistant={
            "api_key": "sk-own-secret",
            "base_url": "https://api/v1?api-key=query-secret#f",
            "instructions": "Never say sk-own-secret, 7:token-secret or query-secret.",
        }
    )
    shown = public_config(bot)
    assert "secret" not in json.dumps(shown)
    assert shown["assistant"]["base_url"] == "https://api/v1"
    assert "query-secret" in wanted_bot(bot, Fleet(bots=(bot,)), AROUND, None).secrets


def test_userinfo_is_taken_out_of_urls() -> None:
    assert without_userinfo("redis://admin:p%40ss@[::1]:6379/1") == "redis://[::1]:6379/1"
    assert without_userinfo("redis://host/0") == "redis://host/0"


def _fields(around: Surroundings) -> dict[str, Any]:
    return {name: getattr(around, name) for name in Surroundings.__dataclass_fields__}


def test_the_supervisor_gets_the_previous_credentials_too() -> None:
    given = _credentials(Passwords(3, "new-db", "new-redis", "old-db", "old-redis"))
    assert (given.generation, given.database, given.redis) == (3, "new-db", "new-redis")
    assert (given.previous_database, given.previous_redis) == ("old-db", "old-redis")


def test_who_is_set_aside_and_the_canary_restart_nobody_and_outlive_a_restart() -> None:
    bot = spec()
    before = wanted_bot(bot, Fleet(bots=(bot,)), AROUND, None)
    around = dataclasses.replace(AROUND, canary="ab" * 32)
    after = wanted_bot(bot, Fleet(bots=(bot,)), around, None, ignored={7: 100.0})
    assert before.digest == after.digest
    assert (after.live["ignored"], after.live["canary"]) == ({"7": 100.0}, "ab" * 32)
    config = msgspec.json.decode(after.config, type=BotConfig)
    assert (config.ignored, config.canary) == ({"7": 100.0}, "ab" * 32)
