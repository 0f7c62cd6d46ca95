"""All checks of a cluster, in order. Pure."""

from __future__ import annotations

from mpfora.doctor.cluster_checks import cluster_checks
from mpfora.doctor.etcd_checks import etcd_checks
from mpfora.doctor.facts import ClusterFacts
from mpfora.doctor.findings import Finding
from mpfora.doctor.machine_checks import machine_checks


def examine(facts: ClusterFacts) -> list[Finding]:
    """What each check says: of what is fine, too."""
    return [*etcd_checks(facts), *cluster_checks(facts), *machine_checks(facts)]
