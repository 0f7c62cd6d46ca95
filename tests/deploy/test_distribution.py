"""What is built to be installed holds what it must: the wheel all that runs, the source all that the repository has."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from places import ROOT

import mpfora

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(importlib.util.find_spec("build") is None, reason="nothing is built: pip install build"),
]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def kept(folder: Path) -> set[str]:
    """The files of a folder of the repository that git has, by their path in the repository."""
    listed = subprocess.run(["git", "ls-files", str(folder)], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(listed.stdout.splitlines())


def test_the_wheel_has_all_of_the_package_and_nothing_else(built: Path) -> None:
    with zipfile.ZipFile(built / f"mpfora-{mpfora.__version__}-py3-none-any.whl") as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert names == kept(ROOT / "mpfora")
    assert {"mpfora/py.typed", "mpfora/web/static/index.html", "mpfora/monitoring/dashboard.json"} <= names


def test_the_source_has_all_of_the_repository(built: Path) -> None:
    top = f"mpfora-{mpfora.__version__}/"
    with tarfile.open(built / f"mpfora-{mpfora.__version__}.tar.gz") as source:
        names = {name.removeprefix(top) for name in source.getnames()}
    for folder in ("mpfora", "docs", "deploy", "tests", "examples"):
        assert kept(ROOT / folder) - names == set()
