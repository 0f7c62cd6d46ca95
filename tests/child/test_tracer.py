"""Whom the kernel lets look into a child, where Yama asks."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from mpfora.child.run.prefork import who_may_trace
from mpfora.linux import procfs


@pytest.mark.parametrize("level", ["0", "2", "3", "", "nonsense"])
def test_only_at_yamas_first_level_a_child_says_who_may_trace_it(tmp_path: Path, level: str) -> None:
    (tmp_path / "scope").write_text(level)
    assert who_may_trace(tmp_path / "scope") is None
    assert who_may_trace(tmp_path / "none") is None


def test_it_is_the_guards_parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "scope").write_text("1\n")
    monkeypatch.setattr("os.getppid", lambda: 40)
    real = procfs.read_stat(1)
    assert real is not None
    monkeypatch.setattr(procfs, "read_stat", lambda pid: dataclasses.replace(real, ppid=39) if pid == 40 else None)
    assert who_may_trace(tmp_path / "scope") == 39
