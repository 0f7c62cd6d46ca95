"""Real nodes as users see them: props that do not fit, programs, histories, ids that are used again, reasons."""

from __future__ import annotations

import pytest
from etcd_server import EtcdServer
from node import Site, until

from mpfora.errors import TaskExists


def test_props_programs_histories_and_ids_that_are_used_again(etcd: EtcdServer, namespace: str) -> None:
    with Site(etcd, namespace) as site:
        node = site.start("node_specs:declared", "run=mpfora.koalemos:run", max_tasks=0)
        client = site.client
        client.submit("fits", {"below": 3.0, "labels": None}, "node_specs:declared")
        client.submit("misfit", {"below": "3", "layer": []}, "node_specs:declared")
        client.submit("program", {"args": ["sh", "-c", "echo hello; exit 4"], "fail_codes": [4]}, "run")
        client.submit("again", {"args": ["sh", "-c", "exit 1"], "retry": {"max_errors": 2, "delay": "50ms"}}, "run")
        fits, misfit, program, again = client.wait(["fits", "misfit", "program", "again"], timeout=60)

        assert fits.result == {"below": 3, "layers": [], "attempt": 1}
        assert (misfit.state, misfit.attempt, misfit.cause) == ("failed", 1, "start_failed")
        assert 'props.below: a whole number is needed, not "3"' in misfit.errors[0].text
        assert "props.layer: there is no such field; is 'layers' meant?" in misfit.errors[0].text
        assert misfit.errors[-1].text.startswith("not tried again: its props are not what its handler needs")
        assert (program.state, program.attempt) == ("failed", 1)
        assert "hello" in program.errors[0].text
        assert program.errors[-1].text == "not tried again: its exit code is one of its fail_codes"
        assert (again.state, again.attempt) == ("failed", 2)

        history = client.history("again")
        assert [(run.attempt, run.node, run.cause) for run in history] == [(1, "n1", "raised"), (2, "n1", "raised")]
        assert all(run.started and run.ended and run.started <= run.ended for run in history)
        assert 0 < history[0].fence <= history[1].fence
        assert client.history("fits")[0].cause == "completed"

        with pytest.raises(TaskExists, match="replace it"):
            client.submit("again", {"args": ["true"]}, "run")
        client.submit("again", {"args": ["true"]}, "run", replace=True)
        renewed = client.wait("again", timeout=60)
        assert (renewed.state, renewed.attempt, renewed.errors) == ("completed", 1, ())
        assert [run.attempt for run in client.history("again")] == [1]

        assert sorted(client.purge(state="failed").removed) == ["misfit", "program"]
        assert sorted(client.purge().removed) == ["again", "fits"]
        node.wait_idle()
        assert [key for key in site.content() if key.startswith(("state/", "history/", "checkpoints/", "tasks/"))] == [
            "tasks/_metafora"
        ]
        assert node.stop() == 0


def test_a_finished_id_that_a_go_client_submits_again_is_removed_and_not_run(etcd: EtcdServer, namespace: str) -> None:
    """As Metafora's state machine does: the kept state says that the task has finished."""
    with Site(etcd, namespace) as site:
        node = site.start("node_specs:declared")
        site.client.submit("t1", {"below": 1})
        first = site.client.wait("t1", timeout=60)
        until(lambda: "tasks/t1" not in site.content(), "the finished task's key is gone")
        kept = site.content()["state/t1"]
        site.put(site.layout.props("t1"), '{"below":2}')
        site.put(site.layout.task("t1"), "")
        until(lambda: "tasks/t1" not in site.content(), "the node has removed it")
        assert site.content()["state/t1"] == kept
        assert site.client.task("t1").result == first.result
        assert site.client.task("t1").attempt == 1
        assert node.stop() == 0


def test_props_may_be_put_before_their_task(etcd: EtcdServer, namespace: str) -> None:
    """By hand, or by a client that writes one after the other: the node has seen the props when the task comes."""
    with Site(etcd, namespace) as site:
        node = site.start("node_specs:declared", "zoo:sleep")
        site.put(site.layout.props("t1"), '{"handler":"node_specs:declared","below":1}')
        site.client.submit("t0", {"below": 0}, "node_specs:declared")
        assert site.client.wait("t0", timeout=60).completed
        site.put(site.layout.task("t1"), "")
        assert site.client.wait("t1", timeout=60).completed
        assert node.stop() == 0


def test_a_pending_task_says_why_and_runs_when_that_is_mended(etcd: EtcdServer, namespace: str) -> None:
    with Site(etcd, namespace) as site:
        client = site.client
        client.submit("t1", {"below": 1, "labels": {"gpu": "yes"}}, "node_specs:declared")
        assert client.task("t1").reason == (
            "no node is live in this namespace: start one, or look at --namespace and --etcd"
        )
        other = site.start("zoo:sleep", name="n1")
        assert client.task("t1").reason == (
            "no live node has its handler 'node_specs:declared': there are zoo:sleep (n1);"
            " start a node with it, or submit the task under another name"
        )
        plain = site.start("node_specs:declared", name="n2")
        assert client.task("t1").reason == (
            "no live node with its handler has its labels gpu=yes: n2 has no gpu;"
            " start one with --label, or submit it without"
        )
        frozen = site.start("node_specs:declared", name="n3", label="gpu=yes", max_tasks=1)
        assert client.wait("t1", timeout=60).completed
        client.node_command_and_wait("n3", "freeze")
        until(lambda: any(node.frozen for node in client.nodes()), "the node's record says that it is frozen")
        client.submit("t2", {"below": 1, "labels": {"gpu": "yes"}}, "node_specs:declared")
        assert client.task("t2").reason == "no node that could take it has room: n3 is frozen (mpfora node n3 unfreeze)"
        client.node_command_and_wait("n3", "unfreeze")
        assert client.wait("t2", timeout=60).completed
        assert [node.stop() for node in (other, plain, frozen)] == [0, 0, 0]
