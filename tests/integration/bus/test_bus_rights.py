"""What a bot's Redis user can do, tried against the server."""

from __future__ import annotations

from typing import Any

import pytest
from redis.exceptions import AuthenticationError, ConnectionError, NoPermissionError, RedisError

from botctl.bus.client import connect
from botctl.bus.events import Event, encode_event
from botctl.errors import UsageError

BODY = encode_event(Event(id="x", type="custom.tick", occurred_at=1))


async def test_a_bot_appends_to_its_out_stream_and_reads_its_mailbox(bus: Any) -> None:
    await bus.add_bot(1)
    mine = bus.bot_client(1)
    assert await mine.ping()
    assert await mine.xadd(bus.topology.out(1), {"e": BODY})
    entry = await bus.redis.xadd(bus.topology.mailbox(1), {"e": BODY})
    reply = await mine.xreadgroup("bot", "bot", {bus.topology.mailbox(1): ">"})
    assert reply[bus.topology.mailbox(1).encode()][0][0] == entry
    assert await mine.xack(bus.topology.mailbox(1), "bot", entry) == 1


FORBIDDEN = """
XADD {out2} * e x|XADD {in1} * e x|XADD {in2} * e x|XADD {log} * e x|XADD {dead} * e x|XADD {out0} * e x
XREADGROUP GROUP bot bot STREAMS {in2} >|XREADGROUP GROUP router bot STREAMS {out1} >
XREADGROUP GROUP router x STREAMS {out2} >
XREAD STREAMS {in1} 0|XREAD STREAMS {log} 0|XRANGE {out1} - +|XRANGE {in2} - +|XLEN {out2}|XINFO STREAM {out1}
XACK {in2} bot 1-1|XACK {out1} router 1-1|XAUTOCLAIM {in2} bot bot 0 0|XPENDING {out1} router|XPENDING {in2} bot
XPENDING {in1} bot|XAUTOCLAIM {in1} bot bot 0 0
XDEL {out1} 1-1|XTRIM {out1} MAXLEN 0|XTRIM {in1} MAXLEN 0|XSETID {out1} 1-1|DEL {out1}|DEL {in1}|UNLINK {in2}
XGROUP CREATE {in1} other 0|XGROUP DESTROY {in1} bot|XCLAIM {in1} bot bot 0 1-1|RENAME {out1} {out2}
GET {marker}|SET {marker} x|SET foo x|KEYS *|SCAN 0|RANDOMKEY|DBSIZE|TYPE {out2}|EXISTS {in2}|EXPIRE {out1} 1
FLUSHALL|FLUSHDB|CONFIG GET *|CONFIG SET maxmemory 0|ACL LIST|ACL WHOAMI|ACL SETUSER x|INFO|COMMAND
CLIENT LIST|CLIENT KILL TYPE normal|CLIENT NO-EVICT ON|CLIENT PAUSE 1000
SHUTDOWN NOSAVE|SAVE|BGREWRITEAOF
SUBSCRIBE x|PSUBSCRIBE *|PUBLISH x y|SPUBLISH x y|EVAL return 0|FUNCTION LIST|SCRIPT FLUSH|MULTI|WATCH {out1}
MONITOR|SELECT 0|SWAPDB 0 1|REPLICAOF NO ONE|MODULE LIST|LATENCY RESET|SLOWLOG GET|OBJECT ENCODING {out1}|DUMP {out1}
"""


async def test_a_bot_can_do_nothing_else(bus: Any) -> None:
    await bus.add_bot(1)
    await bus.add_bot(2)
    topology = bus.topology
    names = {
        "out0": topology.out(0), "out1": topology.out(1), "out2": topology.out(2), "in1": topology.mailbox(1),
        "in2": topology.mailbox(2), "log": f"{topology.namespace}:events:user", "dead": topology.dead_letters,
        "marker": topology.marker,
    }  # fmt: skip
    mine = bus.bot_client(1)
    allowed = []
    for line in FORBIDDEN.replace("\n", "|").split("|"):
        if line.strip():
            try:
                await mine.execute_command(*(word.format(**names) for word in line.split()))
            except NoPermissionError:
                continue
            except RedisError as error:
                allowed.append(f"{line}: {error}")
            else:
                allowed.append(line)
    assert allowed == []


async def test_setting_up_a_connection_asks_for_nothing_that_a_bot_may_not_do(bus: Any) -> None:
    await bus.add_bot(1)
    await bus.bot_client(1).ping()
    log = await bus.redis.acl_log()
    assert [entry for entry in log if topology_user(entry) == bus.topology.user(1)] == []


