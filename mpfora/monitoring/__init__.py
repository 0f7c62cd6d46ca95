"""What Prometheus and Grafana need to watch a cluster: files, and where they are.

    alerts.yml      rules for Prometheus (rule_files:)
    dashboard.json  a dashboard for Grafana (import it, or put it where it is provisioned from)

Copy them from `folder()`, as in: cp "$(python -m mpfora.monitoring)"/alerts.yml /etc/prometheus/
"""

from __future__ import annotations

from pathlib import Path


def folder() -> Path:
    """The folder with the files."""
    return Path(__file__).parent
