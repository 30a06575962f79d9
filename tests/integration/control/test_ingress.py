"""The ingress over real sockets and a real database: what is said 200 to is committed, and nothing else is."""

from __future__ import annotations

import asyncio
import itertools
import json
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from botctl.control.ingress import certificate
from botctl.errors import BotctlError
from botctl.storage.engine import connect
from botctl.storage.sealing import Sealing
from support.ingress_stage import ALICE, BOB, HEADER, SEALED, IngressStage, ingress, message
from support.stack import eventually

_ids = itertools.count(1000)


@pytest.fixture(scope="module")
def stage(database: Any) -> Iterator[IngressStage]:
    with ingress(database.control) as made:
        yield made


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=30) as made:
        yield made


async def test_an_update_is_in_the_inbox_when_it_is_answered_and_its_bot_is_woken(
    stage: IngressStage, client: httpx.AsyncClient
) -> None:
    number = next(_ids)
    del stage.woken[:]
    answer = await stage.send(client, ALICE, message(number, chat=-7))
    assert (answer.status_code, answer.content) == (200, b"")
    row = (await stage.rows(ALICE))[-1]
    assert (row["cause"], row["update_id"], row["kind"], row["lane"]) == (
        f"update:{number}",
        number,
        "message",
        "chat:-7",
    )
    assert json.loads(row["payload"]) == message(number, chat=-7)
    assert (row["state"], stage.woken) == ("new", [ALICE])


async def test_what_comes_again_is_one_row(stage: IngressStage, client: httpx.AsyncClient) -> None:
    number = next(_ids)
    for _ in range(3):
        assert (await stage.send(client, ALICE, message(number))).status_code == 200
    assert [row["update_id"] for row in await stage.rows(ALICE)].count(number) == 1


@pytest.mark.parametrize("bot_id", [ALICE, SEALED])
async def test_another_update_under_a_known_number_is_kept_beside_it(
    stage: IngressStage, client: httpx.AsyncClient, bot_id: int
) -> None:
    number = next(_ids)
    again = message(number, text="numbers have begun anew")
    again["message"] |= {"message_id": 987_654, "date": 2_000_000_000}
    for update in (message(number, text="long ago"), again, again):
        assert (await stage.send(client, bot_id, update)).status_code == 200
    causes = [row["cause"] for row in await stage.rows(bot_id) if row["update_id"] == number]
    assert len(causes) == 2
    assert causes[0] == f"update:{number}"
    assert causes[1].startswith(f"update:{number}.")


async def test_what_comes_together_is_stored_in_the_order_of_its_ids(
    stage: IngressStage, database: Any, client: httpx.AsyncClient
) -> None:
    numbers = [next(_ids) for _ in range(30)]
    holder = await connect(database.admin)
    try:
        async with holder.transaction():
            await holder.execute("LOCK TABLE inbox IN SHARE MODE")
            first = asyncio.create_task(stage.send(client, BOB, message(numbers[0])))
            await eventually(lambda: stage.house.room.requests == 1, "the first is being stored")
            others = [asyncio.create_task(stage.send(client, BOB, message(one))) for one in reversed(numbers[1:])]
            await eventually(lambda: stage.house.room.requests == 30, "all are there")
        assert {answer.status_code for answer in await asyncio.gather(first, *others)} == {200}
    finally:
        await holder.close()
    assert [row["update_id"] for row in await stage.rows(BOB)] == numbers


async def test_rows_of_a_bot_that_encrypts_are_sealed(stage: IngressStage, client: httpx.AsyncClient) -> None:
    number = next(_ids)
    assert (await stage.send(client, SEALED, message(number, text="between us"))).status_code == 200
    payload = (await stage.rows(SEALED))[-1]["payload"]
    assert "between us" not in payload
    opened = Sealing(stage.cipher).read_json("inbox", "payload", payload)
    assert json.loads(opened) == message(number, text="between us")


@pytest.mark.parametrize(
    "body",
    [
        b'{"update_id": %d, "message": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
        b'{"update_id": %d, "message": {"text": "half',
        b'{"message": {"text": "\\ud800 \\u0000"}, "update_id": %d, "x": tru}',
    ],
)
async def test_what_no_parser_takes_becomes_a_dead_letter(
    stage: IngressStage, client: httpx.AsyncClient, body: bytes
) -> None:
    number = next(_ids)
    answer = await stage.send(client, ALICE, body.replace(b"%d", str(number).encode()))
    assert answer.status_code == 200
    found = [row for row in await stage.rows(ALICE) if row["update_id"] == number]
    # A number in what is cut off is found only where its value ends.
    assert [(row["state"], row["last_error"][:13]) for row in found] == [("dead", "can't be read")]


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b'{"update_id": "7"}', b'{"update_id": -1}', b"\xff" * 100])
async def test_what_has_no_id_is_dropped_and_does_not_come_again(
    stage: IngressStage, client: httpx.AsyncClient, body: bytes
) -> None:
    before = len(await stage.rows(ALICE))
    assert (await stage.send(client, ALICE, body)).status_code == 200
    assert len(await stage.rows(ALICE)) == before


async def test_as_long_as_nobody_knows_who_may_come_in_everybody_is_asked_to_come_again(
    database: Any, client: httpx.AsyncClient
) -> None:
    with ingress(database.control) as made:
        made.house.door = None
        assert (await made.send(client, ALICE, message(1))).status_code == 503


