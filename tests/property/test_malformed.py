"""Random bytes as keys and values all over a namespace: no crash, no lost task, one warning each, once."""

from __future__ import annotations

from ast import literal_eval
from collections import Counter
from collections.abc import Iterator

import pytest
from core_story import Story, kinds
from etcd_server import EtcdServer, encoded
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from node import Node, Site, command
from outage_story import LONG_TTL_S
from places import SUPPORT
from tcp_proxy import Link, Proxies

from mpfora.cluster.changes import Malformed
from mpfora.cluster.decode import parse_listing, parse_revision
from mpfora.model.state import Message, State, TaskState
from mpfora.store.claim_records import format_owner
from mpfora.store.command_records import format_message
from mpfora.store.keys import Layout
from mpfora.store.kv import KV, Event, Revision
from mpfora.store.node_records import format_member
from mpfora.store.state_records import format_state
from mpfora.supervisor import actions as do
from mpfora.supervisor import events as ev
from mpfora.supervisor.node.malformed_keys import MALFORMED_LINES

LAYOUT = Layout("m")
#: first parts, second parts and last parts of keys: those that mean something, near misses, and anything
HEADS = [b"tasks", b"nodes", b"state", b"readers", b"live", b"checkpoints", b"", b"taskss", b"_metafora"]
MIDDLES = [b"t1", b"t2", b"n1", b"n9", b"_metafora", b"owner", b"", b"a b", b"\xff\xfe", b"x" * 200, "ü".encode()]
TAILS = [
    b"owner",
    b"props",
    b"commands",
    b"released",
    b"_metafora",
    b"commands/7",
    b"commands/_metafora",
    b"",
    b"x/y/z",
]
part = st.binary(max_size=12)
keys = st.builds(
    lambda *parts: b"/".join(one for one in parts if one is not None),
    st.sampled_from(HEADS) | part,
    st.none() | st.sampled_from(MIDDLES) | part,
    st.none() | st.sampled_from(TAILS) | part,
)
#: values that mean something, such with another's meaning, broken ones, and anything
GOOD = [
    format_owner("n9").encode(),
    format_state(TaskState(State.PAUSED)).encode(),
    format_message(Message.pause()).encode(),
    b'{"command":"balance"}',
    b'{"command":"stop_task","parameters":{"task":"\\ud800"}}',
    b'{"handler":["a"],"labels":3}',
    b'{"node":"n9","capacity":-5,"weight":1e-300,"handlers":["jobs:run"]}',
    b'{"state":"sleeping","until":"9999-99-99T00:00:00Z"}',
    b'{"node":1e999}',
    b"[" * 10_000,
]
cut_short = st.builds(lambda good, cut: good[:cut], st.sampled_from(GOOD), st.integers(0, 60))
values = st.binary(max_size=40) | st.sampled_from(GOOD) | cut_short
garbage = st.lists(st.tuples(keys, values, st.booleans()), min_size=1, max_size=12)

OURS = {b"nodes/n1", b"tasks/good", b"state/good", b"nodes/n1/_metafora"}


def meant_for_us(key: bytes) -> bool:
    """What a stranger may not touch without consequence: the records of the node and the task that must be well."""
    return any(key == own or key.startswith(own + b"/") for own in OURS)


# -- the readers and the core -----------------------------------------------------------------------------------------


def event(key: bytes, value: bytes, deleted: bool, revision: int) -> Event:
    text = (LAYOUT.root.encode() + key).decode("utf-8", "surrogateescape")
    return Event(text, b"" if deleted else value, deleted, 0 if deleted else revision, revision)


@given(garbage)
@settings(deadline=None, max_examples=150)
def test_the_core_reads_anything_and_goes_on(rows: list[tuple[bytes, bytes, bool]]) -> None:
    """Whatever else there is: a good task is claimed, run and finished, and every malformed key is told once, also
    when everything is read again."""
    story = Story(max_tasks=0)
    there: dict[str, Event] = {}
    malformed: set[tuple[str, int]] = set()
    for key, value, deleted in rows:
        if meant_for_us(key):
            continue
        story.revision += 1
        put = event(key, value, deleted, story.revision)
        there.pop(put.key, None)
        if not deleted:
            there[put.key] = put
        changes = parse_revision(LAYOUT, Revision(story.revision, (put,)))
        malformed |= {(one.key, one.revision) for one in changes.changes if isinstance(one, Malformed)}
        if changes.changes:
            story.tell(ev.ClusterChanged(changes))
    assert told(story) == Counter(key for key, _ in malformed)
    read_again(story, there)
    assert told(story) == Counter(key for key, _ in malformed), "once"
    good = parse_revision(LAYOUT, Revision(story.revision + 1, (event(b"tasks/good", b"", False, story.revision + 1),)))
    story.revision += 1
    steps = story.tell(ev.ClusterChanged(good)) + story.wait(4.0)
    assert "good" in [claim.task_id for step in steps if isinstance(step, do.ClaimTasks) for claim in step.claims]
    assert "Fork" in kinds(story.tell(story.won("good")))


