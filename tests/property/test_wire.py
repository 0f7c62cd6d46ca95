"""Frames in pieces of any size, and bytes of any kind."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mpfora import wire

texts = st.text(max_size=50)
frames = st.one_of(
    st.builds(wire.Save, texts),
    st.builds(wire.Ping, st.integers()),
    st.builds(wire.Failed, texts, texts, texts, st.booleans()),
    st.builds(wire.Stop, texts, st.none() | st.floats(allow_nan=False, allow_infinity=False), texts, st.just(1.0)),
    st.builds(wire.Exited, st.integers(), st.none(), st.integers(1, 64), texts),
    st.builds(wire.Will, st.none() | st.lists(texts, max_size=3), texts),
)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({min(cut, len(data)) for cut in cuts})
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]


@given(st.lists(frames, max_size=8), st.lists(st.integers(0, 2000), max_size=20))
def test_however_a_stream_is_cut_the_same_frames_come_out(sent: list[wire.Frame], cuts: list[int]) -> None:
    decoder = wire.Decoder()
    stream = b"".join(map(wire.format_frame, sent))
    assert [frame for piece in pieces(stream, cuts) for frame in decoder.feed(piece)] == sent


@given(st.lists(frames, max_size=4), st.binary(min_size=1, max_size=200), st.lists(st.integers(0, 500), max_size=5))
def test_any_bytes_are_frames_or_an_error(sent: list[wire.Frame], junk: bytes, cuts: list[int]) -> None:
    decoder = wire.Decoder(1000)
    got: list[wire.Frame] = []
    try:
        for piece in pieces(b"".join(map(wire.format_frame, sent)) + junk, cuts):
            got += decoder.feed(piece)
    except wire.FrameError:
        pass
    assert got[: len(sent)] == sent
