"""What the ingress stores, and what becomes of an update that can't be stored: nobody else waits for it."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from botctl.control.ingress.door import Door, Resident
from botctl.handover import DatabaseLogin, DatabaseTarget
from botctl.security.vault import Cipher
from botctl.storage.engine import connect
from botctl.storage.sealing import Sealing
from support.ingress_stage import ALICE, BOB, SEALED, IngressStage, ingress, message
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


async def test_what_the_database_does_not_take_keeps_nobody_else_out(
    stage: IngressStage, database: Any, client: httpx.AsyncClient
) -> None:
    """A check that stands for whatever PostgreSQL may refuse."""
    odd, *fine = (next(_ids) for _ in range(6))
    admin = await connect(database.admin)
    try:
        await admin.execute("ALTER TABLE inbox ADD CONSTRAINT picky CHECK (payload ->> 'picky' IS NULL) NOT VALID")
        async with admin.transaction():
            await admin.execute("LOCK TABLE inbox IN SHARE MODE")
            sent = [asyncio.create_task(stage.send(client, ALICE, message(next(_ids))))]
            await eventually(lambda: stage.house.room.requests == 1, "one is being stored")
            sent.append(asyncio.create_task(stage.send(client, ALICE, {**message(odd), "picky": 1})))
            sent += [asyncio.create_task(stage.send(client, BOB, message(one))) for one in fine]
            await eventually(lambda: stage.house.room.requests == 7, "all are there")
        assert {answer.status_code for answer in await asyncio.gather(*sent)} == {200}
    finally:
        await admin.execute("ALTER TABLE inbox DROP CONSTRAINT IF EXISTS picky")
        await admin.close()
    (row,) = [row for row in await stage.rows(ALICE) if row["update_id"] == odd]
    assert (row["state"], "picky" in row["payload"], "picky" in row["last_error"]) == ("dead", True, True)
    assert [row["update_id"] for row in await stage.rows(BOB)][-5:] == fine


async def test_a_database_that_does_not_answer_costs_a_503_and_nothing_is_lost(
    stage: IngressStage, database: Any, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert stage.house._writer is not None
    monkeypatch.setattr(stage.house._writer, "_patience", 0.3)
    number = next(_ids)
    admin = await connect(database.admin)
    try:
        async with admin.transaction():
            await admin.execute("LOCK TABLE inbox IN ACCESS EXCLUSIVE MODE")
            answer = await stage.send(client, ALICE, message(number))
            assert (answer.status_code, "retry-after" in answer.headers) == (503, False)
            assert stage.house.problem is not None
    finally:
        await admin.close()
    assert (await stage.send(client, ALICE, message(number))).status_code == 200
    assert stage.house.problem is None
    assert [row["update_id"] for row in await stage.rows(ALICE)].count(number) == 1


async def test_a_database_that_is_away_costs_a_503_at_once(client: httpx.AsyncClient) -> None:
    nowhere = DatabaseLogin(target=DatabaseTarget(host="127.0.0.1", port=1), user="nobody", password="none")
    with ingress(nowhere) as away:
        began = time.monotonic()
        answers = await asyncio.gather(*(away.send(client, ALICE, message(one)) for one in range(20)))
        assert {answer.status_code for answer in answers} == {503}
        assert time.monotonic() - began < 5
        assert "can't be stored" in (away.house.problem or "")


async def test_a_full_disk_costs_a_503_and_nothing_becomes_a_dead_letter(
    stage: IngressStage, database: Any, client: httpx.AsyncClient
) -> None:
    number = next(_ids)
    admin = await connect(database.admin)
    try:
        await admin.execute("""
            CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN RAISE EXCEPTION 'No space left on device' USING ERRCODE = 'disk_full'; END $$""")
        await admin.execute("CREATE TRIGGER full_disk BEFORE INSERT ON inbox EXECUTE FUNCTION full_disk()")
        assert (await stage.send(client, ALICE, message(number))).status_code == 503
        assert "disk is full" in (stage.house.problem or "")
    finally:
        await admin.execute("DROP FUNCTION IF EXISTS full_disk() CASCADE")
        await admin.close()
    assert (await stage.send(client, ALICE, message(number))).status_code == 200
    (row,) = [row for row in await stage.rows(ALICE) if row["update_id"] == number]
    assert row["state"] == "new"


async def test_a_bot_whose_updates_can_not_be_sealed_keeps_nobody_else_out(
    stage: IngressStage, database: Any, client: httpx.AsyncClient
) -> None:
    without = Resident(SEALED, stage.secrets[SEALED], Sealing(Cipher(SEALED, []), seals=True))
    assert stage.house.door is not None
    stage.house.door = Door("/telegram", {**stage.house.door.residents, SEALED: without})
    holder = await connect(database.admin)
    try:
        async with holder.transaction():
            await holder.execute("LOCK TABLE inbox IN SHARE MODE")
            sent = [asyncio.create_task(stage.send(client, BOB, message(next(_ids))))]
            await eventually(lambda: stage.house.room.requests == 1, "one is being stored")
            sent += [asyncio.create_task(stage.send(client, bot_id, message(next(_ids)))) for bot_id in (SEALED, BOB)]
            await eventually(lambda: stage.house.room.requests == 3, "all are there")
        assert [answer.status_code for answer in await asyncio.gather(*sent)] == [200, 503, 200]
        assert stage.house.problem is None
    finally:
        stage.open_door()
        await holder.close()


class Lines:
    """In the place of a log."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []

    def error(self, what: str, **more: Any) -> None:
        self.told.append({"what": what, **more})


