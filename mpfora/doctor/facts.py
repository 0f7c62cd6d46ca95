"""What is found of a cluster before it is judged. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mpfora.client.info.node_info import NodeInfo
from mpfora.client.mirror.pending_by_reason import Waiting
from mpfora.store.kv import Space


@dataclass(frozen=True, slots=True)
class EtcdFacts:
    """version: like "3.5.23"; space: how full it is; has_no_space: None: it does not tell; latencies_s: of reads
    through its leader; writes: "": this user may write, else why not; endpoints: how many were named; kept:
    so many revisions of its history, and more, it keeps; 0: few, or it does not tell; is_embedded: mpfora has
    started it; silent: the endpoints that do not answer, and why"""

    version: str
    space: Space
    has_no_space: bool | None
    latencies_s: Sequence[float]
    writes: str = ""
    endpoints: int = 1
    kept: int = 0
    is_embedded: bool = False
    silent: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ClusterFacts:
    """nodes: the live ones; machines: node -> what it finds on its machine, None: it does not answer

    ahead_s: how much a node's clock is ahead of this machine's; waiting: why pending tasks wait; unreadable: keys that
    cannot be read, and why; unleased: claims and records of nodes that hang on no lease"""

    etcd: EtcdFacts
    nodes: Sequence[NodeInfo] = ()
    machines: Mapping[str, Mapping[str, Any] | None] = field(default_factory=dict)
    ahead_s: Mapping[str, float] = field(default_factory=dict)
    waiting: Sequence[Waiting] = ()
    unreadable: Mapping[str, str] = field(default_factory=dict)
    unleased: Sequence[str] = ()
