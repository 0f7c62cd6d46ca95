"""The files that the zygote names to a node with --reload-on-change: those of modules, and those of a failed import."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from mpfora.child.zygote.imported_files import files_of, imported_files


def test_the_files_of_all_modules() -> None:
    assert importlib.__file__ in imported_files()
    assert __file__ in imported_files()


@pytest.mark.parametrize("text", ["oops(", "1 / 0", "import nowhere_at_all", "raise SystemExit(3)"])
def test_the_file_in_which_an_import_has_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    (tmp_path / "outer_of_failure.py").write_text("try:\n    import inner_of_failure\nfinally:\n    pass\n")
    (tmp_path / "inner_of_failure.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(BaseException) as failed:  # noqa: PT011 - whatever a module raises
        importlib.import_module("outer_of_failure")
    wrapped = RuntimeError("as a LoadError has it")
    wrapped.__cause__ = failed.value
    named = files_of(wrapped)
    assert str(tmp_path / "inner_of_failure.py") in named
    assert str(tmp_path / "outer_of_failure.py") in named
    assert not any(file.startswith("<") for file in named)


def test_an_error_that_is_its_own_cause_has_an_end() -> None:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    assert files_of(first) == []
