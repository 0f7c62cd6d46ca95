"""What a node counts for its metrics, by the events and actions that pass through its loop."""

from __future__ import annotations

import pytest

from mpfora.cluster.changes import Changes, OwnerPut, TaskPut
from mpfora.ipc.slots import Beat
from mpfora.model.outcome import Cause, Outcome
from mpfora.model.run_spec import RunLimits, RunSpec
from mpfora.model.task import Usage
from mpfora.supervisor import actions as do
from mpfora.supervisor import events as ev
from mpfora.supervisor.node.meters import Histogram, Meters
from mpfora.supervisor.node.summary import NodeSummary
from mpfora.supervisor.output.node_output import OutputCounts
from mpfora.supervisor.zygote.runs import RunUsage

pytest.importorskip("prometheus_client", reason="prometheus-client (mpfora[metrics]) is not installed")


def fork(run: int, task_id: str, handler: str = "train") -> do.Fork:
    return do.Fork(run, RunSpec(task_id, handler, "", 1, 1, None, RunLimits(10.0)))


def ended(run: int, cause: Cause, cpu_s: float = 2.0, rss: int = 1 << 30) -> ev.ChildExited:
    return ev.ChildExited(run, Outcome(cause, usage=Usage(cpu_s, rss)))


def lived() -> Meters:
    """A node that ran three tasks, of which one is still there."""
    meters = Meters("n1")
    meters.saw(ev.ZygoteReady(1, ()), [], 1.0)
    meters.saw(ev.ClusterChanged(Changes(5, (TaskPut("a"), TaskPut("b"), TaskPut("c")))), [], 10.0)
    meters.saw(ev.ClusterChanged(Changes(6, (OwnerPut("a", "n1", 6), OwnerPut("c", "n2", 6)))), [], 11.0)
    meters.saw(ev.Tick(), [fork(1, "a"), fork(2, "b", "load"), fork(3, "d")], 12.0)
    meters.saw(ev.ChildSaved(1, "1"), [], 20.0)
    meters.saw(ev.Tick(), [do.Kill(2, Cause.STALLED, True), do.Kill(2, Cause.STALLED, False)], 70.0)
    meters.saw(ended(2, Cause.STALLED), [], 70.3)
    meters.saw(ended(1, Cause.COMPLETED), [], 112.0)
    meters.saw(ended(99, Cause.COMPLETED), [], 113.0)  # a fork on trial
    meters.saw(ev.Renewed(120.0, 15.0), [], 120.02)
    meters.saw(ev.WriteAnswered("a", 6, ev.WriteResult.DONE), [], 121.0)
    meters.saw(ev.WriteAnswered("a", 6, ev.WriteResult.REFUSED), [], 121.0)
    return meters


def test_runs_are_counted_by_handler_and_cause() -> None:
    meters = lived()
    assert meters.started == {"train": 2, "load": 1}
    assert meters.ended == {("load", "stalled"): 1, ("train", "completed"): 1}
    assert meters.durations_s["train"].sum == 100.0
    assert meters.kills == {"stalled": 1}
    assert meters.kills_s.sum == pytest.approx(0.3)
    assert meters.checkpoints == {"train": 1}
    assert meters.cpu_s == {"load": 2.0, "train": 2.0}
    assert list(meters.runs) == [3]


def test_a_wait_ends_with_the_fork() -> None:
    meters = lived()
    assert meters.waits_s["train"].sum == 2.0  # of "a"; nobody knows since when "d" waited
    assert meters.waits_s["load"].sum == 2.0
    assert meters._waiting == {}  # "c" is another node's
    meters.saw(ev.ClusterChanged(Changes(7, (TaskPut("z"),), reset=True)), [], 200.0)
    assert meters._waiting == {}


def test_processor_time_never_goes_back() -> None:
    meters = lived()
    meters.used(3, 5.0)
    meters.used(3, 4.0)
    assert meters.cpu_s["train"] == 7.0
    meters.saw(ended(3, Cause.COMPLETED, cpu_s=6.0), [], 300.0)
    assert meters.cpu_s["train"] == 8.0


