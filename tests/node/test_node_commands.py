"""Commands to nodes and tasks, as the client and as a Go client write them, while handlers obey and while they hang."""

from __future__ import annotations

import json
import re
import signal
import time
from typing import Any

from etcd_server import EtcdServer
from node import LIMIT_S, Node, Site, is_alive, until

from mpfora import Message
from mpfora.model.outcome import Cause

STOP_S = 1.0


def start(site: Site, *animals: str, **options: Any) -> Node:
    """A node with these of the zoo's handlers, which kills those that do not stop within STOP_S."""
    return site.start(
        *(f"{each}=zoo:{each}" for each in animals), **{"max_tasks": 0, "stop_timeout": STOP_S, **options}
    )


def member(site: Site, name: str = "n1") -> dict[str, Any]:
    record: dict[str, Any] = json.loads(site.get(site.layout.member(name)) or "{}")
    return record


def fence(site: Site, task_id: str) -> int:
    """The claim's number, once there is one."""
    return until(lambda: site.fence(task_id), f"{task_id} is owned")


def revision(site: Site) -> int:
    """The store's, now."""
    return site.put(f"{site.layout.root}elsewhere", "")


# -- node commands ----------------------------------------------------------------------------------------------------


def test_freeze_and_drain_beside_a_handler_that_hangs(etcd: EtcdServer, namespace: str) -> None:
    with Site(etcd, namespace) as site:
        node = start(site, "deadlock", "sleep")
        site.submit("hung", "deadlock")
        hung = node.child("hung")

        site.client.node_command_and_wait("n1", "freeze")
        until(lambda: member(site)["frozen"], "frozen")
        site.submit("late", "sleep")
        thawed = revision(site)
        site.client.node_command_and_wait("n1", "unfreeze")
        assert fence(site, "late") > thawed
        assert node.child("hung") == hung

        node.child("late")
        site.client.node_command_and_wait("n1", "drain")
        for task_id in ("hung", "late"):
            site.wait_owner(task_id, None)
        assert member(site)["draining"]
        assert site.kept("hung").cause == Cause.STOP_TIMEOUT
        assert "in deadlock" in site.kept("hung").stack
        assert site.kept("late").cause == Cause.RELEASED
        for task_id in ("hung", "late"):
            assert f"released/{task_id}" in site.content()
        node.wait_idle()

        back = revision(site)
        site.client.node_command_and_wait("n1", "undrain")
        assert fence(site, "hung") > back
        assert node.child("hung") != hung
        assert node.stop() == 0


def test_commands_of_a_go_client_are_taken_in_the_order_of_their_revisions(etcd: EtcdServer, namespace: str) -> None:
    with Site(etcd, namespace) as site:
        node = start(site, "deadlock", "result")
        site.submit("hung", "deadlock")
        first, claimed = node.child("hung"), fence(site, "hung")
        # keys whose order is not that of their revisions, all written while the node cannot take them
        keys = [site.layout.node_command("n1", key_id) for key_id in ("9", "3", "7", "18446744073709551615", "1")]
        node.send(signal.SIGSTOP)
        verbs = ["unfreeze", "freeze", "unfreeze", "balance", "freeze"]
        for key, verb in zip(keys, verbs, strict=True):
            site.put(key, json.dumps({"command": verb}))
        node.send(signal.SIGCONT)
        for key in keys:
            site.wait_taken(key)
        said = [line.split("node command ")[1] for line in node.log.find("node command ")]
        assert said == verbs
        until(lambda: member(site)["frozen"], "frozen")
        assert (node.child("hung"), fence(site, "hung")) == (first, claimed)

        # while frozen: the task is stopped, and is not claimed again
        key = site.tell_node_text("n1", '{"command":"stop_task","parameters":{"task":"hung"}}')
        site.wait_taken(key)
        site.wait_owner("hung", None)
        assert site.kept("hung").cause == Cause.STOP_TIMEOUT
        assert not is_alive(first)
        site.wait_taken(site.tell_node("n1", "stop_task", task="nobody"))
        node.log.wait(r"\[nobody\] stop_task: this task is not on this node")
        again = revision(site)
        site.wait_taken(site.tell_node("n1", "unfreeze"))
        assert fence(site, "hung") > again
        assert node.stop() == 0


def test_commands_that_are_no_commands_are_said_and_deleted(etcd: EtcdServer, namespace: str) -> None:
    with Site(etcd, namespace) as site:
        node = start(site, "count_primes")
        site.submit("t", "count_primes", below=10**9)
        child = node.child("t")
        bad = ['{"command":"explode"}', "{", "[]", '{"command":"stop_task"}', '{"command":7}', "", "\0\1"]
        for text in bad:
            site.wait_taken(site.tell_node_text("n1", text))
        for text in ('{"message":"explode"}', "{", '{"message":"sleep"}', '{"message":"sleep","until":"soon"}', ""):
            site.put(site.layout.commands("t"), text)
            site.wait_taken(site.layout.commands("t"))
        assert len(node.log.find(r"ignored '/.*/nodes/n1/commands/\d+' in the store: ")) == len(bad)
        assert len(node.log.find("ignored '/.*/tasks/t/commands' in the store: ")) == 5
        assert node.child("t") == child
        assert member(site)["frozen"] is False
        assert node.stop() == 0


