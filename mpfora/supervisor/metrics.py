"""The metrics of a node, as prometheus-client has them: made of its meters and of how it is now.

Called in the node's event loop, where nothing changes meanwhile; whoever serves them encodes them elsewhere. This is
the only importer of prometheus_client on a node, and loaded where --http is given alone.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from prometheus_client.core import Metric

from mpfora._version import __version__
from mpfora.ipc.slots import Beat
from mpfora.metric_forms import Values, counter, encode, gauge, histogram, keyed, one, plain_histogram
from mpfora.supervisor.node.meters import Meters
from mpfora.supervisor.node.summary import NodeSummary
from mpfora.supervisor.output.node_output import OutputCounts
from mpfora.supervisor.zygote.runs import RunUsage


class RunNow(NamedTuple):
    """A run that goes on, as it is seen at one moment."""

    run: int
    usage: RunUsage | None
    beat: Beat | None


class Now(NamedTuple):
    """The node at one moment: all that is not a counter. boot_s: when. balancer: its name."""

    boot_s: float
    summary: NodeSummary
    states: Mapping[str, int]
    runs: tuple[RunNow, ...]
    balancer: str
    moves: int
    late_claims: int
    longest_turn_s: float
    lease_ttl_s: float
    output: OutputCounts = OutputCounts()


def families(meters: Meters, now: Now, before: dict[int, RunUsage]) -> list[Metric]:
    """before: what each run had used at the scrape before; it is brought up to date."""
    return [
        *_of_node(meters, now), *_of_runs(meters), *_of_usage(meters, now, before), *_of_store(meters, now),
        *_of_output(now.output),
    ]  # fmt: skip


def _of_node(meters: Meters, now: Now) -> Iterable[Metric]:
    info = {"node": meters.node, "version": __version__, "python": platform.python_version(), "balancer": now.balancer}
    yield gauge("node_info", "What the node is; always 1.", {tuple(info.values()): 1.0}, *info)
    yield one("node_ready", "Whether it can run tasks that it is given.", not now.summary.why_not_ready)
    if now.summary.capacity is not None:
        yield one("node_capacity_tasks", "How many tasks may run at once.", now.summary.capacity)
    yield gauge("node_tasks", "Tasks that the node has claimed, by state.", keyed(now.states), "state")
    yield one("node_frozen", "Whether it keeps its tasks and takes none.", now.summary.frozen)
    yield one("node_draining", "Whether it gives its tasks back.", now.summary.draining)
    yield counter("moves", "Tasks that it gave to others for the balance.", {(): float(now.moves)})
    yield one("loop_longest_turn_seconds", "The longest turn of its event loop so far.", now.longest_turn_s)
    is_behind = bool(now.summary.reload_error)
    yield one("zygote_generation", "How many zygotes have imported the handlers so far.", meters.zygotes)
    yield one("zygotes_former", "Zygotes that have runs of former code.", now.summary.former_zygotes)
    yield one("reload_failed", "Whether the last reload failed, and the node goes on with older code.", is_behind)
    yield counter("zygote_restarts", "Zygotes that were lost or failed.", keyed(meters.zygote_restarts), "why")


def _of_runs(meters: Meters) -> Iterable[Metric]:
    yield counter("runs_started", "Processes that were forked for tasks.", keyed(meters.started), "handler")
    ended: Values = {key: float(count) for key, count in meters.ended.items()}
    yield counter("runs_ended", "Runs that have ended, by cause.", ended, "handler", "cause")
    yield histogram("run_duration_seconds", "From the fork to the death of the last process.", meters.durations_s)
    yield histogram("task_wait_seconds", "From when a task was seen to be runnable to its fork.", meters.waits_s)
    yield histogram("run_peak_memory_bytes", "The most resident memory of a run that has ended.", meters.peaks)
    yield counter("run_cpu_seconds", "Processor time of all runs.", keyed(meters.cpu_s), "handler")
    yield counter("checkpoints", "Checkpoints that tasks saved.", keyed(meters.checkpoints), "handler")
    yield counter("kills", "Runs that the node has killed.", keyed(meters.kills), "cause")
    yield plain_histogram("kill_duration_seconds", "From a kill to the death of the last process.", meters.kills_s)


def _of_usage(meters: Meters, now: Now, before: dict[int, RunUsage]) -> Iterable[Metric]:
    """What runs use that go on."""
    memory: dict[str, float] = {}
    cores: dict[str, float] = {}
    ages: dict[str, float] = {}
    seen: dict[int, RunUsage] = {}
    for run, usage, beat in now.runs:
        handler = meters.runs[run].handler
        if usage is not None:
            memory[handler] = memory.get(handler, 0.0) + usage.rss
            cores[handler] = cores.get(handler, 0.0) + _cores(usage, before.get(run), meters.runs[run].began_s)
            seen[run] = usage
        if beat is not None:
            ages[handler] = max(ages.get(handler, 0.0), meters.beat_age_s(run, beat.beats, now.boot_s))
    before.clear()
    before.update(seen)
    yield gauge("tasks_memory_bytes", "Resident memory of what runs now.", keyed(memory), "handler")
    yield gauge("tasks_cpu_cores", "Cores that what runs now has used of late.", keyed(cores), "handler")
    yield gauge("beat_age_seconds_max", "The longest that a run shows no new beat.", keyed(ages), "handler")


def _cores(usage: RunUsage, before: RunUsage | None, began_s: float) -> float:
    """Since the scrape before, or since the run began."""
    cpu_s, at_s = (0.0, began_s) if before is None or before.cpu_s > usage.cpu_s else (before.cpu_s, before.at_s)
    return (usage.cpu_s - cpu_s) / (usage.at_s - at_s) if usage.at_s > at_s else 0.0


def _of_store(meters: Meters, now: Now) -> Iterable[Metric]:
    claims = keyed(meters.claims) | {("late",): float(now.late_claims)}
    yield counter("claims", "Claims by how they ended; late: of tasks that their assignee missed.", claims, "outcome")
    left_s = now.summary.lease_left_s
    yield one("lease_ttl_seconds", "How long a lease is.", now.lease_ttl_s)
    yield one("lease_remaining_seconds", "How long the lease surely lasts; 0: there is none.", max(0.0, left_s or 0.0))
    yield plain_histogram("lease_renewal_seconds", "From the sending of a renewal to its answer.", meters.renewals_s)
    requests: Values = {key: float(count) for key, count in meters.requests.items()}
    yield counter("etcd_requests", "What the node asked of etcd, by how it ended.", requests, "kind", "outcome")
    if meters.is_etcd_up is not None:
        yield one("etcd_up", "Whether etcd answered what was asked last.", meters.is_etcd_up)


def _of_output(output: OutputCounts) -> Iterable[Metric]:
    lines = "Lines of tasks that the node's own log has left out."
    yield counter("output_lines_dropped", lines, {(): float(output.lines_dropped)})
    yield one("log_bytes", "What the logs of all runs have.", output.size)
    yield one("log_waiting_bytes", "What tasks have printed and the disk has not taken yet.", output.waiting)
    yield counter("log_written_bytes", "What was written to the logs of runs.", {(): float(output.written)})
    dropped = "What tasks have printed and their logs miss: the disk was late or refused it."
    yield counter("log_dropped_bytes", dropped, {(): float(output.dropped)})
    yield counter("log_failures", "Times that the disk refused to keep a log.", {(): float(output.failures)})


def lag(seconds: float) -> Metric:
    """How long the loop took to answer whoever asks for these metrics."""
    return one("loop_lag_seconds", "How long the event loop took to answer the scrape.", seconds)


__all__ = ["Now", "RunNow", "encode", "families", "lag"]
