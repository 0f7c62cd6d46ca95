"""Two watch over the lease's end: when the zygote does not, the supervisor kills it, and its children with it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from core_story import Story
from etcd_server import EtcdServer
from node import Site, is_alive, until
from outage_story import S
from outage_story import Story as Outage
from tcp_proxy import Link, Proxies
from zygote_harness import node

from mpfora.cluster.changes import OwnerGone
from mpfora.linux.syscalls import boot_ns
from mpfora.model.outcome import Cause
from mpfora.supervisor import actions as do
from mpfora.supervisor import events as ev


def test_the_zygote_is_probed_when_everything_must_be_dead() -> None:
    story = Story()
    story.renews = False
    story.hold()
    story.wait(13.99)
    assert story.probes == []
    story.wait(0.01)
    assert story.probes == [0.5], "half of the margin"
    story.wait(30.0)
    assert story.probes == [0.5], "once"


def test_one_that_is_starting_then_is_left_alone() -> None:
    """It has no children, and importing the handlers may take longer than the probe waits."""
    story = Story()
    story.renews = False
    story.tell(ev.ZygoteLost("it died"))
    assert do.StartZygote() in story.wait(14.5)
    assert story.probes == []


def test_it_is_probed_when_the_lease_is_gone_under_its_children() -> None:
    story = Story()
    story.hold()
    story.tell(ev.LeaseGone())
    assert story.probes == [0.5], "half of the grace that others wait"
    story = Story()
    story.hold()
    story.put(OwnerGone("t", clean=False))
    assert story.probes == [0.5], "one claim alone, too"
    idle = Story()
    idle.tell(ev.LeaseGone())
    assert idle.probes == []


def test_it_is_not_probed_where_tasks_run_on() -> None:
    story = Story(joined=False, on_etcd_loss="run")
    story.start_zygote()
    story.open_session()
    story.renews = False
    story.wait(60.0)
    story.tell(ev.LeaseGone())
    assert story.probes == []


async def test_a_stopped_zygote_is_killed_by_a_probe_and_a_live_one_is_not() -> None:
    async with node("sleep ok") as n:
        run = await n.fork_to("sleeping", "sleep")
        child, began = await n.child_pid(run), time.monotonic()
        n.zygote.probe(0.3)
        await n.run("ok")
        while time.monotonic() < began + 0.6:
            await n.run("ok")
        assert is_alive(child)
        os.kill(n.pid, signal.SIGSTOP)
        n.zygote.probe(0.3)
        assert (await n.outcome(run)).cause is Cause.ZYGOTE_LOST
        assert "no sign of life within 0.3 s" in (await n.lost()).reason
        assert not is_alive(child)


def test_a_stopped_zygote_of_a_node_that_is_cut_off_leaves_no_process_to_the_lease_s_end(
    etcd: EtcdServer, namespace: str, tmp_path: Path
) -> None:
    """Cut off 0.5 s after its zygote was stopped: the supervisor's patience with a silent zygote is longer than the
    lease."""
    proxies, link = Proxies(), Link(etcd.port)
    try:
        with Site(etcd, namespace) as site:
            story = Outage(site, tmp_path, f"127.0.0.1:{proxies.listen_for(link)}")
            one = story.start()
            story.submit("t")
            first = story.run()
            link.cut()
            one.log.wait("no word from the store for long")
            os.kill(one.zygote, signal.SIGSTOP)
            key = site.layout.owner("t")
            until(lambda: site.get(key) is None, "etcd lets go")
            let_go = boot_ns()
            assert not is_alive(first.pid)
            assert one.log.find("zygote lost: it gave no sign of life within 0.5 s")
            assert story.runs("t")[-1].lived < let_go - 0.25 * S, "half a margin before, less what killing may take"
            link.mend()
            story.run(after=first)
            story.finish("t")
            assert one.stop() == 0
    finally:
        proxies.close()
