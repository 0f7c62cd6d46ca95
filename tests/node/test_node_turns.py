"""A real node amid much that is kept: its loop goes on turning, and people can see that it does."""

from __future__ import annotations

import json
import re
from pathlib import Path

from etcd_server import EtcdServer
from node import Site, command, until

RESULTS, RESULT_BYTES = 60, 1_000_000


def test_a_node_reads_tens_of_megabytes_of_kept_results_and_no_turn_of_its_loop_is_long(
    own_etcd: EtcdServer, namespace: str
) -> None:
    """The watchdog's threshold is the bound: half of the margin of a lease of 20 s."""
    with Site(own_etcd, namespace) as site:
        state = json.dumps({"state": "completed", "result": "x" * RESULT_BYTES})
        for number in range(RESULTS):
            own_etcd.put(site.layout.state(f"r{number}"), state)
        argv = command("zoo:sleep", etcd=own_etcd.endpoint, namespace=namespace, name="n1", lease_ttl=20)
        node = site.run(argv)
        node.wait_joined()
        site.submit("t", seconds=3600)
        node.child("t")
        counts = site.client.nodes(counts=True)[0].counts
        assert counts is not None
        assert counts["longest_turn_ms"] > 0
        node.send(15)
        assert node.exit_code() == 0
        said = node.log.wait(r"the longest of (\d+) turns of the loop took (\d+) ms")
        assert int(said[1]) >= RESULTS * RESULT_BYTES // 8_388_608, "the listing alone is of so many pages"
        assert not node.log.find("a turn of the node's loop took"), node.log.text()


def test_an_etcd_that_is_away_leaves_a_few_lines_and_one_with_how_long_it_was(
    own_etcd: EtcdServer, namespace: str, tmp_path: Path
) -> None:
    with Site(own_etcd, namespace) as site:
        argv = command("zoo:sleep", etcd=own_etcd.endpoint, namespace=namespace, name="n1", lease_ttl=3)
        node = site.run(argv)
        node.wait_joined()
        own_etcd.kill()
        node.log.wait("the lease could not be renewed")
        node.log.wait("it ended .* ago by this node's clock")
        lines = list(node.log.lines)
        own_etcd.start()
        node.log.wait("(the lease is renewed again|the store answers again|could join again), after")
        node.log.wait("(the watch goes on|the namespace can be read again), after")
        assert len([line for line in lines if re.search("renew|watch broke|read the namespace", line)]) <= 6, "\n".join(
            lines
        )
        until(lambda: not node.log.find("ends in -"), "no time is negative")
