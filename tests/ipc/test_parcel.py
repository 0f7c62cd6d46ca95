"""Parcels: what is put in comes out, and what is no parcel is refused."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mpfora.ipc import parcel


@contextmanager
def parcel_of(data: bytes = b"") -> Iterator[int]:
    fd = parcel.create()
    try:
        os.pwrite(fd, data, 0)
        yield fd
    finally:
        os.close(fd)


@given(st.lists(st.binary(max_size=200) | st.just(b"x" * 70_000), min_size=1, max_size=5), st.booleans())
def test_what_is_put_in_comes_out(segments: list[bytes], shared: bool) -> None:
    with parcel_of() as fd:
        parcel.fill(fd, segments)
        found = parcel.take(fd, shared=shared)
    assert found is not None
    assert [bytes(segment) for segment in found] == segments


def test_nothing_comes_out_of_an_empty_one() -> None:
    with parcel_of() as fd:
        assert parcel.take(fd, shared=True) is None


@given(st.binary(min_size=1, max_size=300) | st.lists(st.integers(0, 2**64 - 1), max_size=9).map(
    lambda words: struct.pack(f"={len(words)}Q", *words) + b"x"))  # fmt: skip
@example(struct.pack("=3Q", 2, 2**63, 2**63))
@example(struct.pack("=Q", 1))
def test_what_is_no_parcel_is_refused_or_lies_within_its_bytes(data: bytes) -> None:
    with parcel_of(data) as fd:
        try:
            found = parcel.take(fd, shared=True)
        except ValueError:
            return
    assert found is not None
    assert sum(segment.nbytes for segment in found) <= len(data)


def test_whoever_still_has_it_cannot_take_its_pages_away() -> None:
    with parcel_of() as fd:
        parcel.fill(fd, [b"x" * 100_000])
        found = parcel.take(fd, shared=True)
        with pytest.raises(PermissionError):
            os.ftruncate(fd, 0)
    assert found is not None
    assert found[0][99_999] == ord("x")


@pytest.mark.parametrize("shared", [True, False])
def test_a_long_one_can_be_written_to(shared: bool) -> None:
    with parcel_of() as fd:
        parcel.fill(fd, [b"", bytearray(100_000)])  # type: ignore[list-item]
        found = parcel.take(fd, shared=shared)
        assert found is not None
        found[1][0] = 7
        again = parcel.take(fd, shared=shared)
        assert again is not None
        assert again[1][0] == (7 if shared else 0)
