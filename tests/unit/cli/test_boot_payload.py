"""The document for the daemon, and what of the environment it may see."""

from __future__ import annotations

import sys

import msgspec
import pytest

from botctl.cli.boot import BootPayload, daemon_argv, daemon_environment, decode, encode
from botctl.errors import ProtocolError


def test_a_payload_survives_its_document() -> None:
    payload = BootPayload(data_dir="/d", fleet=msgspec.Raw(b'{"bots":[]}'), fleet_env={"T": "1:a"}, foreground=False)
    again = decode(encode(payload))
    assert bytes(again.fleet) == b'{"bots":[]}'
    assert (again.data_dir, again.fleet_env, again.foreground) == ("/d", {"T": "1:a"}, False)


@pytest.mark.parametrize("body", [b"", b"null", b"{}", b"\xff"])
def test_what_is_no_payload_is_refused_with_a_hint(body: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        decode(body)
    assert "botctl start" in (caught.value.hint or "")


def test_the_daemon_sees_no_secret_in_its_environment() -> None:
    env = {
        "PATH": "/bin", "HOME": "/h", "LC_ALL": "C", "TZ": "UTC", "https_proxy": "http://p", "NOTIFY_SOCKET": "/n",
        "WATCHDOG_USEC": "1", "SSL_CERT_FILE": "/c", "VIRTUAL_ENV": "/v", "PYTHONPATH": "/p",
        "BOTCTL_DATABASE_URL": "postgresql://u:p@h/d", "OPENAI_API_KEY": "sk-1", "SUPPORT_BOT_TOKEN": "1:a",
        "AWS_SECRET_ACCESS_KEY": "x", "PGPASSWORD": "x",
    }  # fmt: skip
    assert set(daemon_environment(env)) == set(list(env)[:10])


def test_the_daemon_is_this_python_without_the_working_directory() -> None:
    assert daemon_argv() == [sys.executable, "-P", "-m", "botctl.cli.daemon"]
