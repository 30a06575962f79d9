"""python-telegram-bot's request backend on our own transport; no HTTPX, no second TLS context."""

from __future__ import annotations

import json
from typing import Any

import aiohttp
from telegram._utils.defaultvalue import DefaultValue
from telegram.request import BaseRequest, RequestData

from botctl.bot.sending.leak_guard import LeakGuard
from botctl.bot.sending.methods import is_prompt
from botctl.bot.sending.transport import NotSentError, OutcomeUnknownError, ServerFaultError, Transport

_READ_TIMEOUT = 20.0
"""Seconds; Telegram may have to fetch a file by its URL."""
_PROMPT_TIMEOUT = 10.0
"""Twice python-telegram-bot's own default. A call that hangs for longer may have been carried out and is counted as
uncertain: a shorter time means more repeated messages, a longer one later answers after Telegram was away."""
_UPLOAD_TIMEOUT = 120.0


class TransportRequest(BaseRequest):
    """Sends calls of the Bot API through a transport that somebody else opens and closes."""

    __slots__ = ("_guard", "_transport")

    def __init__(self, transport: Transport, guard: LeakGuard) -> None:
        self._transport = transport
        self._guard = guard

    @property
    def read_timeout(self) -> float:
        """Seconds to wait for an answer unless the caller says otherwise."""
        return _READ_TIMEOUT

    async def initialize(self) -> None:
        """Nothing to do: the transport is open already."""

    async def shutdown(self) -> None:
        """Nothing to do: the transport is closed by its owner."""

    async def do_request(
        self,
        url: str,
        method: str,
        request_data: RequestData | None = None,
        read_timeout: Any = BaseRequest.DEFAULT_NONE,
        write_timeout: Any = BaseRequest.DEFAULT_NONE,
        connect_timeout: Any = BaseRequest.DEFAULT_NONE,
        pool_timeout: Any = BaseRequest.DEFAULT_NONE,
    ) -> tuple[int, bytes]:
        """One request. Raises NotSentError, OutcomeUnknownError or ServerFaultError; Forbidden when it is held back."""
        data: Any = None
        name = url.rpartition("/")[2]
        timeout = _PROMPT_TIMEOUT if is_prompt(name) else _READ_TIMEOUT
        if request_data is not None:
            parameters = request_data.json_parameters
            files = request_data.multipart_data if request_data.contains_files else None
            self._guard.check(name, parameters, files)
            if files is not None:
                data = _form(parameters, files)
                timeout = _UPLOAD_TIMEOUT
            else:
                data = parameters or None
        if not isinstance(read_timeout, DefaultValue):
            timeout = float(read_timeout) if read_timeout is not None else 3600.0
        status, body = await self._transport.request(method, url, data=data, timeout=timeout)
        if status >= 500:
            raise _server_fault(status, body)
        if status in (401, 404) and _description(body) is None:
            raise NotSentError(f"HTTP {status} from something on the way")
        return status, body


def _form(parameters: dict[str, str], files: dict[str, Any]) -> aiohttp.FormData:
    form = aiohttp.FormData()
    for name, value in parameters.items():
        form.add_field(name, value)
    for name, (filename, content, mime_type) in files.items():
        form.add_field(name, content, filename=filename, content_type=mime_type)
    return form


def _server_fault(status: int, body: bytes) -> ServerFaultError | OutcomeUnknownError:
    """A gateway (502, 504, or no JSON) doesn't know what became of the request behind it; the Bot API itself does."""
    description = _description(body)
    if description is None:
        return OutcomeUnknownError(f"HTTP {status}")
    if status in (502, 504):
        return OutcomeUnknownError(f"HTTP {status}: {description}")
    return ServerFaultError(f"HTTP {status}: {description}")


def _description(body: bytes) -> str | None:
    """The Bot API's own words; None when it isn't the Bot API that answers."""
    try:
        return str(json.loads(body)["description"])
    except (ValueError, KeyError, TypeError):
        return None
