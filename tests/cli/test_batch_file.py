"""Files of tasks as editors write them."""

from __future__ import annotations

import click
import pytest

from mpfora.cli.batch import Batch
from mpfora.client import NewTask


def test_a_mark_of_the_encoding_is_passed_over() -> None:
    batch = Batch("f", None)
    assert list(batch.read([b'\xef\xbb\xbf{"id":"a"}\r\n', b'{"id":"b"}\n'])) == [NewTask("a"), NewTask("b")]
    assert batch.bad == 0


def test_another_encoding_is_named() -> None:
    lines = '{"id":"a"}\n'.encode("utf-16").splitlines(keepends=True)
    with pytest.raises(click.UsageError, match="UTF-16: save it as UTF-8"):
        list(Batch("f", None).read(lines))
