"""How tasks are run on real nodes: by the settings in their props, by their kinds of errors."""

from __future__ import annotations

import json
import signal
import time

import pytest
from etcd_server import EtcdServer, encoded
from node import Site, until

from mpfora import Message
from mpfora.errors import UnreadableState
from mpfora.model.units import format_time
from mpfora.store.history_records import parse_history


def submit_unseen(site: Site, task_id: str, props: str) -> None:
    """As a Go client does, which does not look at what it submits."""
    keys = ((site.layout.task(task_id), ""), (site.layout.props(task_id), props))
    puts = [{"requestPut": {"key": encoded(key.encode()), "value": encoded(text.encode())}} for key, text in keys]
    site.etcd.post("kv/txn", {"success": puts})


def test_settings_in_props_on_a_real_node(etcd: EtcdServer, namespace: str) -> None:
    with Site(etcd, namespace) as site:
        node = site.start("zoo:sleep", "node_handlers:fail", "zoo:result", max_tasks=0)
        tomorrow = time.time() + 86_400
        submit_unseen(site, "bad", '{"handler":"zoo:result","stop_timeout":"soon","retry":{"max_errors":1}}')
        site.submit("later", "zoo:result", not_before=format_time(tomorrow))
        site.submit("final", "node_handlers:fail", retry={"fail_on": ["LookupError", "ArithmeticError", "ValueError"]})
        site.submit("hung", "zoo:sleep", stall_timeout="300ms", retry={"budgets": {"stalled": 1}})

        bad = site.wait_state("bad", lambda state: state.errors)
        assert bad.errors[0].text.startswith("props.stop_timeout: 'soon' is not a duration")
        assert bad.cause == "start_failed"
        later = site.client.task("later")
        assert (later.state, later.until, later.node) == ("sleeping", round(tomorrow, 6), None)
        assert "is in fail_on" in site.wait_end("final").errors[-1].text
        assert "1 stalled error within 4h" in site.wait_end("hung").errors[-1].text
        node.wait_idle()
        assert node.stop() == 0


def test_sleepers_are_nobody_s_and_a_full_node_wakes_them_for_others(etcd: EtcdServer, namespace: str) -> None:
    with Site(etcd, namespace) as site:
        node = site.start("zoo:sleep", "zoo:result", max_tasks=1)
        site.submit("busy", "zoo:sleep", seconds=3600)
        node.child("busy")
        tomorrow, soon = format_time(time.time() + 86_400), format_time(time.time() + 1.0)
        site.client.submit_many((f"s{n}", {"handler": "zoo:result", "not_before": tomorrow}) for n in range(100))
        site.submit("due", "zoo:result", not_before=soon)
        until(lambda: len(site.client.tasks("sleeping")) == 100, "they sleep")
        until(lambda: site.client.task("due").state == "pending", "its time has come, and nobody has room")
        assert (site.client.task("due").reason or "").endswith(
            "no node that could take it has room: n1 is full (1 of 1);"
            " it waits for room: --max-tasks says how much a node has"
        )
        assert {row.node for row in site.client.tasks("sleeping")} == {None}
        site.client.command_and_wait("busy", Message.kill())
        assert site.wait_end("due").state == "completed"
        assert node.stop() == 0


def test_a_task_that_kills_its_zygote_again_and_again_fails_and_the_others_go_on(
    etcd: EtcdServer, namespace: str
) -> None:
    with Site(etcd, namespace) as site:
        node = site.start("zoo:sleep", "zoo:kill_parent", max_tasks=0)
        site.submit("innocent", "zoo:sleep", seconds=3600)
        node.child("innocent")
        site.submit("poison", "zoo:kill_parent", signal=9)
        state = site.wait_end("poison", limit_s=90)
        assert (state.state, state.cause) == ("failed", "zygote_lost")
        assert [error.text.partition(",")[0] for error in state.errors[:-1]] == ["it took down the zygote of n1"] * 3
        assert state.errors[-1].text.startswith("poison: ")
        node.child("innocent")
        innocent = site.kept("innocent")
        assert (innocent.state, innocent.errors) == ("runnable", ())
        assert node.stop() == 0


