"""One of three members of etcd dies, freezes or is cut off from the others: no task is disturbed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from etcd_cluster import EtcdCluster
from etcd_server import EtcdServer
from node import LIMIT_S, Site, until
from outage_story import LONG_TTL_S, Story

from mpfora.errors import MpforaError

pytestmark = pytest.mark.keeps_processes("one cluster serves all tests, and a member that was killed is started again")


class Patient(EtcdServer):
    """A member that is asked again while there is no leader."""

    def __init__(self, member: EtcdServer) -> None:
        self.port, self.token = member.port, ""

    def post(self, path: str, body: dict[str, Any], token: str = "") -> dict[str, Any]:
        ends = time.monotonic() + LIMIT_S
        while True:
            try:
                return super().post(path, body, token)
            except AssertionError as error:
                if '"code":14' not in str(error) or time.monotonic() > ends:
                    raise
                time.sleep(0.1)


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    cluster = EtcdCluster(tmp_path_factory.mktemp("cluster"))
    yield cluster
    cluster.close()


@pytest.fixture
def cluster(members: EtcdCluster) -> Iterator[EtcdCluster]:
    """Well at the beginning; whatever a test does to it is healed."""
    yield members
    for member in members.members:
        members.mend(member)
        if member.pid is None:
            member.launch()
        else:
            member.thaw()
    for member in members.members:
        member.wait_healthy()


Harm = Callable[[EtcdCluster, EtcdServer], None]
HARMS: dict[str, Harm] = {
    "killed": lambda cluster, member: member.kill(),
    "frozen": lambda cluster, member: member.freeze(),
    "cut off": lambda cluster, member: cluster.cut_off(member),
}


@pytest.mark.parametrize("which", ["leader", "follower"])
@pytest.mark.parametrize("harm", HARMS)
def test_one_of_three_members_is_no_matter(
    cluster: EtcdCluster, namespace: str, tmp_path: Path, harm: str, which: str
) -> None:
    """No task is disturbed, and the node claims and finishes tasks by the others.

    But for one case: a leader that was cut off may, in etcd before 3.5.13, revoke a lease that lives; the task then
    runs again, after the end of its first run."""
    leader = cluster.leader()
    assert leader is not None
    member = leader if which == "leader" else next(one for one in cluster.members if one is not leader)
    rest = next(one for one in cluster.members if one is not member)
    # the ill one comes first: it is the one that the node talks to
    endpoints = ",".join(one.endpoint for one in sorted(cluster.members, key=lambda one: one is not member))
    with Site(Patient(rest), namespace) as site:
        story = Story(site, tmp_path, endpoints)
        node = story.start(ttl_s=LONG_TTL_S)
        story.submit("t")
        first = story.run()
        HARMS[harm](cluster, member)
        until(lambda: _submits(story, "u"), "the others take writes")
        story.run("u")
        story.finish("t", "u")
        if (harm, which) != ("cut off", "leader"):
            assert len(story.runs("t")) == 1, "undisturbed"
            assert story.runs("t")[0].pid == first.pid
        assert node.stop() == 0


def _submits(story: Story, task_id: str) -> bool:
    """While a leader is elected there may be an error that leaves open what has happened."""
    try:
        if story.site.get(story.site.layout.task(task_id)) is None:
            story.submit(task_id)
    except (AssertionError, OSError, MpforaError):
        return False
    return True
