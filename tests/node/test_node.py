"""A node at work: handlers in all forms from submit to kept state, titles, logs, and what a child is given."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from functools import partial

from etcd_server import EtcdServer
from node import LIMIT_S, Site, command, environment, title, until
from places import SUPPORT

from mpfora.model.outcome import Cause
from mpfora.model.state import Message, State, TaskState


def handlers(*names: str) -> list[str]:
    return [f"{name}={'node_handlers' if name in OURS else 'zoo'}:{name}" for name in names]


OURS = {"descriptors", "tell", "tell_async", "TellClass", "fail", "record"}


# -- handlers ---------------------------------------------------------------------------------------------------------


def test_handlers_in_all_forms_from_submit_to_result(etcd: EtcdServer, namespace: str) -> None:
    with Site(etcd, namespace) as site:
        node = site.start(
            *handlers("tell", "tell_async", "TellClass", "Sleeper", "result", "count_primes", "ask"), max_tasks=0
        )
        site.submit("function", "tell", a=[1, {"b": None}])
        site.submit("async", "tell_async", words=["x", "y"])
        site.submit("class", "TellClass")
        site.submit("class2", "Sleeper", seconds=0.01)
        site.submit("none", "result")
        site.submit("text", "result", value="¤ \u2028 \U0001f40d")
        site.submit("primes", "count_primes", below=10_000)
        site.submit("leaves", "ask", verb="kill")
        found = {name: site.wait_end(name) for name in ("function", "async", "class", "class2", "none", "text")}
        assert found["function"].result == {
            "id": "function",
            "props": {"a": [1, {"b": None}], "handler": "tell"},
            "handler": "tell",
            "attempt": 1,
        }
        assert found["async"].result == ["x", "y"]
        assert found["text"].result == "¤ \u2028 \U0001f40d"
        assert found["class"].result is found["class2"].result is found["none"].result is None
        for state in found.values():
            assert (state.state, state.cause, state.attempt, state.node) == ("completed", "completed", 1, "n1")
            assert state.errors == ()
            assert state.started is not None
            assert state.ended is not None
            assert state.started <= state.ended
        assert site.wait_end("primes").result == {"found": 1229}
        assert site.wait_end("leaves").state == "killed"
        for text in ("out function", "err function", "INFO: log function", "WARNING: warning"):
            assert node.log.find(re.escape(f"[function] {text}") + "$"), text
        # what is left of a finished task: its state, its history, and until when they are kept
        kept = {key.split("/")[0] for key in site.content() if key.endswith("/function")}
        assert kept == {"finished", "history", "state"}
        assert node.stop() == 0


def test_a_task_is_claimed_only_where_its_handler_is(etcd: EtcdServer, namespace: str) -> None:
    with Site(etcd, namespace) as site:
        site.submit("other", "nobody_has_it")
        site.submit("unnamed")
        node = site.start(*handlers("tell", "result"))
        site.submit("known", "result", value=1)
        assert site.wait_end("known").result == 1
        assert (site.client.task("other").state, site.client.task("unnamed").state) == ("pending", "pending")
        more = site.start(*handlers("sleep"), name="n2")
        site.wait_owner("unnamed", "n2")
        assert site.owner("other") is None
        assert (node.stop(), more.stop()) == (0, 0)


def test_errors_are_tried_again_after_growing_delays_and_then_the_task_has_failed(
    etcd: EtcdServer, namespace: str
) -> None:
    with Site(etcd, namespace) as site:
        node = site.start(*handlers("fail", "fail_times", "return_non_json"))
        site.submit("t", "fail")
        delays = []
        for attempt in (1, 2):
            state = site.wait_state("t", partial(_sleeps_after, attempt))
            assert state.until is not None
            assert state.ended is not None
            delays.append(round(state.until - state.ended, 3))
            assert (state.cause, state.errors[-1].text.splitlines()[0]) == ("raised", f"ValueError: attempt {attempt}")
        assert delays == [0.4, 0.8]
        failed = site.wait_end("t")
        assert (failed.state, failed.attempt, failed.cause) == ("failed", 3, Cause.RAISED)
        assert [error.text.splitlines()[0] for error in failed.errors] == [
            "ValueError: attempt 1",
            "ValueError: attempt 2",
            "ValueError: attempt 3",
            "exceeded error rate: 3 errors within 4h",
        ]
        assert 'raise ValueError(f"attempt {ctx.attempt}")' in failed.errors[0].text
        # with the node's own policy
        site.submit("again", "fail_times", times=1)
        site.submit("no_json", "return_non_json", kind="set")
        again = site.wait_end("again")
        assert (again.state, again.result, again.attempt, len(again.errors)) == ("completed", 2, 2, 1)
        no_json = site.wait_end("no_json")  # what cannot become right by itself is not tried again
        assert (no_json.state, no_json.attempt) == ("failed", 1)
        assert "set is not JSON: use sorted(...)" in no_json.errors[0].text
        assert node.stop() == 0


def _sleeps_after(attempt: int, state: TaskState) -> bool:
    return state.attempt == attempt and state.state is State.SLEEPING


def test_props_that_a_stranger_wrote(etcd: EtcdServer, namespace: str) -> None:
    """As a Go client may: none, null, what is not an object; and what is not JSON, which is an error of the task."""
    with Site(etcd, namespace) as site:
        node = site.start("node_handlers:tell", max_tasks=0)
        for task_id, props in {"none": None, "null": "null", "list": "[1]", "broken": "{"}.items():
            if props is not None:
                site.put(site.layout.props(task_id), props)
            site.put(site.layout.task(task_id), "anything")
        for task_id in ("none", "null", "list"):
            assert site.wait_end(task_id).result["props"] == {}
        state = site.wait_end("broken")
        assert (state.state, state.cause) == ("failed", Cause.START_FAILED)
        assert "props: not JSON" in state.errors[0].text
        assert node.stop() == 0


def test_a_child_has_its_own_descriptors_and_no_other(etcd: EtcdServer, namespace: str) -> None:
    with Site(etcd, namespace) as site:
        node = site.start(*handlers("descriptors", "sleep"), max_tasks=0)
        for number in range(3):
            site.submit(f"s{number}", "sleep")
            node.child(f"s{number}")
        site.submit("t", "descriptors")
        found: dict[str, str] = site.wait_end("t").result
        assert found.pop("0") == "/dev/null"
        assert found.pop("1") == found.pop("2")
        assert sorted(re.split("[:/ ]", target.lstrip("/"))[0] for target in found.values()) == [
            "memfd",
            "pipe",
            "socket",
        ]  # its stacks, its lifeline, its control socket
        assert node.stop() == 0


# -- titles and logs --------------------------------------------------------------------------------------------------


def test_titles_tell_what_runs(etcd: EtcdServer, namespace: str) -> None:
    with Site(etcd, namespace) as site:
        node = site.start("count=zoo:count_primes")
        site.submit("p1", "count", below=10**9)
        assert title(node.pid) == "mpfora: supervisor n1"
        assert title(node.zygote) == "mpfora: zygote n1"
        child = node.child("p1")
        assert re.fullmatch(r"mpfora: task p1 count( \d+%)?", title(child))
        site.submit("p2", "count", below=300_000)
        other = node.child("p2")
        until(lambda: re.fullmatch(r"mpfora: task p2 count [1-9]\d?%", title(other)), lambda: title(other))
        assert node.stop() == 0


def test_a_log_of_json_and_a_log_of_warnings(etcd: EtcdServer, namespace: str) -> None:
    with Site(etcd, namespace) as site:
        node = site.start(*handlers("tell", "fail"), name="n1", log_format="json", max_tasks=0)
        quiet = site.start(*handlers("result"), name="n2", log_level="warning", joined=False)
        for task_id in ("t", "u"):
            site.submit(task_id, "tell")
        site.submit("f", "fail")
        site.submit("r", "result")
        site.client.wait(["t", "u", "f", "r"], timeout=LIMIT_S)
        assert (node.stop(), quiet.stop()) == (0, 0)
        lines = [json.loads(line) for line in node.log.lines]
        for line in lines:
            assert {"time", "level", "node", "logger", "message"} <= set(line)
            assert (line["node"], line["level"] in ("info", "warning", "error")) == ("n1", True)
        assert {line["message"] for line in lines if line.get("task") == "t"} >= {"out t", "err t", "INFO: log t"}
        (end,) = [line for line in lines if line.get("task") == "f" and "attempt 3" in line["message"]]
        assert end["level"] == "warning"
        assert "Traceback (most recent call last)" in end["message"]
        assert not [line for line in quiet.log.lines if " info " in line]


def test_a_log_tells_the_life_of_a_run_and_nothing_of_grpc(etcd: EtcdServer, namespace: str) -> None:
    with Site(etcd, namespace) as site:
        node = site.start(*handlers("sleep", "return_non_json"), name="n1", log_level="debug")
        site.submit("t", "sleep")
        node.log.wait(rf"\[t\] runs as process {node.child('t')}$")
        site.client.command_and_wait("t", Message.pause(), timeout=LIMIT_S)
        node.log.wait(r"\[t\] is asked to stop: pause command$")
        node.log.wait(r"\[t\] ended after .*: released$")
        site.submit("u", "return_non_json", retry={"max_errors": 1})
        site.wait_end("u")
        assert node.stop() == 0
        assert not [line for line in node.log.lines if "cygrpc" in line or not line.strip()]
        assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z |    ", line) for line in node.log.lines)
        assert len(node.log.find("is not JSON")) == 1


def test_a_log_that_nobody_reads_stops_nothing(etcd: EtcdServer, namespace: str) -> None:
    """Its pipe is full: the lease is renewed, tasks run, commands are taken, and the node leaves in order."""
    reader, writer = os.pipe()
    argv = command(*handlers("print_much", "result"), etcd=etcd.endpoint, namespace=namespace, name="n1", lease_ttl=3)
    process = subprocess.Popen(argv, cwd=SUPPORT, stdin=subprocess.DEVNULL, stderr=writer, env=environment())
    os.close(writer)
    try:
        with Site(etcd, namespace) as site:
            until(lambda: "nodes/n1/_metafora" in site.content(), "a member")
            site.submit("loud", "print_much", bytes=50_000_000, line=100)
            assert site.wait_end("loud").state == "completed"
            ends = time.monotonic() + 4
            number = 0
            while time.monotonic() < ends:
                number += 1
                site.submit(f"t{number}", "result", value=number)
                state = site.wait_end(f"t{number}")
                assert (state.result, state.attempt) == (number, 1)
            site.wait_taken(site.tell_node("n1", "freeze"))
            process.send_signal(signal.SIGTERM)
            assert process.wait(LIMIT_S) == 0
        assert len(os.read(reader, 1 << 20)) >= 4096
    finally:
        process.kill()
        process.wait()
        os.close(reader)
