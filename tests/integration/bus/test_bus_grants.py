"""Programs outside that read a log: what they may, what they get, what becomes of it when Redis begins anew."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable
from typing import Any

import pytest
from redis.exceptions import AuthenticationError, NoPermissionError, OutOfMemoryError, ResponseError

from botctl.bus.caretaking.grant_guard import GrantGuard
from botctl.bus.caretaking.grant_limits import begin_group_again, tame
from botctl.bus.caretaking.grants import Grant, GrantAdmin, grant_user
from botctl.bus.caretaking.sentry import Sentry
from botctl.bus.client import connect
from botctl.bus.events import Event, Log, encode_event
from botctl.bus.reading.lag import Lag, Place, measure
from botctl.bus.topology import FIELD

# pytest gives `bus` from conftest.py; its type can't be imported from there.
Bus = Any


def new_grant(name: str, *logs: Log, start: str = "0") -> tuple[Grant, str]:
    """A grant and its password."""
    password = secrets.token_urlsafe(24)
    key = f"{name}-{secrets.token_hex(16)}"
    return Grant(name, logs or (Log.BOT,), key, hashlib.sha256(password.encode()).hexdigest(), start), password


def outside(bus: Bus, grant: Grant, password: str) -> Any:
    """A client as a program outside has it."""
    client = connect(bus.plain_url, username=grant_user(bus.topology, grant.name), passwords=lambda: (password,))
    bus._clients.append(client)
    return client


async def put(bus: Bus, count: int, log: Log = Log.BOT, *, at: int | None = None) -> list[str]:
    """Entries of a log, as the router writes them; with `at` their ids begin there."""
    ids = []
    for n in range(count):
        event = Event(id=f"e{n}", type="shop.paid", source="bot:1", occurred_at=1.0, data={"n": n})
        made = await bus.redis.xadd(
            bus.topology.log(log), {FIELD: encode_event(event)}, id="*" if at is None else f"{at + n}-0"
        )
        ids.append(made.decode())
    return ids


async def read(
    client: Any, bus: Bus, grant: Grant, log: Log = Log.BOT, after: str = ">", count: int = 1000
) -> list[str]:
    """Ids of what its group is given."""
    reply = await client.xreadgroup(grant.group, "reader", {bus.topology.log(log): after}, count=count)
    return [entry_id.decode() for entries in reply.values() for entry_id, _ in entries]


def lag_of(bus: Bus, grant: Grant, log: Log = Log.BOT) -> Place:
    return Place(f"grant:{grant.name}", bus.topology.log(log), grant.group, log.value)


async def test_a_program_outside_reads_and_acknowledges_its_log_and_nothing_else(bus: Bus) -> None:
    await bus.admin.ensure_logs()
    grant, password = new_grant("crm")
    assert await GrantAdmin(bus.admin).ensure([grant]) == [(grant, Log.BOT)]
    ids = await put(bus, 3)
    await put(bus, 1, Log.USER)
    client = outside(bus, grant, password)
    log = bus.topology.log(Log.BOT)
    assert await read(client, bus, grant) == ids
    (lag,) = await measure(bus.redis, [lag_of(bus, grant)])
    assert (lag.unread, lag.pending, lag.oldest) == (0, 3, ids[0])
    assert await client.xack(log, grant.group, *ids[:2]) == 2
    assert await client.xautoclaim(log, grant.group, "other", min_idle_time=0)
    assert (await client.xpending(log, grant.group))["pending"] == 1
    refused: list[Any] = [
        lambda: client.xadd(log, {"e": "x"}),
        lambda: client.xrange(log),
        lambda: client.xread({log: "0"}),
        lambda: client.xlen(log),
        lambda: client.xinfo_groups(log),
        lambda: client.xinfo_consumers(log, grant.group),
        lambda: client.xgroup_create(log, "mine"),
        lambda: client.xgroup_setid(log, grant.group, "0"),
        lambda: client.xclaim(log, grant.group, "me", 0, [ids[2]]),
        lambda: client.xtrim(log, maxlen=0),
        lambda: client.xdel(log, ids[0]),
        lambda: client.delete(log),
        lambda: client.xreadgroup(grant.group, "me", {bus.topology.log(Log.USER): ">"}),
        lambda: client.xreadgroup("bot", "bot", {bus.topology.mailbox(1): ">"}),
        lambda: client.xreadgroup("router", "router", {bus.topology.out(1): ">"}),
        lambda: client.execute_command("ACL", "WHOAMI"),
        lambda: client.execute_command("CLIENT", "LIST"),
        lambda: client.keys("*"),
    ]
    for call in refused:
        with pytest.raises(NoPermissionError):
            await call()
    await GrantAdmin(bus.admin).drop("crm")
    with pytest.raises((AuthenticationError, ConnectionError, OSError)):
        await read(client, bus, grant)


async def test_the_group_of_another_grant_can_neither_be_named_nor_found(bus: Bus) -> None:
    await bus.admin.ensure_logs()
    mine, password = new_grant("mine")
    other, _ = new_grant("other")
    await GrantAdmin(bus.admin).ensure([mine, other])
    await put(bus, 2)
    client = outside(bus, mine, password)
    for guess in ("other", f"other-{'0' * 32}", "", "*", "mine"):
        with pytest.raises(ResponseError, match="NOGROUP"):
            await client.xreadgroup(guess, "me", {bus.topology.log(Log.BOT): ">"})
        assert await client.xack(bus.topology.log(Log.BOT), guess, "1-1") == 0
    (lag,) = await measure(bus.redis, [lag_of(bus, other)])
    assert (lag.unread, lag.pending) == (2, 0)


async def test_a_grant_begins_where_it_was_made_and_nothing_is_skipped(bus: Bus) -> None:
    await bus.admin.ensure_logs()
    admin = GrantAdmin(bus.admin)
    old = await put(bus, 5)
    grant, password = new_grant("late", start=await admin.here())
    await admin.ensure([grant], at_end=["late"])
    (lag,) = await measure(bus.redis, [lag_of(bus, grant)])
    assert (lag.unread, lag.known) == (0, True)
    new = await put(bus, 4)
    client = outside(bus, grant, password)
    (lag,) = await measure(bus.redis, [lag_of(bus, grant)])
    assert (lag.unread, lag.oldest) == (4, new[0])
    assert await read(client, bus, grant) == new
    assert await admin.move(grant, Log.BOT, old[1]) == 7
    (lag,) = await measure(bus.redis, [lag_of(bus, grant)])
    assert lag.unread == 7
    assert await read(client, bus, grant) == [*old[2:], *new]


async def test_lags_of_many_readers_are_asked_in_one_go(bus: Bus) -> None:
    await bus.add_bot(1)
    await bus.add_bot(2)
    places = [Place(f"bot:{bot}", bus.topology.mailbox(bot), "bot") for bot in (1, 2, 3)]
    await bus.redis.xadd(bus.topology.mailbox(2), {FIELD: b"x"}, id=f"{int(time.time() * 1000) - 60_000}-0")
    lags = await measure(bus.redis, places)
    assert [(lag.unread, lag.pending) for lag in lags] == [(0, 0), (1, 0), (0, 0)]
    assert 59 < lags[1].seconds < 70
    assert lags[2] == Lag("bot:3", "", bus.topology.mailbox(3))


async def test_what_belongs_to_no_grant_is_swept_away_and_nothing_of_others(bus: Bus) -> None:
    await bus.admin.ensure_logs()
    kept, password = new_grant("kept")
    gone, other_password = new_grant("gone")
    admin = GrantAdmin(bus.admin)
    await admin.ensure([kept, gone])
    log = bus.topology.log(Log.BOT)
    await bus.redis.xgroup_create(log, "an-operators-own", "0")
    foreign = f"{grant_user(bus.topology, 'x')}-bot-5"  # of a namespace that begins like ours
    await bus.redis.execute_command("ACL", "SETUSER", foreign, "on", ">p", "~elsewhere:*", "+ping")
    await admin.sweep([kept])
    assert {one["name"].decode() for one in await bus.redis.xinfo_groups(log)} == {
        kept.group,
        "an-operators-own",
    }
    assert await outside(bus, kept, password).ping()
    with pytest.raises(AuthenticationError):
        await outside(bus, gone, other_password).ping()
    assert await bus.redis.acl_getuser(foreign)
    await bus.redis.acl_deluser(foreign, grant_user(bus.topology, "kept"))


async def test_who_is_kept_off_stays_off_though_grants_are_looked_after(bus: Bus) -> None:
    await bus.admin.ensure_logs()
    admin, (grant, password) = GrantAdmin(bus.admin), new_grant("crm")
    await admin.ensure([grant])
    user = grant_user(bus.topology, "crm")
    await bus.redis.acl_setuser(user, enabled=False)
    await admin.ensure([grant])
    assert "off" in (await bus.redis.acl_getuser(user))["flags"]
    await admin.ensure([grant], anew=True)
    assert "on" in (await bus.redis.acl_getuser(user))["flags"], "as on a server that may have lost it"
    await bus.redis.acl_deluser(user)
    await admin.ensure([grant])
    await outside(bus, grant, password).ping()
    other, secret = new_grant("crm")
    await admin.ensure([other])
    await outside(bus, other, secret).ping()


async def test_consumers_without_end_are_taken_away_and_their_program_is_kept_off(
    bus: Bus, eventually: Callable[..., Any]
) -> None:
    await bus.admin.ensure_logs()
    grant, password = new_grant("crowd")
    admin = GrantAdmin(bus.admin)
    await admin.ensure([grant])
    ids = await put(bus, 3)
    client = outside(bus, grant, password)
    assert await read(client, bus, grant, count=1) == ids[:1]
    log = bus.topology.log(Log.BOT)
    guard = GrantGuard(bus.topology, lambda: ["crowd"], lambda group: [group], first_pause=0.2)
    sentry = Sentry(bus.client(), bus.topology, list, lambda offence: None, guard=guard)
    await sentry.look()
    assert guard.kept_off() == {}
    await client.xreadgroup(grant.group, "n" * 300, {log: ">"}, count=1)
    await sentry.look()
    assert "300" not in guard.kept_off()["crowd"][0]
    assert guard.paused == 1
    with pytest.raises((AuthenticationError, ConnectionError, OSError)):
        await read(client, bus, grant)
    (group,) = await bus.redis.xinfo_groups(log)
    assert group["consumers"] == 0

    async def let_in() -> bool:
        await sentry.look()
        return guard.kept_off() == {}

    await eventually(let_in)
    assert await read(client, bus, grant) == ids  # nothing was lost: what it held comes again


async def test_a_group_begun_again_gives_what_was_not_acknowledged_once_more(bus: Bus) -> None:
    await bus.admin.ensure_logs()
    grant, password = new_grant("again")
    await GrantAdmin(bus.admin).ensure([grant])
    ids = await put(bus, 4)
    client = outside(bus, grant, password)
    log = bus.topology.log(Log.BOT)
    await read(client, bus, grant)
    await client.xack(log, grant.group, ids[0])
    await begin_group_again(bus.redis, log, grant.group, ids[-1])
    assert await read(client, bus, grant) == ids[1:]
    await client.xack(log, grant.group, *ids)
    await begin_group_again(bus.redis, log, grant.group, ids[-1])
    assert await read(client, bus, grant) == []
    assert await tame(bus.redis, bus.topology) == {}


@pytest.mark.parametrize("limit_mb", [0, 40], ids=["memory", "out of memory"])
async def test_a_group_full_of_long_names_is_begun_again_whatever_it_takes(
    make_server: Callable[..., Any], make_bus: Callable[[str], Bus], limit_mb: int
) -> None:
    bus = make_bus(make_server().url)
    await bus.admin.ensure_logs()
    grant, password = new_grant("long")
    await GrantAdmin(bus.admin).ensure([grant])
    ids = await put(bus, 3)
    client, log = outside(bus, grant, password), bus.topology.log(Log.BOT)
    await bus.redis.config_set("maxmemory", f"{limit_mb}mb")
    for number in range(70):  # more than the server sends in one reply
        await client.xreadgroup(grant.group, f"{number}-".ljust(1_000_000, "x"), {log: ">"}, count=1)
    if limit_mb:
        with pytest.raises(OutOfMemoryError):
            await put(bus, 1)
    assert list(await tame(bus.redis, bus.topology)) == ["long"]
    assert (await bus.redis.info("memory"))["used_memory"] < 40 * 1024**2
    assert await read(client, bus, grant) == ids


async def test_a_server_that_began_anew_gets_user_and_group_back_and_the_reader_misses_nothing(
    make_server: Callable[..., Any], make_bus: Callable[[str], Bus]
) -> None:
    bus = make_bus(make_server().url)
    admin = GrantAdmin(bus.admin)
    await bus.admin.ensure_logs()
    await put(bus, 3)
    grant, password = new_grant("crm", start=await admin.here())
    await admin.ensure([grant])
    await bus.redis.flushall()
    relayed_again = await put(bus, 2)
    assert await admin.ensure([grant]) == [(grant, Log.BOT)]
    client = outside(bus, grant, password)
    assert await read(client, bus, grant) == relayed_again
    # The clock of the new server goes a day behind: where the grant began lies in its future.
    await bus.redis.flushall()
    await admin.ensure([grant])
    behind = await put(bus, 2, at=int(time.time() * 1000) - 86_400_000)
    assert await read(client, bus, grant) == behind
