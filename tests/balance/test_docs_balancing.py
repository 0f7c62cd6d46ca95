"""The example of docs/balancing.md works as it says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from places import ROOT

from mpfora.model.task import Wants
from mpfora.supervisor.balance.balancer import Balancer
from mpfora.supervisor.balance.by_name import make_balancer
from mpfora.testing.balancing import compare
from mpfora.testing.cluster import Cluster

PAGE = ROOT / "docs" / "balancing.md"


@pytest.fixture
def locality(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[Balancer]:
    (source,) = re.findall(r"```python\n(# locality\.py.*?)```", PAGE.read_text(), re.S)
    (tmp_path / "locality.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    found: Any = make_balancer("locality:ByData,at_once=10")
    return type(found)


def test_the_example_brings_tasks_to_their_data(locality: type[Balancer]) -> None:
    cluster = Cluster(locality)
    cluster.start("a", labels={"data.acme": "yes"})
    cluster.start("b", labels={"data.acme": "yes"})
    cluster.start("c")
    cluster.run(5)
    cluster.submit({f"acme:{n}": Wants() for n in range(12)} | {f"other:{n}": Wants() for n in range(6)})
    cluster.settle()
    cluster.start("d")
    cluster.settle()
    at = {task_id: node for task_id, (node, _) in cluster.owners.items()}
    assert {node for task_id, node in at.items() if task_id.startswith("acme")} == {"a", "b"}
    assert len(at) == 18


def test_the_example_comes_to_rest(locality: type[Balancer]) -> None:
    nodes: dict[str, dict[str, Any]] = {"a": {"labels": {"data.acme": "yes"}}, "b": {}, "c": {}}
    table = compare(locality, nodes=nodes, tasks={f"acme:{n}": Wants() for n in range(30)}, beside=())
    assert all(row.unclaimed == 0 for row in table)
