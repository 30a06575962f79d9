"""HTTP to Telegram against servers that misbehave."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from botctl.bot.sending.transport import OutcomeUnknownError, Transport
from botctl.bot.tls import tls_context


@pytest.mark.parametrize("told", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"])
async def test_a_call_that_hangs_is_given_up_after_its_own_time_whatever_time_there_was_to_connect(told: bytes) -> None:
    async def hang(reader: Any, writer: Any) -> None:
        writer.write(told)
        await reader.read()
        writer.close()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    transport = Transport(tls_context(), connect_timeout=30.0)
    transport.open()
    began = time.monotonic()
    try:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        with pytest.raises(OutcomeUnknownError):
            await transport.request("POST", url, data={"text": "hello"}, timeout=0.1)
        assert time.monotonic() - began < 10
    finally:
        await transport.close()
        server.close()
