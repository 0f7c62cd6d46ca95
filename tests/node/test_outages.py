"""etcd that goes away, loses members, is restored, emptied or full, and nodes that are cut off from it: what becomes of
the nodes and their tasks. On real etcd and real nodes; each task writes down when it lived (`node_handlers:record`)."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from etcd_server import EtcdServer, encoded
from node import Node, Site, is_alive, until
from outage_story import LONG_TTL_S, SHORT_TTL_S, S, Story
from tcp_proxy import Link, Proxies

from mpfora.errors import MpforaError
from mpfora.linux.syscalls import boot_ns


@pytest.fixture
def story(own_etcd: EtcdServer, namespace: str, tmp_path: Path) -> Iterator[Story]:
    """On an etcd of its own, of one member."""
    with Site(own_etcd, namespace) as site:
        yield Story(site, tmp_path)


@pytest.fixture
def proxies() -> Iterator[Proxies]:
    proxies = Proxies()
    yield proxies
    proxies.close()


def cut_off_node(story: Story, proxies: Proxies, **options: Any) -> tuple[Node, Link]:
    """A node whose way to etcd can be cut."""
    link = Link(story.site.etcd.port)
    return story.start(endpoints=f"127.0.0.1:{proxies.listen_for(link)}", **options), link


# -- etcd as a whole --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("away_s", [5.0, pytest.param(60.0, marks=pytest.mark.long)])
def test_etcd_gone_for_long_and_back(story: Story, away_s: float) -> None:
    """Tasks are dead in time, the node waits, and goes on by itself."""
    node = story.start()
    story.submit("t")
    first = story.run()
    story.site.etcd.kill()
    killed = boot_ns()
    node.log.wait("no word from the store for long: asking every task to stop and save")
    until(lambda: not is_alive(first.pid), "the task is dead")
    assert story.runs("t")[-1].lived < killed + (SHORT_TTL_S - 0.5) * S, "dead half a margin before the lease's end"
    until(lambda: boot_ns() > killed + away_s * S, "it stays away", away_s + 5)
    story.site.etcd.start()
    second = story.run(after=first)
    assert second.count > 0, "it goes on from its checkpoint"
    story.finish("t")
    assert node.stop() == 0


def test_a_node_that_lets_tasks_run_on_keeps_them_through_the_same(story: Story) -> None:
    node = story.start(on_etcd_loss="run")
    story.submit("t")
    first = story.run()
    story.site.etcd.kill()
    story.lives_on(first, SHORT_TTL_S + 2)
    story.site.etcd.start()
    story.finish("t")
    assert len(story.runs("t")) == 1, "one run from beginning to end"
    assert node.log.find("tasks run on, and may overlap")
    assert node.stop() == 0


def test_a_running_task_whose_lease_ran_out_is_claimed_again_in_its_process(story: Story, proxies: Proxies) -> None:
    node, link = cut_off_node(story, proxies, on_etcd_loss="run")
    story.submit("t")
    first = story.run()
    link.cut()
    story.site.wait_owner("t", None)
    story.lives_on(first, 1)
    link.mend()
    node.log.wait("claimed again; its process has gone on")
    story.site.wait_owner("t", "n1")
    story.lives_on(first, 0.5)
    story.finish("t")
    assert len(story.runs("t")) == 1
    assert node.stop() == 0


def test_a_running_task_that_another_node_has_claimed_meanwhile_is_killed(story: Story, proxies: Proxies) -> None:
    node, link = cut_off_node(story, proxies, on_etcd_loss="run")
    story.submit("t")
    first = story.run()
    story.start("n2")
    link.cut()
    second = story.run(after=first)
    assert is_alive(first.pid), "they overlap, as was asked for"
    link.mend()
    until(lambda: not is_alive(first.pid), "the first is killed")
    story.lives_on(second, 0.5)
    node.log.wait("the claim is lost")
    story.finish("t", overlap=True)


def test_a_backup_of_earlier_data_is_refused_and_the_node_says_so(story: Story, tmp_path: Path) -> None:
    etcd, data = story.site.etcd, story.site.etcd.folder / "data"
    etcd.kill()
    shutil.copytree(data, tmp_path / "backup")
    etcd.start()
    node = story.start()
    story.submit("t")
    first = story.run()
    for number in range(50):
        etcd.put(f"/other/{number}", "")
    story.submit("seen")
    story.run("seen")
    etcd.kill()
    shutil.rmtree(data)
    (tmp_path / "backup").rename(data)
    etcd.start()
    etcd.put(story.site.layout.task("other"), "")
    assert node.exit_code() == 6
    node.log.wait("the store's history went back from revision \\d+ to \\d+: its data were restored from a backup")
    assert node.log.find("mpfora: the store's history went back")
    assert not is_alive(first.pid)
    assert story.runs("other") == []


def test_a_namespace_that_is_deleted_under_a_running_node(story: Story) -> None:
    """What was claimed is killed; the node is a member again, and works."""
    node = story.start()
    story.submit("t", "u")
    first, other = story.run("t"), story.run("u")
    root = story.site.layout.root
    body = {"key": encoded(root.encode()), "range_end": encoded((root[:-1] + "0").encode())}
    story.site.etcd.post("kv/deleterange", body)
    until(lambda: not is_alive(first.pid) and not is_alive(other.pid), "both are killed")
    story.submit("t", "new")
    story.run("new")
    assert story.run("t", after=first).fence > first.fence
    assert story.site.get(story.site.layout.member("n1")) is not None
    story.finish("t", "new")
    assert node.stop() == 0


@pytest.mark.timeout(180)
def test_an_etcd_that_is_full_loses_nothing_and_is_named(tmp_path: Path, namespace: str) -> None:
    """The end of a run cannot be written: it is kept until it can."""
    etcd = EtcdServer(tmp_path, ["--quota-backend-bytes", str(2 * 1024 * 1024), "--auto-compaction-retention", "0"])
    try:
        with Site(etcd, namespace) as site:
            story = Story(site, tmp_path)
            node = story.start(ttl_s=LONG_TTL_S)
            story.submit("t")
            first = story.run()
            _fill(etcd)
            story.end()
            node.log.wait("not written yet, trying again: .*(quota is used up|database space exceeded)")
            until(lambda: not is_alive(first.pid), "the run has ended")
            assert site.owner("t") == "n1", "and its claim is kept"
            assert [task.node for task in site.client.tasks()] == ["n1"], "one can still look"
            assert site.client.task("t").node == "n1"
            with pytest.raises(MpforaError, match=r"is full, and takes no new values: remove tasks .*compact, defrag"):
                site.client.submit("u")
            _make_room(etcd)
            state = site.wait_end("t")
            assert (state.state, state.errors, len(story.runs("t"))) == ("completed", (), 1)
            assert node.stop() == 0
    finally:
        etcd.kill()


def _fill(etcd: EtcdServer) -> None:
    """Until no write is taken."""
    for _ in range(20):
        _put_ballast(etcd)
    with pytest.raises(AssertionError, match="database space exceeded"):
        etcd.put("/ballast", os.urandom(200_000))


def _put_ballast(etcd: EtcdServer) -> None:
    with suppress(AssertionError):
        etcd.put("/ballast", os.urandom(200_000))


def _make_room(etcd: EtcdServer) -> None:
    answer = etcd.post("kv/range", {"key": encoded(b"-")})
    etcd.compact(int(answer["header"]["revision"]))
    etcd.post("maintenance/defragment", {})
    alarms = etcd.post("maintenance/alarm", {"action": "GET"})["alarms"]
    for alarm in alarms:
        etcd.post("maintenance/alarm", {"action": "DEACTIVATE", "memberID": alarm["memberID"], "alarm": alarm["alarm"]})


# -- a node -----------------------------------------------------------------------------------------------------------


def test_a_compaction_while_the_watch_is_down(story: Story, proxies: Proxies) -> None:
    """What came meanwhile is found, what is gone is known, and what runs is not disturbed."""
    node, link = cut_off_node(story, proxies, ttl_s=LONG_TTL_S)
    story.submit("t", "gone")
    first, gone = story.run("t"), story.run("gone")
    link.cut()
    node.log.wait("the watch broke")
    story.submit("new")
    story.site.client.delete("gone", wait=False)
    answer = story.site.etcd.post("kv/range", {"key": encoded(b"-")})
    story.site.etcd.compact(int(answer["header"]["revision"]))
    link.mend()
    node.log.wait("changes were missed, reading everything again")
    story.run("new")
    until(lambda: not is_alive(gone.pid), "the deleted one is killed")
    story.lives_on(first, 0.3)
    story.finish("t", "new")
    assert len(story.runs("t")) == 1
    assert node.stop() == 0


def test_a_node_whose_name_was_taken_while_it_was_stopped(story: Story) -> None:
    """Its children were dead before; it does not come back while the other lives, and says why."""
    node = story.start()
    story.submit("t")
    first = story.run()
    node.send(signal.SIGSTOP)
    story.site.wait_owner("t", None)
    assert not is_alive(first.pid)
    namesake = story.start("n1")
    second = story.run(after=first)
    node.send(signal.SIGCONT)
    node.log.wait(
        f"the name 'n1' is taken by a node on host .* with pid {namesake.pid}: cannot join again while it lives"
    )
    story.lives_on(second, 1)
    assert namesake.stop() == 0
    third = story.run(after=second)
    node.wait_joined(len(node.log.lines) and 0)
    assert third.fence > second.fence > first.fence
    story.finish("t")
    assert node.stop() == 0


@pytest.mark.parametrize("how", ["cut", "no answers"])
def test_a_node_that_is_cut_off_has_no_process_left_when_etcd_lets_go(story: Story, proxies: Proxies, how: str) -> None:
    node, link = cut_off_node(story, proxies)
    story.submit("t")
    first = story.run()
    if how == "cut":
        link.cut()
    else:
        link.stall("down")
    key = story.site.layout.owner("t")
    until(lambda: story.site.get(key) is None, "etcd lets go")
    let_go = boot_ns()
    assert not is_alive(first.pid)
    assert story.runs("t")[-1].lived < let_go - 0.5 * S, "half a margin before"
    link.mend()
    story.run(after=first)
    story.finish("t")
    assert node.stop() == 0


def test_a_supervisor_that_hangs_in_a_loop_loses_its_tasks_in_time(story: Story) -> None:
    """Its zygote keeps the deadline; another node runs the task; and it can still be ended by a signal that is none of
    Python's."""
    node = story.start(balancer="hanging_balancer:Hanging")
    story.submit("t")
    first = story.run()
    story.submit("hang")
    story.site.wait_owner("t", None)
    assert not is_alive(first.pid)
    assert story.runs("t")[-1].lived < boot_ns() - 0.5 * S
    story.start("n2")
    story.run(after=first)
    story.finish("t", "hang")
    node.process.kill()
    node.wait_empty()
