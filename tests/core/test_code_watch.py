"""The watch over the files of handlers: what has changed leads to one reload, when the saving is over."""

from __future__ import annotations

import asyncio
import sys
import sysconfig
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mpfora.supervisor import code_watch
from mpfora.supervisor.code_watch import CodeWatch, is_own


@asynccontextmanager
async def watch(*files: Path) -> AsyncIterator[tuple[CodeWatch, asyncio.Queue[str]]]:
    """One that looks, and what it has asked for."""
    asked: asyncio.Queue[str] = asyncio.Queue()
    watch = CodeWatch(asked.put_nowait)
    watch.imported(map(str, files), True)
    running = asyncio.create_task(watch.run())
    yield watch, asked
    running.cancel()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code_watch, "EVERY_S", 0.02)


async def within(asked: asyncio.Queue[str]) -> str:
    return await asyncio.wait_for(asked.get(), 20)


async def test_a_change_leads_to_one_reload_that_names_it(tmp_path: Path) -> None:
    one, other = tmp_path / "one.py", tmp_path / "other.py"
    one.write_text("1")
    other.write_text("1")
    async with watch(one, other) as (_, asked):
        one.write_text("22")
        other.write_text("22")
        assert await within(asked) == f"changed: {one}, {other}"
        one.unlink()
        assert await within(asked) == f"changed: {one}"
        one.write_text("333")
        assert await within(asked) == f"changed: {one}"
        assert asked.empty()


async def test_what_failed_to_import_is_watched_besides_what_was_there(tmp_path: Path) -> None:
    one, fresh = tmp_path / "one.py", tmp_path / "fresh.py"
    one.write_text("import fresh")
    fresh.write_text("oops(")
    async with watch(one) as (watching, asked):
        watching.imported([str(fresh)], False)
        fresh.write_text("x = 1")
        assert await within(asked) == f"changed: {fresh}"
        one.write_text("import fresh  # mended")
        assert await within(asked) == f"changed: {one}"
        watching.imported([str(fresh)], True)
        one.unlink()
        fresh.write_text("x = 22")
        assert await within(asked) == f"changed: {fresh}", "nobody imports the other one any more"


async def test_a_module_that_an_import_lacks_is_seen_when_it_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package, one, lacking = tmp_path / "package", tmp_path / "package" / "one.py", tmp_path / "lacking.py"
    package.mkdir()
    one.write_text("import lacking")
    monkeypatch.chdir(tmp_path)
    async with watch(one) as (watching, asked):
        watching.imported([str(one)], False)
        (tmp_path / "results.csv").write_text("not code")
        lacking.write_text("")
        assert await within(asked) == f"changed: {tmp_path}"
        (package / "other.py").write_text("")
        assert await within(asked) == f"changed: {package}"
        watching.imported([str(one), str(lacking)], True)
        (package / "more.py").write_text("")
        lacking.write_text("x = 1")
        assert await within(asked) == f"changed: {lacking}", "an import that lacks nothing has no use of folders"


async def test_a_change_during_the_import_is_seen(tmp_path: Path) -> None:
    one = tmp_path / "one.py"
    one.write_text("1")
    async with watch(one) as (watching, asked):
        one.write_text("22")  # after the zygote has read it
        watching.imported([str(one)], True)
        assert await within(asked) == f"changed: {one}"


def test_python_its_packages_and_mpfora_are_not_looked_at() -> None:
    import click

    import mpfora

    assert not any(map(is_own, (asyncio.__file__, str(click.__file__), str(mpfora.__file__))))
    assert not is_own(str(Path(sysconfig.get_path("purelib")) / "x.py"))
    assert is_own("/srv/shop/shop.py")
    assert "code_watch" in sys.modules[CodeWatch.__module__].__name__
