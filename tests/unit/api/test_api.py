"""The API over an ASGI transport, with a double of `control` behind it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from botctl.api.app import create_app
from botctl.api.service import Verb
from botctl.control import views
from botctl.errors import BotctlError, NoSuchBotError, RefusedError
from botctl.fleet import BotSpec, Fleet

TOKEN = "7:sesame-sesame"


class ControlDouble:
    """Answers as `control` would; remembers what was asked, raises `failure` if there is one."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.failure: Exception | None = None
        self.healthy = True

    def _note(self, *what: Any) -> None:
        self.asked.append(what)
        if self.failure is not None:
            raise self.failure

    async def status(self) -> views.StatusBody:
        self._note("status")
        daemon = views.DaemonView(pid=1, state="running", version="0", uptime_s=1.0)
        return views.StatusBody(daemon=daemon, bots=[views.BotView(name="a", bot_id=7, state="running")])

    async def apply(
        self, fleet: Fleet, *, fleet_path: str | None, fleet_env: dict[str, str], dry_run: bool
    ) -> views.AppliedBody:
        self._note("apply", fleet, fleet_path, fleet_env, dry_run)
        return views.AppliedBody(dry_run=dry_run, added=["a"], removed=[], changed=[], unchanged=[])

    async def reload(self) -> views.AppliedBody:
        self._note("reload")
        return views.AppliedBody(added=[], removed=[], changed=[], unchanged=["a"])

    async def command(self, verb: Verb, name: str) -> views.CommandBody:
        self._note(verb, name)
        return views.CommandBody()

    async def rollout(self, wave: str, watch: bool, settle: float) -> views.RolloutBody:
        self._note("rollout", wave, watch, settle)
        return views.RolloutBody(bots=4, waves=2)

    async def abort_rollout(self) -> views.CommandBody:
        self._note("abort")
        return views.CommandBody()

    async def follow_rollout(self) -> AsyncIterator[views.RolloutLine]:
        self._note("follow")
        yield views.RolloutLine(at=0.0, text="wave 1 of 1: a running")
        yield views.RolloutLine(at=1.0, text="done", outcome="done")

    async def shutdown(self) -> views.CommandBody:
        self._note("shutdown")
        return views.CommandBody(message="shutting down")

    async def open_events(self, log: str, after: str, follow: bool) -> AsyncIterator[views.EventBody]:
        self._note("events", log, after, follow)

        async def entries() -> AsyncIterator[views.EventBody]:
            for number in (1, 2):
                yield views.EventBody(
                    entry=f"{number}-0", log="bot", id=str(number), type="bot.ready", version=1, source="fleet",
                    occurred_at=0.0,
                )  # fmt: skip

        return entries()

    async def runs(self, name: str | None, limit: int) -> list[views.RunBody]:
        self._note("runs", name, limit)
        return []

    async def deaths(self, name: str, limit: int, planned: bool) -> views.DeathsBody:
        self._note("deaths", name, limit, planned)
        return views.DeathsBody(name=name, bot=views.BotView(name=name, bot_id=7, state="running"))

    async def psql_login(self, name: str) -> views.LoginBody:
        self._note("psql_login", name)
        return views.LoginBody(url="postgresql://x", valid_until=0.0)

    async def health(self) -> views.HealthBody:
        return views.HealthBody(ok=self.healthy, problems=[] if self.healthy else ["database: away"])

    async def metrics(self) -> bytes:
        return b"botctl_bot_up 1\n"


@pytest.fixture
def control() -> ControlDouble:
    return ControlDouble()


