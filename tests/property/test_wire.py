"""Frames in pieces of any size, and bytes of any kind."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mpfora.ipc import frames

texts = st.text(max_size=50)
arrived = st.one_of(
    st.builds(frames.Save),
    st.builds(frames.Ping, st.integers()),
    st.builds(frames.Failed, texts, texts, texts, st.booleans()),
    st.builds(frames.Stop, texts, st.none() | st.floats(allow_nan=False, allow_infinity=False), texts, st.just(1.0)),
    st.builds(frames.Exited, st.integers(), st.none(), st.integers(1, 64), texts),
    st.builds(frames.Will, st.none() | st.lists(texts, max_size=3)),
)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({min(cut, len(data)) for cut in cuts})
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]


@given(st.lists(arrived, max_size=8), st.lists(st.integers(0, 2000), max_size=20))
def test_however_a_stream_is_cut_the_same_frames_come_out(sent: list[frames.Frame], cuts: list[int]) -> None:
    decoder = frames.Decoder()
    stream = b"".join(map(frames.format_frame, sent))
    assert [frame for piece in pieces(stream, cuts) for frame in decoder.feed(piece)] == sent


@given(st.lists(arrived, max_size=4), st.binary(min_size=1, max_size=200), st.lists(st.integers(0, 500), max_size=5))
def test_any_bytes_are_frames_or_an_error(sent: list[frames.Frame], junk: bytes, cuts: list[int]) -> None:
    decoder = frames.Decoder(1000)
    got: list[frames.Frame] = []
    try:
        for piece in pieces(b"".join(map(frames.format_frame, sent)) + junk, cuts):
            got += decoder.feed(piece)
    except frames.FrameError:
        pass
    assert got[: len(sent)] == sent
