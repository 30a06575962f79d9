"""Sends that an operator has asked for: inbox rows of kind `operation`, put there by `control`. Pure.

The payload is `{"method": "sendMessage", "parameters": {…}}`, as the Bot API has it; the lane is the chat's. The call
is committed as a deferred send and delivered like an answer.
"""

from __future__ import annotations

from typing import Any

import msgspec

from botctl.bot.receiving.incoming import Incoming
from botctl.bot.sending.methods import METHODS, is_numbered
from botctl.bot.sending.sent import chat_of
from botctl.errors import ProtocolError


class _Operation(msgspec.Struct, forbid_unknown_fields=True):
    method: str
    parameters: dict[str, Any]


_decoder = msgspec.json.Decoder(_Operation)


def read_operation(payload: str) -> tuple[tuple[str, dict[str, Any]], Incoming]:
    """Method and parameters, and the chat. Raises ProtocolError for what a bot doesn't send."""
    try:
        operation = _decoder.decode(payload)
    except msgspec.DecodeError as error:
        raise ProtocolError(f"no operation: {error}") from error
    if operation.method not in METHODS or not is_numbered(operation.method):
        raise ProtocolError(f"{operation.method} is no method that sends or changes something")
    thread = operation.parameters.get("message_thread_id")
    return (operation.method, operation.parameters), Incoming(
        "operation", chat_of(operation.parameters), thread if isinstance(thread, int) else 0
    )
