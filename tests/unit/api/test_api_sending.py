"""Routes of an operator's sends and of webhooks: what reaches the desks, who may, and that commands are audited."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from botctl.api.app import create_app
from botctl.control.ingress.desk import WebhookBody
from botctl.control.tracing.send_desk import SendBody, SendView
from botctl.control.views import CommandBody
from botctl.errors import ConflictError


class Desks:
    """Both desks and the audit log in one."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.noted: list[tuple[Any, ...]] = []

    def note(self, *what: Any) -> None:
        self.noted.append(what)

    async def send(self, *what: Any) -> SendBody:
        self.asked.append(what)
        return SendBody(sends=[SendView(id="x", chat=5)], bot_state="running", runs=True)

    async def sent(self, bot: str, ids: Any) -> SendBody:
        self.asked.append((bot, list(ids)))
        return SendBody()

    async def tell(self, *, probe: bool) -> WebhookBody:
        self.asked.append(("tell", probe))
        return WebhookBody()

    async def rotate(self, bot: str) -> CommandBody:
        self.asked.append(("rotate", bot))
        return CommandBody(message="done")


@pytest.fixture
def desks() -> Desks:
    return Desks()


def client(desks: Desks, **options: Any) -> httpx.AsyncClient:
    app = create_app(object(), audit=desks, sending=(desks, desks), **options)  # type: ignore[arg-type]
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://botctl")


async def test_a_send_reaches_the_desk_and_the_audit_log_without_its_text(desks: Desks) -> None:
    async with client(desks) as http:
        asked = {
            "chats": [5, "@channel"],
            "text": "between us",
            "parse_mode": "HTML",
            "silent": True,
            "id": "my-own-id",
        }
        answer = await http.post("/v1/bots/nora/send", json=asked)
    assert (answer.status_code, answer.json()["runs"]) == (202, True)
    more = {"parse_mode": "HTML", "disable_notification": True}
    assert desks.asked == [("nora", [5, "@channel"], "between us", "my-own-id", more)]
    ((_, action, entity, name, after),) = desks.noted
    assert (action, entity, name) == ("command.send", "bot nora", "nora")
    assert "between us" not in str(after)


async def test_an_id_that_was_used_for_something_else_is_a_conflict(desks: Desks) -> None:
    async def refuse(*_: Any) -> SendBody:
        raise ConflictError("the id my-own-id was used before", hint="Give it another.")

    desks.send = refuse  # type: ignore[method-assign]
    async with client(desks) as http:
        answer = await http.post("/v1/bots/nora/send", json={"chats": [5], "text": "x", "id": "my-own-id"})
    assert (answer.status_code, answer.json()["error"]) == (409, "the id my-own-id was used before")


@pytest.mark.parametrize(
    "body",
    [
        {"chats": [], "text": "x"},
        {"chats": ["five"], "text": "x"},
        {"chats": [2**63], "text": "x"},
        {"chats": [5], "text": "x", "parse_mode": "Markdown"},
        {"chats": [5], "text": "x", "id": "no blanks"},
        {"chats": [5], "text": "x", "method": "banChatMember"},
        {"chats": [5]},
    ],
)
async def test_what_is_no_send_is_refused(desks: Desks, body: dict[str, Any]) -> None:
    async with client(desks) as http:
        assert (await http.post("/v1/bots/nora/send", json=body)).status_code == 422
    assert not desks.asked


async def test_what_came_of_sends_and_webhooks_can_be_asked(desks: Desks) -> None:
    async with client(desks) as http:
        assert (await http.get("/v1/bots/nora/sent?id=a&id=b.1")).status_code == 200
        assert (await http.get("/v1/webhook?probe=true")).status_code == 200
        assert (await http.post("/v1/secrets/rotate-webhook", json={"bot": "nora"})).status_code == 200
    assert desks.asked == [("nora", ["a", "b.1"]), ("tell", True), ("rotate", "nora")]
    assert [one[1:4] for one in desks.noted] == [("command.rotate-webhook", "bot nora", "nora")]


async def test_where_only_reading_is_served_there_is_none_of_it(desks: Desks) -> None:
    async with client(desks, commands=False) as http:
        for path in ("/v1/webhook", "/v1/bots/nora/sent?id=a"):
            assert (await http.get(path)).status_code == 404
        assert (await http.post("/v1/bots/nora/send", json={"chats": [5], "text": "x"})).status_code == 404
