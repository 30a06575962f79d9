from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from botctl.errors import ProtocolError
from botctl.runtime import messages
from botctl.runtime.frames import HEADER, FrameReader, frame


@given(st.lists(st.binary(max_size=200), max_size=20), st.data())
def test_bodies_come_out_as_they_went_in_however_the_stream_is_cut(bodies: list[bytes], data: st.DataObject):
    stream = b"".join(frame(body) for body in bodies)
    reader = FrameReader(max_body=200)
    out: list[bytes] = []
    while stream:
        cut = data.draw(st.integers(1, len(stream)))
        out += reader.feed(stream[:cut])
        stream = stream[cut:]
    assert out == bodies


def test_a_header_that_announces_too_much_is_refused_before_the_body_comes():
    with pytest.raises(ProtocolError, match="frame of 104857600 bytes announced"):
        FrameReader(max_body=1 << 20).feed(HEADER.pack(100 << 20))


@given(st.binary(max_size=300))
def test_garbage_is_a_protocol_error_and_nothing_else(body: bytes):
    with pytest.raises(ProtocolError):
        messages.decode_upward(b"\x00" + body)


@pytest.mark.parametrize(
    "message",
    [
        messages.Desired(generation=1, bots=[]),
        messages.Command(id=1, verb="shutdown"),
        messages.Recorded(seq=1),
        messages.Stop(timeout=1.0),
    ],
)
def test_a_bot_can_not_speak_as_control(message: messages.Message):
    with pytest.raises(ProtocolError):
        messages.decode_upward(messages.encode(message))


def test_deep_nesting_is_refused():
    with pytest.raises(ProtocolError):
        messages.decode_upward(b'{"type":"Heartbeat","gauges":' + b"[" * 100_000 + b"]" * 100_000 + b"}")
