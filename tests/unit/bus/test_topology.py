"""Names and rights."""

from __future__ import annotations

import pytest

from botctl.bus.caretaking.admin import server_version
from botctl.bus.topology import ServerVersion, Topology, source_of
from botctl.errors import UsageError

HASH = "a" * 64


def test_a_bots_user_has_these_rights_and_no_more() -> None:
    rules = Topology("ns").acl_rules(7, [HASH], ServerVersion("valkey", (9, 1)))
    assert rules == [
        "reset", "on", f"#{HASH}", "resetchannels", "-@all", "+ping", "+hello", "+auth", "+client|setinfo",
        "(+xreadgroup +xack ~ns:bus:bot:7:in)", "(+xadd %W~ns:bus:bot:7:out)", "(+xlen %R~ns:bus:bot:7:out)",
    ]  # fmt: skip


def test_client_setinfo_is_granted_only_where_the_server_knows_it() -> None:
    assert "+client|setinfo" not in Topology("ns").acl_rules(7, [HASH], ServerVersion("redis", (7, 0, 15)))


def test_a_plain_password_is_never_taken_for_a_hash() -> None:
    with pytest.raises(ValueError, match="64 hexadecimal"):
        Topology("ns").acl_rules(7, ["hunter22"], ServerVersion("redis", (7, 2)))


@pytest.mark.parametrize("namespace", ["", "a b", "a:b", "a*", "é", "x" * 41, "a\n"])
def test_a_namespace_that_could_reach_beyond_itself_is_refused(namespace: str) -> None:
    with pytest.raises(UsageError):
        Topology(namespace)


def test_the_owner_of_an_out_stream_is_read_from_its_name() -> None:
    topology = Topology("ns")
    assert topology.bot_of_out(topology.out(12)) == 12
    assert topology.bot_of_out("ns:bus:bot:12:in") is None
    assert topology.bot_of_out("other:bus:bot:12:out") is None
    assert topology.bot_of_out("ns:bus:bot:-1:out") is None
    assert (source_of(0), source_of(12)) == ("fleet", "bot:12")


@pytest.mark.parametrize(
    ("info", "name", "supported"),
    [
        ({"redis_version": "6.2.14"}, "Redis 6.2.14", False),
        ({"redis_version": "7.0.15"}, "Redis 7.0.15", True),
        ({"redis_version": "8.2.1"}, "Redis 8.2.1", True),
        ({"redis_version": "7.2.4", "valkey_version": "7.2.8"}, "Valkey 7.2.8", False),
        ({"redis_version": "7.2.4", "server_name": "valkey", "valkey_version": "8.0.1"}, "Valkey 8.0.1", True),
        ({}, "Redis 0", False),
    ],
)
def test_servers_that_are_too_old_are_known(info: dict[str, object], name: str, supported: bool) -> None:
    version = server_version(info)
    assert (str(version), version.supported) == (name, supported)
