"""What becomes of the changes of a watch, and what people see of them."""

from __future__ import annotations

import threading

from etcd_server import EtcdServer
from node import Site

from mpfora.client.info.cluster_events import ClusterEvent, EventFold
from mpfora.model.state import Message
from mpfora.store.claim_records import format_owner, format_released
from mpfora.store.command_records import format_message, format_node_command, parse_by, parse_message
from mpfora.store.keys import Layout
from mpfora.store.kv import Event, Revision

KEYS = Layout("ns")


def put(key: str, value: str = "", created: int = 5, at: int = 5) -> Event:
    return Event(key, value.encode(), False, created, at)


def gone(key: str) -> Event:
    return Event(key, b"", True, 0, 6)


def told(*revisions: list[Event]) -> list[tuple[str, str, str]]:
    fold = EventFold(KEYS, since=0)
    events = [event for events in revisions for event in fold.take(Revision(5, tuple(events)), 100.0)]
    return [(event.kind, event.node, event.text) for event in events]


CLAIMED = [put(KEYS.owner("t"), format_owner("n1"))]


def test_a_move_says_where_to_and_a_loss_that_it_was_one() -> None:
    mark = put(KEYS.released("t"), format_released("n1", 5, "n2"))
    assert told(CLAIMED, [gone(KEYS.owner("t")), mark])[-1] == ("moved", "n1", "to n2, for the balance")
    assert (
        told(CLAIMED, [put(KEYS.released("t"), format_released("n1", 5)), gone(KEYS.owner("t"))])[-1][0] == "released"
    )
    assert told(CLAIMED, [gone(KEYS.owner("t"))])[-1][:2] == ("lost", "n1")
    assert told(CLAIMED, [gone(KEYS.owner("t")), gone(KEYS.task("t"))])[-1][:2] == ("deleted", "n1")


def test_the_end_of_a_run_is_told_once() -> None:
    state = '{"state":"completed","attempt":2,"cause":"completed","node":"n1","started":"2026-01-01T00:00:00Z",' \
            '"ended":"2026-01-01T00:00:09Z"}'  # fmt: skip
    kinds = [kind for kind, _, _ in told(CLAIMED, [put(KEYS.state("t"), state), gone(KEYS.owner("t"))])]
    assert kinds == ["claimed", "started", "ended", "settled"]
    paused = state.replace('"completed"', '"paused"', 1)
    kinds = [kind for kind, _, _ in told([put(KEYS.state("t"), paused)], [put(KEYS.state("t"), paused)])]
    assert kinds == ["started", "ended"]


def test_a_command_says_who_sent_it_and_nodes_read_it_as_before() -> None:
    text = format_message(Message.kill(), by="ann@desk")
    assert parse_message(text) == Message.kill()
    assert parse_by(text) == "ann@desk"
    assert (
        parse_by('{"message":"kill","by":7}') == parse_by("no JSON") == parse_by(format_message(Message.kill())) == ""
    )
    fold = EventFold(KEYS, since=0)
    (event,) = fold.take(Revision(5, (put(KEYS.commands("t"), text),)), 1.0)
    assert event == ClusterEvent(1.0, "asked", "t", "", "ann@desk", "kill")


def test_nodes_come_and_go_and_are_asked_and_garbage_says_nothing() -> None:
    asked = put(KEYS.node_command("n1", "7"), format_node_command("drain"))
    found = told([put(KEYS.member("n1"), "{}"), asked], [gone(KEYS.member("n1"))])
    assert [kind for kind, _, _ in found] == ["joined", "asked", "left"]
    assert told([put(KEYS.owner("t"), "no JSON"), put(KEYS.state("t"), "[]"), put(KEYS.commands("t"), "{}")]) == []
    assert told([put(KEYS.checkpoint("t"), "null"), put(KEYS.checkpoint("t"), "[1]")]) == [("saved", "", "3 bytes")]


def test_a_life_of_a_task_is_told_from_its_submission_to_who_killed_it(etcd: EtcdServer, namespace: str) -> None:
    with Site(etcd, namespace) as site:
        site.start("record=node_handlers:record", "tell=node_handlers:tell", "deaf=zoo:deadlock")
        events: list[ClusterEvent] = []

        def follow() -> None:
            for event in site.client.events(follow=True):
                events.append(event)
                if (event.kind, event.task_id) == ("settled", "t1"):
                    return

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        for number in range(1000):  # until it watches
            site.submit(f"probe-{number}", "tell")
            site.wait_end(f"probe-{number}")
            if [event for event in events if event.kind == "submitted"]:
                break
        site.submit("t1", "deaf", deaf=True)
        site.wait_owner("t1", "n1")
        site.client.command("t1", Message.kill())
        thread.join(60)
        assert not thread.is_alive(), events
        events = [event for event in events if event.task_id == "t1"]
        kinds = [event.kind for event in events if event.kind != "saved"]
        assert kinds == ["submitted", "claimed", "asked", "started", "ended", "settled"]
        assert "@" in events[-1].by
        assert {event.node for event in events[1:]} <= {"n1", ""}
        past = [event.kind for event in site.client.events(task_id="t1")]
        assert past == ["started", "ended"]