def client_of(control: ControlDouble, **options: Any) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(create_app(control, **options), raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://botctl")


@pytest.fixture
async def api(control: ControlDouble) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(control) as client:
        yield client


async def test_status_has_the_contracts_keys(api: httpx.AsyncClient) -> None:
    body = (await api.get("/v1/status")).json()
    assert {"pid", "state", "version", "uptime_s"} <= set(body["daemon"])
    assert {
        "name", "bot_id", "state", "pid", "restarts", "last_failure", "memory_mb", "inbox_depth", "outbox_depth",
    } <= set(body["bots"][0])  # fmt: skip


async def test_a_fleet_is_applied_with_its_secrets(api: httpx.AsyncClient, control: ControlDouble) -> None:
    fleet = Fleet(bots=(BotSpec.model_validate({"name": "a", "token": TOKEN}),))
    body = {"fleet": json.loads(fleet.model_dump_json()), "fleet_path": "/f", "fleet_env": {"T": "1"}, "dry_run": True}
    answer = await api.post("/v1/apply", json=body)
    assert answer.status_code == 200
    assert answer.json()["added"] == ["a"]
    assert control.asked == [("apply", fleet, "/f", {"T": "1"}, True)]


async def test_an_invalid_fleet_is_refused_and_its_content_not_repeated(
    api: httpx.AsyncClient, control: ControlDouble
) -> None:
    answer = await api.post("/v1/apply", json={"fleet": {"bots": [{"name": "A B", "token": TOKEN, "secret": "s3"}]}})
    assert answer.status_code == 422
    assert answer.json()["code"] == 2
    assert "fleet.bots.0.secret" in answer.json()["error"]
    assert "sesame" not in answer.text
    assert "s3" not in answer.text
    assert control.asked == []


@pytest.mark.parametrize("verb", list(Verb))
async def test_commands_reach_one_bot_or_all(api: httpx.AsyncClient, control: ControlDouble, verb: Verb) -> None:
    assert (await api.post(f"/v1/bots/a/{verb.value}")).status_code == 202
    assert (await api.post(f"/v1/{verb.value}")).status_code == 202
    assert control.asked == [(verb, "a"), (verb, "")]


async def test_fixed_routes_are_not_taken_for_verbs(api: httpx.AsyncClient, control: ControlDouble) -> None:
    await api.post("/v1/reload")
    await api.post("/v1/shutdown")
    await api.post("/v1/psql-login", json={"bot": "a"})
    assert [asked[0] for asked in control.asked] == ["reload", "shutdown", "psql_login"]


@pytest.mark.parametrize(
    ("failure", "status", "code"),
    [
        (NoSuchBotError("no bot is called x", hint="look"), 404, 4),
        (RefusedError("not yours", hint="look"), 403, 5),
        (BotctlError("the database is away", hint="look"), 503, 1),
    ],
)
async def test_an_error_carries_message_hint_and_exit_code(
    api: httpx.AsyncClient, control: ControlDouble, failure: BotctlError, status: int, code: int
) -> None:
    control.failure = failure
    answer = await api.post("/v1/bots/x/stop")
    assert answer.status_code == status
    assert answer.json() == {"error": failure.message, "hint": "look", "code": code}


async def test_an_unforeseen_error_tells_no_secrets(api: httpx.AsyncClient, control: ControlDouble) -> None:
    control.failure = RuntimeError("password=hunter2")
    answer = await api.get("/v1/status")
    assert answer.status_code == 500
    assert answer.json()["code"] == 1
    assert "hunter2" not in answer.text


async def test_an_unknown_route_or_verb_is_an_error_of_the_same_form(api: httpx.AsyncClient) -> None:
    assert (await api.get("/v1/nothing")).json()["code"] == 2
    assert (await api.post("/v1/bots/a/explode")).json()["code"] == 2


async def test_deaths_are_asked_for_by_name_with_a_limit(api: httpx.AsyncClient, control: ControlDouble) -> None:
    body = (await api.get("/v1/bots/a/deaths")).json()
    assert (body["name"], body["bot"]["state"], body["deaths"]) == ("a", "running", [])
    await api.get("/v1/bots/a/deaths", params={"limit": 5, "planned": "true"})
    assert control.asked == [("deaths", "a", 20, False), ("deaths", "a", 5, True)]
    for limit in (0, 1001, "x"):
        assert (await api.get("/v1/bots/a/deaths", params={"limit": limit})).status_code == 422
    control.failure = NoSuchBotError("no bot is called x")
    assert (await api.get("/v1/bots/x/deaths")).json()["code"] == 4


async def test_a_rolling_restart_is_begun_followed_and_taken_back(
    api: httpx.AsyncClient, control: ControlDouble
) -> None:
    answer = await api.post("/v1/rollout", json={"wave": "5%", "watch": True})
    assert (answer.status_code, answer.json()) == (202, {"bots": 4, "waves": 2})
    lines = (await api.get("/v1/rollout")).text.splitlines()
    assert [json.loads(line)["outcome"] for line in lines] == [None, "done"]
    assert (await api.post("/v1/rollout/abort")).status_code == 202
    assert control.asked == [("rollout", "5%", True, 10.0), ("follow",), ("abort",)]
    for wrong in ({}, {"wave": "1", "settle": 0}, {"wave": "1", "extra": 1}):
        assert (await api.post("/v1/rollout", json=wrong)).json()["code"] == 2


async def test_events_are_lines_of_json(api: httpx.AsyncClient, control: ControlDouble) -> None:
    answer = await api.get("/v1/events", params={"log": "bot", "after": "5-0", "follow": "true"})
    assert [json.loads(line)["entry"] for line in answer.text.splitlines()] == ["1-0", "2-0"]
    assert control.asked == [("events", "bot", "5-0", True)]


async def test_events_with_redis_away_are_an_error_and_not_half_an_answer(
    api: httpx.AsyncClient, control: ControlDouble
) -> None:
    control.failure = BotctlError("redis is not reachable")
    assert (await api.get("/v1/events")).status_code == 503


async def test_health_is_200_or_503_with_the_reason(api: httpx.AsyncClient, control: ControlDouble) -> None:
    assert (await api.get("/healthz")).status_code == 200
    control.healthy = False
    answer = await api.get("/healthz")
    assert (answer.status_code, answer.json()["problems"]) == (503, ["database: away"])


async def test_a_reading_application_obeys_no_command(control: ControlDouble) -> None:
    async with client_of(control, commands=False) as api:
        assert (await api.get("/v1/status")).status_code == 200
        assert (await api.get("/metrics")).text == "botctl_bot_up 1\n"
        for path in ("/v1/shutdown", "/v1/stop", "/v1/apply", "/v1/psql-login", "/v1/bots/a/stop"):
            assert (await api.post(path)).status_code == 404
        for path in ("/v1/events", "/v1/bots/a/deaths"):
            assert (await api.get(path)).status_code == 404
    assert control.asked == [("status",)]