def told(story: Story) -> Counter[str]:
    """How often each key was named in a warning."""
    begin, middle = "ignored ", " in the store: "
    lines = [line.text for line in story.said if line.text.startswith(begin)]
    return Counter(literal_eval(line[len(begin) : line.index(middle)]) for line in lines)


def read_again(story: Story, there: dict[str, Event]) -> None:
    """The watch was compacted away: everything comes as a reset."""
    kvs = [KV(put.key, put.value, put.create_revision, put.mod_revision, 1, 0) for put in there.values()]
    record = LAYOUT.member("n1")
    kvs.append(KV(record, format_member(story.record()).encode(), 99, 99, 1, 0))
    story.tell(ev.ClusterChanged(parse_listing(LAYOUT, story.revision, kvs)))


def test_what_is_told_is_forgotten_when_it_is_gone_and_bounded() -> None:
    story = Story()
    for number in range(12_000):
        story.revision += 1
        bad = event(b"tasks/bad id %d" % number, b"", False, story.revision)
        story.tell(ev.ClusterChanged(parse_revision(LAYOUT, Revision(story.revision, (bad,)))))
    assert MALFORMED_LINES <= len(told(story)) <= MALFORMED_LINES + 2, "the log does not grow with all of them"
    assert len(story.core.malformed_keys._logged) == 10_000
    read_again(story, {})
    assert story.core.malformed_keys._logged == {}


# -- a node on etcd ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def running(shared_etcd: EtcdServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, Node, Link]]:
    """One node for all examples, behind a proxy."""
    proxies, link = Proxies(), Link(shared_etcd.port)
    shared_etcd.post("kv/put", {"key": encoded(b"/malformed/tasks/\xff\xfe"), "value": encoded(b"\xff")})
    with Site(shared_etcd, "malformed") as site:
        node = site.run([*_command(site, f"127.0.0.1:{proxies.listen_for(link)}"), "node_handlers:tell"], SUPPORT)
        node.wait_joined()
        yield site, node, link
        assert node.stop() == 0
    proxies.close()


def _command(site: Site, endpoint: str) -> list[str]:
    return command(etcd=endpoint, namespace=site.namespace, name="n1", lease_ttl=LONG_TTL_S, max_tasks=0)


_numbers = iter(range(10**9))
_puts: Counter[bytes] = Counter()


@given(rows=garbage)
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_node_amid_garbage_runs_its_tasks(
    running: tuple[Site, Node, Link], rows: list[tuple[bytes, bytes, bool]]
) -> None:
    site, _node, _link = running
    root = site.layout.root.encode()
    for key, value, deleted in rows:
        if meant_for_us(key):
            continue
        if deleted:
            site.etcd.post("kv/deleterange", {"key": encoded(root + key)})
        else:
            site.etcd.post("kv/put", {"key": encoded(root + key), "value": encoded(value)})
            _puts[root + key] += 1
    number = next(_numbers)
    site.submit(f"good{number}")
    assert site.wait_end(f"good{number}").state == "completed"


def test_each_was_told_once_also_after_everything_was_read_again(running: tuple[Site, Node, Link]) -> None:
    """Runs after the test above, on the same node."""
    site, node, link = running
    before = node.log.find("ignored ")
    assert before, f"there was something to tell:\n{node.log.text()[-2000:]}"
    for line, times in Counter(line.split(" ignored ", 1)[1] for line in before).items():
        key = literal_eval(line.split(" in the store: ", 1)[0]).encode("utf-8", "surrogateescape")
        assert times <= max(1, _puts[key]), line
    link.cut()
    node.log.wait("the watch broke")
    for task in ("first", "last"):  # history is kept from the compacted revision on
        site.submit(task)
    answer = site.etcd.post("kv/range", {"key": encoded(b"-")})
    site.etcd.compact(int(answer["header"]["revision"]))
    link.mend()
    node.log.wait("changes were missed, reading everything again")
    assert site.wait_end("last").state == "completed"
    assert node.log.find("ignored ") == before