def topology_user(entry: dict[Any, Any]) -> str:
    value = entry.get("username", entry.get(b"username", b""))
    return value.decode() if isinstance(value, bytes) else str(value)


async def test_the_previous_password_works_until_it_is_withdrawn(bus: Any, sha256: Any) -> None:
    await bus.add_bot(1)
    old, new = bus.passwords[1], "a-new-password"
    await bus.admin.ensure_bot(1, [sha256(new), sha256(old)])
    assert await bus.bot_client(1, passwords=(new,)).ping()
    assert await bus.bot_client(1, passwords=(old,)).ping()
    await bus.admin.ensure_bot(1, [sha256(new)])
    with pytest.raises(AuthenticationError):
        await bus.bot_client(1, passwords=(old,)).ping()


async def test_a_client_tries_every_password_it_knows(bus: Any) -> None:
    await bus.add_bot(1)
    right = bus.passwords[1]
    assert await bus.bot_client(1, passwords=("not-yet-set", right)).ping()
    assert await bus.bot_client(1, passwords=(right, "long-gone")).ping()
    assert await bus.bot_client(1, passwords=("wrong", "wrong too", right)).ping()
    with pytest.raises(AuthenticationError):
        await bus.bot_client(1, passwords=("wrong", "wrong too")).ping()


async def test_all_this_also_works_over_a_unix_socket(make_server: Any, make_bus: Any) -> None:
    server = make_server("--unixsocket", "valkey.sock", "--unixsocketperm", "777")
    bus = make_bus(server.url)
    await bus.add_bot(1)
    url, user = f"unix://{server.folder / 'data' / 'valkey.sock'}", bus.topology.user(1)
    client = connect(url, username=user, passwords=lambda: ("not-yet-set", bus.passwords[1]))
    assert await client.xadd(bus.topology.out(1), {"e": BODY})
    await client.aclose()
    stranger = connect(url, username=user, passwords=lambda: ("wrong", "wrong too"))
    with pytest.raises(AuthenticationError):
        await stranger.ping()
    await stranger.aclose()


async def test_userinfo_of_the_url_is_not_used_when_a_bot_logs_in(bus: Any) -> None:
    await bus.add_bot(1)
    client = connect(bus.url, username=bus.topology.user(1), passwords=lambda: (bus.passwords[1],))
    with pytest.raises(NoPermissionError):
        await client.execute_command("ACL", "WHOAMI")
    await client.aclose()


async def test_dropping_a_user_ends_its_connections_at_once(bus: Any) -> None:
    await bus.add_bot(1)
    client = bus.bot_client(1)
    await client.ping()
    assert await bus.admin.drop_user(1)
    with pytest.raises(ConnectionError):
        await client.ping()
    assert not await bus.admin.drop_user(1)


async def test_making_everything_again_changes_nothing_and_keeps_connections(bus: Any) -> None:
    await bus.add_bot(1)
    client = bus.bot_client(1)
    await client.xadd(bus.topology.out(1), {"e": BODY})
    await bus.redis.xadd(bus.topology.mailbox(1), {"e": BODY})
    await bus.apply()
    await bus.apply()
    await client.xadd(bus.topology.out(1), {"e": BODY})
    assert await bus.redis.xlen(bus.topology.out(1)) == 2
    assert await bus.redis.xlen(bus.topology.mailbox(1)) == 1


async def test_a_dropped_bot_leaves_only_what_is_still_to_be_routed(bus: Any) -> None:
    await bus.add_bot(1)
    await bus.add_bot(2)
    await bus.bot_client(1).xadd(bus.topology.out(1), {"e": BODY})
    await bus.admin.drop_bot(1)
    await bus.admin.drop_bot(2)
    left = {key.decode() async for key in bus.redis.scan_iter(match=f"{bus.topology.namespace}:bus:bot:*")}
    assert left == {bus.topology.out(0), bus.topology.out(1)}
    assert not {1, 2} & await bus.admin.known_bots()


async def test_a_flush_or_a_restart_shows_in_the_run_id(bus: Any) -> None:
    await bus.know()
    before = await bus.admin.run_id()
    assert await bus.admin.run_id() == before
    await bus.redis.delete(bus.topology.marker)
    lost = await bus.admin.run_id()
    assert lost != before
    await bus.know()
    assert await bus.admin.run_id() not in (before, lost)


def test_a_url_that_is_none_is_a_usage_error_without_its_password() -> None:
    with pytest.raises(UsageError, match="unusable") as caught:
        connect("http://user:hunter22@host")
    assert "hunter22" not in str(caught.value)