def test_commands_are_taken_while_the_node_is_leaving(etcd: EtcdServer, namespace: str) -> None:
    with Site(etcd, namespace) as site:
        node = start(site, "deadlock", stop_timeout=4)
        site.submit("hung", "deadlock")
        site.submit("killed", "deadlock")
        node.child("hung"), node.child("killed")
        node.send(signal.SIGTERM)
        node.log.wait("SIGTERM: stopping 2 tasks")
        key = site.tell_node("n1", "freeze")
        bad = site.tell_node_text("n1", "?")
        site.tell_task("killed", Message.kill())
        site.wait_taken(key)
        site.wait_taken(bad)
        assert node.exit_code() == 0
        node.wait_empty()
        assert site.wait_end("killed").state == "killed"
        assert site.kept("hung").state == "runnable"


# -- task commands ----------------------------------------------------------------------------------------------------


def test_every_command_on_a_handler_that_obeys_and_on_one_that_hangs(etcd: EtcdServer, namespace: str) -> None:
    with Site(etcd, namespace) as site:
        node = start(site, "count_primes", "deadlock")
        ends = {"good": Cause.RELEASED, "bad": Cause.STOP_TIMEOUT}
        site.submit("good", "count_primes", below=10**9)
        site.submit("bad", "deadlock")

        def tell(message: Message) -> None:
            for task_id in ends:
                site.tell_task(task_id, message)

        def children() -> dict[str, int]:
            return {task_id: node.child(task_id) for task_id in ends}

        first = children()
        tell(Message.pause())
        for task_id, cause in ends.items():
            state = site.wait_state(task_id, "paused")
            assert (state.cause, state.attempt, site.owner(task_id)) == (cause, 1, "n1")
            assert not is_alive(first[task_id])
        node.wait_idle()
        saved = site.get(site.layout.checkpoint("good"))
        assert json.loads(saved or "null")["next"] >= 2
        assert "in deadlock" in site.kept("bad").stack

        tell(Message.run())
        for task_id in ends:
            site.wait_state(task_id, "runnable")
        second = children()

        asleep_until = time.time() + 1
        tell(Message.sleep(asleep_until))
        for task_id, cause in ends.items():
            state = site.wait_state(task_id, lambda state: state.attempt == 2)
            assert (state.cause, is_alive(second[task_id])) == (cause, False)
            assert state.state == "runnable" or abs((state.until or 0) - asleep_until) < 0.001
            woken = site.wait_state(task_id, "runnable")
            assert woken.errors == ()
        third = children()
        claims = {task_id: fence(site, task_id) for task_id in ends}

        tell(Message.release())
        for task_id, cause in ends.items():
            until(lambda task_id=task_id: fence(site, task_id) > claims[task_id], "claimed anew")  # type: ignore[misc]
            assert site.kept(task_id).cause == cause
            assert not is_alive(third[task_id])
        fourth = children()

        before = site.get(site.layout.checkpoint("good"))
        tell(Message.checkpoint())
        until(lambda: site.get(site.layout.checkpoint("good")) != before, "a newer checkpoint")
        for task_id in ends:
            site.wait_taken(site.layout.commands(task_id))
        assert children() == fourth

        tell(Message.run())
        for task_id in ends:
            site.wait_taken(site.layout.commands(task_id))
        assert children() == fourth

        tell(Message.kill())
        for task_id, cause in ends.items():
            state = site.wait_end(task_id)
            assert (state.state, state.cause, state.attempt) == ("killed", cause, 4)
        node.wait_idle()
        assert node.stop() == 0


def test_commands_on_tasks_at_rest_and_those_that_have_no_place(etcd: EtcdServer, namespace: str) -> None:
    with Site(etcd, namespace) as site:
        node = start(site, "sleep", "ask")
        site.submit("asks", "ask", verb="sleep", seconds=3600)
        site.wait_state("asks", "sleeping")
        site.tell_task("asks", Message.pause())
        site.wait_state("asks", "paused")
        site.tell_task("asks", Message.complete())
        node.log.wait(r"\[asks\] command 'complete' dropped: the task is paused")
        site.wait_taken(site.layout.commands("asks"))
        claim = fence(site, "asks")
        site.tell_task("asks", Message.release())
        until(lambda: fence(site, "asks") > claim, "claimed anew")
        assert site.kept("asks").state == "paused"
        assert site.client.command_and_wait("asks", Message.sleep(time.time() + 3600), LIMIT_S).state == "sleeping"
        assert site.client.command_and_wait("asks", Message.kill(), LIMIT_S).state == "killed"
        # one that was commanded before anybody owned it
        node.stop()
        site.submit("later", "sleep")
        site.client.command("later", Message.pause())
        again = start(site, "sleep", name="n2")
        site.wait_state("later", "paused")
        assert site.kept("later").attempt <= 1
        assert again.stop() == 0


def test_a_deleted_task_is_killed_and_leaves_nothing(etcd: EtcdServer, namespace: str) -> None:
    with Site(etcd, namespace) as site:
        node = start(site, "deadlock", "count_primes", stop_timeout=3600)
        site.submit("bad", "deadlock")
        site.submit("good", "count_primes", below=10**9)
        bad, good = node.child("bad"), node.child("good")
        for task_id, child in (("bad", bad), ("good", good)):
            site.client.delete(task_id, timeout=LIMIT_S)
            assert not is_alive(child)
        node.wait_idle()
        assert not [key for key in site.content() if re.search("/(bad|good)(/|$)", key)]
        # by a client that deletes the keys and no more, as Go's does
        site.submit("bad", "deadlock")
        child = node.child("bad")
        for key in site.task_keys("bad"):
            site.delete(site.layout.root + key)
        until(lambda: not is_alive(child), "its process is dead")
        node.log.wait(r"\[bad\] the claim is lost")
        assert node.stop() == 0