async def test_too_many_at_once_of_one_bot_are_asked_to_come_again_and_others_get_through(
    stage: IngressStage, database: Any, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage.house.room, "_most_of_bot", 5)
    holder = await connect(database.admin)
    try:
        async with holder.transaction():
            await holder.execute("LOCK TABLE inbox IN SHARE MODE")
            sent = [asyncio.create_task(stage.send(client, ALICE, message(next(_ids)))) for _ in range(20)]
            others = [asyncio.create_task(stage.send(client, BOB, message(next(_ids)))) for _ in range(5)]
            done, _ = await asyncio.wait(sent, return_when=asyncio.FIRST_COMPLETED)
            await eventually(lambda: sum(task.done() for task in sent) == 15, "what is too much is answered")
            assert not any(task.done() for task in others)
            assert done
        codes = [answer.status_code for answer in await asyncio.gather(*sent, *others)]
    finally:
        await holder.close()
    assert (codes[:20].count(503), codes[:20].count(200), codes[20:]) == (15, 5, [200] * 5)
    assert {task.result().headers.get("retry-after") for task in sent if task.result().status_code == 503} == {"1"}
    assert (stage.house.room.requests, stage.house.room.bytes) == (0, 0)


async def test_a_renewed_secret_leaves_no_gap(stage: IngressStage, client: httpx.AsyncClient) -> None:
    old = stage.secret(BOB)
    stage.secrets[BOB] = stage.secrets[BOB].renewed(1.0)
    stage.open_door()
    for secret in (old, stage.secret(BOB)):
        assert (await stage.send(client, BOB, message(next(_ids)), secret)).status_code == 200
    assert stage.house.figures.newest_seen[BOB][0] == stage.secret(BOB)
    stage.secrets[BOB] = stage.secrets[BOB].settled()
    stage.open_door()
    assert (await stage.send(client, BOB, message(next(_ids)), old)).status_code == 404


async def test_floods_of_a_user_are_counted_as_a_bot_that_polls_counts_them(
    stage: IngressStage, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(40):
        await stage.send(client, SEALED, message(next(_ids), user=666))
    now = time.monotonic()
    monkeypatch.setattr("botctl.control.ingress.house.time.monotonic", lambda: now + 61)
    gauges = stage.house.gauges(SEALED)
    assert gauges["user:666"] >= 40
    assert gauges["user_updates"] >= gauges["user:666"]


async def test_only_networks_that_are_allowed_may_connect(database: Any, client: httpx.AsyncClient) -> None:
    with ingress(database.control, allow_from=["149.154.160.0/20", "91.108.4.0/22"]) as made:
        with pytest.raises(httpx.TransportError):
            await made.send(client, ALICE, message(next(_ids)))
        assert made.house.figures.pushed_out >= 1
    with ingress(database.control, allow_from=["127.0.0.0/8"]) as made:
        assert (await made.send(client, ALICE, message(next(_ids)))).status_code == 200


async def test_a_proxy_may_pass_requests_through_a_unix_socket(database: Any, tmp_path: Path) -> None:
    path = tmp_path / "ingress.sock"
    for _ in range(2):  # the second one finds what a killed one has left
        with ingress(database.control, listen=f"unix:{path}") as made:
            transport = httpx.AsyncHTTPTransport(uds=str(path))
            async with httpx.AsyncClient(transport=transport) as proxy:
                headers = {HEADER: made.secret(ALICE)}
                body = json.dumps(message(next(_ids)))
                answer = await proxy.post(f"http://x/telegram/{ALICE}", content=body, headers=headers)
            assert answer.status_code == 200


async def test_a_place_that_is_taken_is_told(stage: IngressStage) -> None:
    with pytest.raises(BotctlError, match="can't listen"):
        IngressStage(stage.login, listen=f"127.0.0.1:{stage.port}")


def self_signed(folder: Path, name: str, days: int = 30) -> dict[str, str]:
    """A certificate for 127.0.0.1 and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=days))
        .sign(key, hashes.SHA256())
    )
    (folder / "c.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "k.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return {"certificate": str(folder / "c.pem"), "key": str(folder / "k.pem")}


def served(port: int) -> str:
    """The name in the certificate that is served now."""
    pem = ssl.get_server_certificate(("127.0.0.1", port))
    (name,) = x509.load_pem_x509_certificate(pem.encode()).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(name.value)


async def test_https_of_its_own_takes_over_a_new_certificate(
    database: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certificate, "LOOK_EVERY", 0.0)
    files = self_signed(tmp_path, "first")
    with ingress(database.control, **files) as made:
        async with httpx.AsyncClient(verify=False) as client:
            assert (await made.send(client, ALICE, message(next(_ids)))).status_code == 200
        assert await asyncio.to_thread(served, made.port) == "first"
        (tmp_path / "c.pem").write_text("half a cert")
        assert await asyncio.to_thread(served, made.port) == "first"
        assert "can't be used" in (made.house.problem or "")
        self_signed(tmp_path, "second", days=90)
        assert await asyncio.to_thread(served, made.port) == "second"
        assert made.house.problem is None
        assert made.house.certificate is not None
        assert made.house.certificate.expires_at > time.time() + 80 * 86400
        assert "BEGIN CERTIFICATE" in made.house.certificate.pem


async def test_a_certificate_that_can_not_be_used_is_told_at_the_start(database: Any, tmp_path: Path) -> None:
    files = self_signed(tmp_path, "one")
    (tmp_path / "k.pem").write_text("no key")
    with pytest.raises(BotctlError, match="certificate of the ingress can't be used"):
        IngressStage(database.control, **files)


async def test_the_probe_is_answered_to_who_knows_its_word(stage: IngressStage, client: httpx.AsyncClient) -> None:
    assert (await client.get(stage.url + stage.house.probe_path)).status_code == 204
    assert (await client.get(stage.url + "/probe/guessed")).status_code == 404
    assert (await client.post(stage.url + stage.house.probe_path)).status_code == 404