def test_what_etcd_does_is_told() -> None:
    meters = lived()
    assert meters.is_etcd_up is True
    assert meters.renewals_s.sum == pytest.approx(0.02)
    assert meters.requests == {("renew", "ok"): 1, ("write", "ok"): 1, ("write", "refused"): 1}
    meters.saw(ev.RenewFailed("no answer"), [], 130.0)
    assert meters.is_etcd_up is False
    meters.saw(ev.RenewFailed("it is full", refused=True), [], 131.0)
    assert meters.is_etcd_up is True  # it answers


def test_how_long_there_is_no_zygote() -> None:
    meters = lived()
    assert meters.no_zygote_since_s is None
    meters.saw(ev.ZygoteLost("it died"), [], 140.0)
    meters.saw(ev.ZygoteFailed("no import"), [], 150.0)
    assert meters.no_zygote_since_s == 140.0
    assert meters.zygote_restarts == {"lost": 1, "failed": 1}
    meters.saw(ev.ZygoteReady(2, ()), [], 160.0)
    assert (meters.no_zygote_since_s, meters.zygotes) == (None, 2)


def test_the_age_of_beats() -> None:
    meters = lived()
    assert meters.beat_age_s(3, 0, 20.0) == 8.0  # none since it began
    assert meters.beat_age_s(3, 5, 30.0) == 0.0
    assert meters.beat_age_s(3, 5, 42.0) == 12.0
    assert meters.beat_age_s(3, 6, 43.0) == 0.0
    assert meters.beat_age_s(77, 1, 43.0) == 0.0


def test_buckets_add_up() -> None:
    histogram = Histogram((1.0, 5.0))
    for value in (0.5, 1.0, 3.0, 99.0):
        histogram.observe(value)
    assert histogram.buckets() == [("1.0", 2.0), ("5.0", 3.0), ("+Inf", 4.0)]
    assert histogram.sum == 103.5


def scraped() -> str:
    """What a node tells, as Prometheus gets it."""
    from mpfora.supervisor.metrics import Now, RunNow, encode, families, lag

    meters = lived()
    meters.saw(ev.ZygoteLost("it died"), [], 140.0)
    summary = NodeSummary("joined", 12.0, True, True, 1, 1, 0, 0, 5, 2, 7, 4)
    runs = (RunNow(3, RunUsage(8.0, 1 << 28, 2, 20.0), Beat(3, 0.5, "")),)
    output = OutputCounts(written=5000, dropped=70, waiting=8, size=4000, lines_dropped=3, failures=1)
    now = Now(100.0, summary, {"runnable": 1}, runs, "fair", 2, 1, 0.02, 15.0, output)
    text, content_type = encode([lag(0.01), *families(meters, now, {})], "")
    assert content_type.startswith("text/plain")
    return text.decode()


def test_what_is_told() -> None:
    lines = scraped().splitlines()
    for line in (
        'mpfora_runs_ended_total{cause="stalled",handler="load"} 1.0',
        'mpfora_run_duration_seconds_bucket{handler="train",le="300.0"} 1.0',
        'mpfora_tasks_cpu_cores{handler="train"} 1.0',
        'mpfora_tasks_memory_bytes{handler="train"} 2.68435456e+08',
        'mpfora_claims_total{outcome="late"} 1.0',
        "mpfora_lease_remaining_seconds 12.0",
        "mpfora_lease_ttl_seconds 15.0",
        "mpfora_moves_total 2.0",
        "mpfora_node_ready 1.0",
        "mpfora_log_bytes 4000.0",
        "mpfora_log_dropped_bytes_total 70.0",
        "mpfora_log_written_bytes_total 5000.0",
        "mpfora_log_waiting_bytes 8.0",
        "mpfora_log_failures_total 1.0",
        "mpfora_output_lines_dropped_total 3.0",
    ):
        assert line in lines
