"""How doctor says where Redis is for programs outside."""

from __future__ import annotations

from botctl.cli.bus_checks import reach


def test_an_embedded_server_is_reached_from_this_machine_or_through_a_tunnel() -> None:
    said = reach("redis://default:secret@127.0.0.1:7001/0", embedded=True)
    assert "127.0.0.1:7001, from this machine only" in said
    assert "ssh -L 7001:127.0.0.1:7001" in said
    assert "secret" not in said


def test_a_server_of_the_operators_is_named_with_its_scheme() -> None:
    assert reach("rediss://u:p@redis.example/1", embedded=False) == "they use rediss://redis.example:6379"
