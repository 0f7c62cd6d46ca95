"""Frames: every kind comes back as it went, and what is no frame is refused without being held."""

from __future__ import annotations

import struct

import pytest

from mpfora.ipc import frames
from mpfora.model.run_spec import RunLimits, RunSpec

FRAMES: list[frames.Frame] = [
    frames.Fork(1, 3, RunSpec("t", "h", '{"a":1}', 7, 2, None, RunLimits(10.0, 1.5, "cpu", 1 << 30))),
    frames.Kill(1, "stalled", dump=False),
    frames.Deadline(None),
    frames.Deadline(123456789012345678),
    frames.Will(["/bin/true", "x"]),
    frames.Will(None),
    frames.Sibling(),
    frames.Sibling(is_known=False),
    frames.Look(3),
    frames.Ping(1),
    frames.Pong(1),
    frames.Bye(),
    frames.Ready(5, {"h": {"stop_timeout_s": None}}, ["openblas 3"]),
    frames.ImportFailed("m:a", "Traceback"),
    frames.Started(1, 2),
    frames.StartFailed(1, "why"),
    frames.Exited(1, None, 9, "stalled", 1.5, 100, "note"),
    frames.Usages([[1, 0.5, 4096, 2]]),
    frames.Notice("info", "text"),
    frames.Stop("sleep", 12.5, "because", 10.0),
    frames.WantCheckpoint(),
    frames.Call("job.py", None),
    frames.Save(),
    frames.Returned('{"x":"ü"}'),
    frames.Returned("null"),
    frames.ReturnedMessage("pause"),
    frames.Failed("text", "traceback", "kind", at_start=True),
]


def packed(body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + body


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: type(frame).__name__)
def test_a_frame_comes_back_as_it_went(frame: frames.Frame) -> None:
    assert frames.Decoder().feed(frames.format_frame(frame)) == [frame]


def test_every_kind_of_frame_is_tested() -> None:
    assert {type(frame) for frame in FRAMES} == set(frames.Frame.__args__)


def test_the_form_on_the_stream() -> None:
    assert frames.format_frame(frames.Ping(3)) == b'\0\0\0\x1b{"frame":"Ping","number":3}'


@pytest.mark.parametrize(
    "body",
    [b"", b"x", b"[]", b"null", b"{}", b'{"frame":"Nobody"}', b'{"frame":["Ping"]}', b'{"frame":"Ping"}',
     b'{"frame":"Ping","number":1,"x":2}', b"\xff\xff", b'{"frame":"Ping","number":' + b"[" * 5000],
)  # fmt: skip
def test_what_is_no_frame(body: bytes) -> None:
    with pytest.raises(frames.FrameError):
        frames.Decoder().feed(packed(body))


def test_frames_before_the_garbage_are_not_lost() -> None:
    decoder = frames.Decoder()
    assert decoder.feed(frames.format_frame(frames.Returned("1")) + packed(b"garbage")) == [frames.Returned("1")]
    with pytest.raises(frames.FrameError):
        decoder.check()
    with pytest.raises(frames.FrameError):
        decoder.feed(frames.format_frame(frames.Returned("2")))


def test_a_length_over_the_limit_is_refused_before_it_comes() -> None:
    with pytest.raises(frames.FrameError, match="limit is 100"):
        frames.Decoder(100).feed(struct.pack(">I", 101))
    with pytest.raises(frames.FrameError):
        frames.Decoder().feed(struct.pack(">I", frames.MAX_FRAME + 1))


def test_a_frame_too_long_to_be_sent() -> None:
    with pytest.raises(frames.FrameError, match="Returned frame"):
        frames.format_frame(frames.Returned("x" * frames.MAX_FRAME))