async def test_a_flood_of_bad_updates_does_not_flood_the_log(
    stage: IngressStage, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = Lines()
    for module in ("app", "house"):
        monkeypatch.setattr(f"botctl.control.ingress.{module}._log", lines)
    stage.house._telling._told.clear()
    for _ in range(10):
        assert (await stage.send(client, ALICE, b"{}")).status_code == 200
        assert (await stage.send(client, ALICE, b'{"update_id": %d, "message": {"te' % next(_ids))).status_code == 200
    assert sorted(one["what"] for one in lines.told) == [
        "an unreadable update became a dead letter",
        "an update can't be used and is dropped",
    ]


async def test_updates_of_one_number_that_come_at_once_are_all_kept(
    stage: IngressStage, database: Any, client: httpx.AsyncClient
) -> None:
    number = next(_ids)
    holder = await connect(database.admin)
    try:
        async with holder.transaction():
            await holder.execute("LOCK TABLE inbox IN SHARE MODE")
            sent = [asyncio.create_task(stage.send(client, BOB, message(next(_ids))))]
            await eventually(lambda: stage.house.room.requests == 1, "one is being stored")
            broken = b'{"update_id": %d, "message": {"te' % number
            for update in (message(number, text="one"), message(number, chat=6, text="two"), broken):
                sent.append(asyncio.create_task(stage.send(client, ALICE, update)))
            await eventually(lambda: stage.house.room.requests == 4, "all are there")
        assert {answer.status_code for answer in await asyncio.gather(*sent)} == {200}
    finally:
        await holder.close()
    again = await stage.send(client, ALICE, broken)
    assert again.status_code == 200
    rows = [row for row in await stage.rows(ALICE) if row["update_id"] == number]
    assert sorted(row["state"] for row in rows) == ["dead", "new", "new"]


async def test_an_update_with_the_number_of_one_that_can_not_be_opened_is_kept(
    stage: IngressStage, database: Any, client: httpx.AsyncClient
) -> None:
    number = next(_ids)
    assert (await stage.send(client, SEALED, message(number, text="one"))).status_code == 200
    admin = await connect(database.admin)
    try:
        await admin.execute(
            "UPDATE inbox SET payload = jsonb_set(payload, '{$sealed}', '\"AAAA\"', false)"
            " WHERE bot_id = $1 AND update_id = $2",
            SEALED,
            number,
        )
    finally:
        await admin.close()
    assert (await stage.send(client, SEALED, message(number, chat=6, text="two"))).status_code == 200
    assert len([row for row in await stage.rows(SEALED) if row["update_id"] == number]) == 2