def test_each_run_is_in_the_history_also_one_that_was_lost_with_its_node(etcd: EtcdServer, namespace: str) -> None:
    with Site(etcd, namespace) as site:
        first = site.start("zoo:sleep", "zoo:fail_times", name="n1")
        site.submit("failing", "zoo:fail_times", times=1, retry={"delay": "50ms"})
        assert site.wait_end("failing").result == 2
        one, two = parse_history(site.get(site.layout.history("failing")) or "")
        assert (one.node, one.attempt, one.cause, one.error) == ("n1", 1, "raised", "RuntimeError: attempt 1")
        assert (two.attempt, two.cause, two.error, two.fence) == (2, "completed", "", one.fence)
        assert two.max_rss > 1_000_000
        assert one.started is not None
        assert two.ended is not None
        assert one.started < two.ended
        assert [run.cause for run in site.client.task("failing").history or ()] == ["raised", "completed"]

        site.submit("moved", "zoo:sleep")
        first.child("moved")
        lost = site.fence("moved")
        second = site.start("zoo:sleep", name="n2")
        first.send(signal.SIGKILL)
        second.child("moved")
        site.client.command_and_wait("moved", Message.pause())
        assert [(run.node, run.attempt, run.cause) for run in site.client.task("moved").history or ()] == [
            ("n1", 1, "node_lost"),
            ("n2", 2, "released"),
        ]
        assert next(run.fence for run in site.client.task("moved").history or ()) == lost
        site.client.delete("moved")
        assert site.get(site.layout.history("moved")) is None
        first.wait_empty()
        assert second.stop() == 0


def test_a_state_that_cannot_be_read_is_held_and_said_and_run_when_it_is_mended(
    etcd: EtcdServer, namespace: str
) -> None:
    with Site(etcd, namespace) as site:
        site.put(site.layout.state("t"), "{broken")
        site.put(site.layout.task("t"), "")
        node = site.start("zoo:result", max_tasks=1)
        site.wait_owner("t", "n1")
        until(lambda: "cannot be read" in (site.client.task("t").reason or ""), "the reason is seen")
        reason = site.client.task("t").reason or ""
        assert reason.startswith("its state cannot be read: " + (site.client.task("t").note or ""))
        where = f"/{namespace}/state/t in etcd"
        assert reason.endswith(f"; mend what stands at {where}, or delete the task (mpfora delete t)")
        node.wait_idle()
        for message in (Message.kill(), Message.pause(), Message.complete(7)):
            site.tell_task("t", message)  # as a Go client does, which looks at nothing
            site.wait_taken(site.layout.commands("t"))
            node.log.wait(f"command '{message.verb}' dropped: its state cannot be read")
            with pytest.raises(UnreadableState, match=f"{message.verb} would write over it: mend what stands at"):
                site.client.command("t", message)
        assert (site.get(site.layout.state("t")), site.owner("t")) == ("{broken", "n1")
        site.submit("other")
        assert site.wait_end("other").state == "completed", "it takes no room"
        fence = site.fence("t")
        assert site.client.command_and_wait("t", Message.release()).state == "unreadable"
        until(lambda: site.fence("t") > fence, "it is claimed again, by whoever is there")
        assert site.get(site.layout.state("t")) == "{broken"
        site.put(site.layout.state("t"), '{"state":"runnable"}')
        assert site.wait_end("t").state == "completed"
        assert node.stop() == 0


def test_a_handler_that_saves_without_end_writes_little_and_its_last_save_lands(
    etcd: EtcdServer, namespace: str
) -> None:
    with Site(etcd, namespace) as site:
        node = site.start("zoo:flood_saves", stop_timeout=0.5, save_every="500ms")
        key = site.layout.checkpoint("t")
        site.submit("t", saves=10**9, bytes=10)

        def version() -> int:
            found = etcd.post("kv/range", {"key": encoded(key.encode())}).get("kvs", [])
            return int(found[0]["version"]) if found else 0

        until(lambda: version() >= 4, "it is written again and again")
        before, at = json.loads(site.get(key) or "")["n"], site.kept("t")
        site.client.command_and_wait("t", Message.pause())
        last = json.loads(site.get(key) or "")["n"]
        assert last > before
        assert last > 20 * version(), "most saves are written together"
        assert (at.attempt, site.kept("t").cause) == (0, "stop_timeout")
        assert node.stop() == 0
