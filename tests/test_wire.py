"""Frames: every kind comes back as it went, and what is no frame is refused without being held."""

from __future__ import annotations

import struct

import pytest

from mpfora import wire

FRAMES: list[wire.Frame] = [
    wire.Fork(1, "t", "h", '{"a":1}', 7, 2, None, 3, 10.0, 1.5, "cpu", 1 << 30),
    wire.Kill(1, "stalled", dump=False),
    wire.Deadline(None),
    wire.Deadline(123456789012345678),
    wire.Will(["/bin/true", "x"], "secret"),
    wire.Will(None),
    wire.Ping(1),
    wire.Pong(1),
    wire.Bye(),
    wire.Ready(5, {"h": {"stop_timeout_s": None}}, ["openblas 3"]),
    wire.ImportFailed("m:a", "Traceback"),
    wire.Started(1, 2),
    wire.StartFailed(1, "why"),
    wire.Exited(1, None, 9, "stalled", 1.5, 100, "note"),
    wire.Usages([[1, 0.5, 4096, 2]]),
    wire.Notice("info", "text"),
    wire.Stop("sleep", 12.5, "because", 10.0),
    wire.WantCheckpoint(),
    wire.Save('{"x":"ü"}'),
    wire.Returned("null"),
    wire.ReturnedMessage("pause"),
    wire.Failed("text", "traceback", "kind", at_start=True),
]


def packed(body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + body


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: type(frame).__name__)
def test_a_frame_comes_back_as_it_went(frame: wire.Frame) -> None:
    assert wire.Decoder().feed(wire.format_frame(frame)) == [frame]


def test_every_kind_of_frame_is_tested() -> None:
    assert {type(frame) for frame in FRAMES} == set(wire.Frame.__args__)


def test_the_form_on_the_stream() -> None:
    assert wire.format_frame(wire.Ping(3)) == b'\0\0\0\x1b{"frame":"Ping","number":3}'


@pytest.mark.parametrize(
    "body",
    [b"", b"x", b"[]", b"null", b"{}", b'{"frame":"Nobody"}', b'{"frame":["Ping"]}', b'{"frame":"Ping"}',
     b'{"frame":"Ping","number":1,"x":2}', b"\xff\xff", b'{"frame":"Ping","number":' + b"[" * 5000],
)  # fmt: skip
def test_what_is_no_frame(body: bytes) -> None:
    with pytest.raises(wire.FrameError):
        wire.Decoder().feed(packed(body))


def test_frames_before_the_garbage_are_not_lost() -> None:
    decoder = wire.Decoder()
    assert decoder.feed(wire.format_frame(wire.Returned("1")) + packed(b"garbage")) == [wire.Returned("1")]
    with pytest.raises(wire.FrameError):
        decoder.check()
    with pytest.raises(wire.FrameError):
        decoder.feed(wire.format_frame(wire.Returned("2")))


def test_a_length_over_the_limit_is_refused_before_it_comes() -> None:
    with pytest.raises(wire.FrameError, match="limit is 100"):
        wire.Decoder(100).feed(struct.pack(">I", 101))
    with pytest.raises(wire.FrameError):
        wire.Decoder().feed(struct.pack(">I", wire.MAX_FRAME + 1))


def test_a_frame_too_long_to_be_sent() -> None:
    with pytest.raises(wire.FrameError, match="Save frame"):
        wire.format_frame(wire.Save("x" * wire.MAX_FRAME))
