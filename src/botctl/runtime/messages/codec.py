"""Messages as the bodies of frames. What is not in the schema of whoever sent it is refused at the border."""

from __future__ import annotations

import msgspec

from botctl.errors import ProtocolError
from botctl.runtime.messages.base import Message
from botctl.runtime.messages.child import (
    Adjust,
    Configure,
    Failing,
    GaveUp,
    Heartbeat,
    Isolated,
    Ready,
    Rekey,
    Rotate,
    Rotated,
    SetupDone,
    Stop,
    Wake,
)
from botctl.runtime.messages.control import (
    Assign,
    Command,
    CommandResult,
    Desired,
    Generation,
    GetSnapshot,
    Hearing,
    Lifecycle,
    Recorded,
    Reload,
    Snapshot,
)

Downward = Configure | Stop | Rotate | Rekey | Adjust | Wake | CommandResult | Snapshot | Lifecycle | Reload
Upward = Isolated | Ready | Heartbeat | Failing | Rotated | GaveUp | SetupDone
ControlUpward = Upward | Desired | Command | GetSnapshot | Recorded | Rotate | Wake | Hearing | Assign | Generation

_encoder = msgspec.json.Encoder()
_downward: msgspec.json.Decoder[Downward] = msgspec.json.Decoder(Downward)
_upward: msgspec.json.Decoder[Upward] = msgspec.json.Decoder(Upward)
_control_upward: msgspec.json.Decoder[ControlUpward] = msgspec.json.Decoder(ControlUpward)

LONGEST_REFUSAL = 200

_REFUSED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def encode(message: Message) -> bytes:
    """The body of a frame."""
    return _encoder.encode(message)


def decode_downward(body: bytes) -> Downward:
    """A message from the supervisor. Raises ProtocolError."""
    try:
        message: Downward = _downward.decode(body)
    except _REFUSED as error:
        raise _refusal(body, error) from error
    return message


def decode_upward(body: bytes) -> Upward:
    """A message from a bot. Raises ProtocolError."""
    try:
        message: Upward = _upward.decode(body)
    except _REFUSED as error:
        raise _refusal(body, error) from error
    return message


def decode_control(body: bytes) -> ControlUpward:
    """A message from `control`. Raises ProtocolError."""
    try:
        message: ControlUpward = _control_upward.decode(body)
    except _REFUSED as error:
        raise _refusal(body, error) from error
    return message


def _refusal(body: bytes, error: Exception) -> ProtocolError:
    # The decoder's words may quote what stood in the frame; a part of that could be a part of a secret.
    words = str(error)
    if len(words) > LONGEST_REFUSAL:
        words = words.partition("'")[0] + "…"
    return ProtocolError(f"frame of {len(body)} bytes refused: {words}")
