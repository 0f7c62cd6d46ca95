"""What a type checker is to see of a Pool. Checked by tests/pool/test_pool_types.py, and never run."""

from collections.abc import Iterator
from functools import partial
from typing import assert_type

import mpfora
from mpfora import Pool, PoolFuture


def f(x: int, *, y: str = "") -> float:
    return x


async def g(x: int) -> bytes:
    return b""


def check(pool: Pool) -> None:
    assert_type(pool.submit(f, 1, y="a"), PoolFuture[float])
    assert_type(pool.submit(f, 1).result(), float)
    assert_type(pool.submit(g, 1), PoolFuture[bytes])
    assert_type(pool.options(timeout="10m").submit(partial(f, 1)).result(timeout=1), float)
    assert_type(pool.map(f, [1, 2], timeout=3), Iterator[float])
    assert_type(pool.submit(len, "abc"), PoolFuture[int])
    ctx = mpfora.current()
    assert_type(ctx, mpfora.RunContext | None)
    pool.submit(f, "x")  # type: ignore[call-overload]
    pool.submit(f)  # type: ignore[call-overload]
