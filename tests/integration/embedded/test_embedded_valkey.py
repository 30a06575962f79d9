"""The embedded Valkey: keeps its streams and pending entries, asks for its password, evicts nothing."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError
from redis.retry import Retry

from botctl.embedded import binaries
from botctl.embedded.probes import ping_valkey
from botctl.embedded.valkey import EmbeddedValkey, prepare_valkey

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def valkey(server_files: Path, running_server: Any) -> Iterator[tuple[EmbeddedValkey, Any]]:
    made = prepare_valkey(server_files / "valkey")
    server = running_server(made.spec, made.admin_url)
    yield made, server
    server.stop()


def test_it_asks_for_its_password_and_evicts_nothing(valkey: tuple[EmbeddedValkey, Any], server_files: Path) -> None:
    made, server = valkey
    client = redis.Redis.from_url(made.admin_url, decode_responses=True)
    config: Any = client.config_get("*")
    assert config["maxmemory-policy"] == "noeviction"
    assert config["bind"] == "127.0.0.1"
    assert int(config["maxmemory"]) > 0
    client.close()
    port = int(made.admin_url.rsplit(":", 1)[1].split("/")[0])
    for guess in ("", "guess"):
        stranger = redis.Redis(host="127.0.0.1", port=port, password=guess, retry=Retry(NoBackoff(), 0))
        with pytest.raises(AuthenticationError), stranger:
            stranger.ping()
    secret = (server_files / "valkey" / "admin.password").read_text().strip()
    assert secret not in " ".join(made.spec.argv)
    assert secret not in server.output()
    assert secret not in (server_files / "valkey" / "users" / "users.acl").read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_pending_entries_port_and_password_survive_a_restart(
    valkey: tuple[EmbeddedValkey, Any], server_files: Path, running_server: Any, number: int
) -> None:
    made, server = valkey
    with redis.Redis.from_url(made.admin_url, decode_responses=True) as client:
        client.xgroup_create("stream", "group", mkstream=True)
        client.xadd("stream", {"k": "v"})
        client.xreadgroup("group", "reader", {"stream": ">"})
    server.stop(number)
    assert not ping_valkey(made.admin_url)
    again = prepare_valkey(server_files / "valkey")
    assert again.admin_url == made.admin_url
    second = running_server(again.spec, again.admin_url)
    try:
        with redis.Redis.from_url(made.admin_url, decode_responses=True) as client:
            pending: Any = client.xpending("stream", "group")
        assert pending["pending"] == 1
    finally:
        second.stop()


def test_an_appended_entry_rings_the_doorbell(valkey: tuple[EmbeddedValkey, Any]) -> None:
    with redis.Redis.from_url(valkey[0].admin_url, decode_responses=True) as client, client.pubsub() as bell:
        bell.psubscribe("__keyspace@0__:bus:bot:*")
        assert bell.get_message(timeout=5)["type"] == "psubscribe"  # type: ignore[index]
        client.xadd("bus:bot:1:out", {"k": "v"})
        message: Any = bell.get_message(timeout=5)
    assert (message["channel"], message["data"]) == ("__keyspace@0__:bus:bot:1:out", "xadd")


@as_root
def test_root_s_server_does_not_run_as_root(valkey: tuple[EmbeddedValkey, Any], server_files: Path) -> None:
    made, server = valkey
    assert made.spec.uid not in (None, 0)
    assert (server_files / "valkey" / "data").stat().st_mode & 0o777 == 0o700
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    assert f"Uid:\t{made.spec.uid}\t{made.spec.uid}" in status


@as_root
def test_a_binary_that_the_server_s_user_cannot_reach_is_copied(
    server_files: Path, running_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = server_files / "closed"
    closed.mkdir(mode=0o700)
    shutil.copy2(binaries.find_valkey(), closed / "valkey-server")
    monkeypatch.setattr("botctl.embedded.valkey.find_valkey", lambda: closed / "valkey-server")
    made = prepare_valkey(server_files / "valkey")
    assert made.spec.argv[0].startswith(str(server_files / "valkey" / "binaries"))
    running_server(made.spec, made.admin_url).stop()


def test_no_answer_is_no_valkey() -> None:
    assert not ping_valkey("redis://127.0.0.1:1/0")
