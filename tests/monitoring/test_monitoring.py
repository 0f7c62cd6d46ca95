"""The alerts and the dashboard: promtool takes them, each alert fires at its trouble, and every metric that they name
is one that nodes or the page tell."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mpfora.monitoring import folder

pytest.importorskip("prometheus_client", reason="prometheus-client (mpfora[metrics]) is not installed")
yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")

HERE = Path(__file__).parent
needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool (Debian's package prometheus) is not installed"
)
_NAME = re.compile(r"\b(?:mpfora|process)_[a-z_]+\b")
_ENDS = ("_total", "_bucket", "_sum", "_count")


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder() / "dashboard.json").read_text())
    return found


def queries() -> list[str]:
    return [target["expr"] for panel in dashboard()["panels"] for target in panel.get("targets", ())]


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load((folder() / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def told() -> set[str]:
    """The names of the metrics that there are, read from the sources that make them."""
    package = folder().parent
    sources = (package / "supervisor/metrics.py", package / "web/metrics.py")
    made = re.compile(r"(?:gauge|one|counter|histogram|plain_histogram)\(\s*\"([a-z_]+)\"")
    names = {f"mpfora_{name}" for path in sources for name in made.findall(path.read_text())}
    return names | {"process_resident_memory_bytes"}


def base(name: str) -> str:
    for end in _ENDS:
        name = name.removesuffix(end)
    return name


def test_every_metric_that_is_named_is_told() -> None:
    asked = {base(name) for text in [*queries(), *(rule["expr"] for rule in alerts())] for name in _NAME.findall(text)}
    assert asked <= {base(name) for name in told()}
    assert len(asked) > 25


def test_no_label_is_a_task() -> None:
    for text in [*queries(), *(rule["expr"] for rule in alerts())]:
        assert not re.search(r"\b(task|task_id|id)\s*[=!]", text)


def test_each_panel_has_its_place() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not taken & cells, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
    ids = [panel["id"] for panel in dashboard()["panels"]]
    assert len(set(ids)) == len(ids)


def test_each_alert_says_what_to_do() -> None:
    for rule in alerts():
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["description"]
    asked = (HERE / "alerts_test.yml").read_text()
    assert {rule["alert"] for rule in alerts()} == set(re.findall(r"alertname: (\w+)", asked))


@needs_promtool
def test_promtool_takes_the_alerts_and_they_fire(tmp_path: Path) -> None:
    shutil.copy(folder() / "alerts.yml", tmp_path)
    shutil.copy(HERE / "alerts_test.yml", tmp_path)
    promtool(tmp_path, "check", "rules", "alerts.yml")
    promtool(tmp_path, "test", "rules", "alerts_test.yml")


@needs_promtool
def test_promtool_takes_every_query_of_the_dashboard(tmp_path: Path) -> None:
    texts = [text.replace("$__rate_interval", "5m").replace("$instance", ".*") for text in queries()]
    rules = [{"record": f"query:{number}", "expr": text} for number, text in enumerate(texts)]
    (tmp_path / "queries.yml").write_text(json.dumps({"groups": [{"name": "queries", "rules": rules}]}))
    promtool(tmp_path, "check", "rules", "queries.yml")


@needs_promtool
def test_promtool_takes_what_nodes_and_the_page_tell(tmp_path: Path) -> None:
    from test_meters import scraped

    ended = subprocess.run(
        ["promtool", "check", "metrics"], input=scraped(), capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


def promtool(cwd: Path, *arguments: str) -> None:
    ended = subprocess.run(["promtool", *arguments], cwd=cwd, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_the_folder_is_printed() -> None:
    ended = subprocess.run([sys.executable, "-m", "mpfora.monitoring"], capture_output=True, text=True, check=True)
    assert Path(ended.stdout.strip()) == folder()
