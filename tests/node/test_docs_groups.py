"""The programs of docs/from_pool_to_cluster.md run as they stand there, and print what stands beside their lines."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from etcd_server import EtcdServer
from node import Site, environment
from places import ROOT

PAGE = (ROOT / "docs" / "from_pool_to_cluster.md").read_text()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, program in re.findall(r"```python\n# (\w+\.py)\n(.*?)```", PAGE, re.DOTALL):
        (tmp_path / name).write_text(program)
    return tmp_path


def output_of(script: Path, **variables: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, str(script)],
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def promised(script: Path) -> list[str]:
    return re.findall(r"^ *print\(.*\) +# (.+)$", script.read_text(), re.MULTILINE)


def test_the_pool_s_program(folder: Path) -> None:
    script = folder / "pool.py"
    assert output_of(script) == promised(script) == ["[0, 45, 90, 135]"]


def test_the_cluster_s_program(folder: Path, etcd: EtcdServer, namespace: str) -> None:
    script = folder / "run.py"
    wanted = promised(script)
    with Site(etcd, namespace) as site:
        site.start("jobs:simulate", cwd=folder)
        assert (
            output_of(script, MPFORA_ETCD=etcd.endpoint, MPFORA_NAMESPACE=namespace)
            == wanted
            == ["[0, 45, 90, 135]", "True"]
        )
