"""Why a pending task is pending: a table of cases, and as it is seen from a client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from etcd_server import EtcdServer
from fake_node import fake_node
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mpfora import AsyncClient
from mpfora.cli.render import detail
from mpfora.client.snapshot.snapshot import Live, read_snapshot, read_state
from mpfora.client.snapshot.why_not_running import Reasons
from mpfora.client.snapshot.why_pending import NodeLoad, Turn, why_pending
from mpfora.cluster.assignment.assignments import Assignments
from mpfora.cluster.assignment.fitting import fits
from mpfora.cluster.changes import Changes, MemberPut, TaskPut, WantsPut
from mpfora.cluster.mirror import Mirror
from mpfora.model.history import Run
from mpfora.model.state import State, TaskState
from mpfora.model.task import Member, Trouble, Wants
from mpfora.store.claim_records import format_owner
from mpfora.store.history_records import format_history
from mpfora.store.keys import Layout
from mpfora.store.kv import KV
from mpfora.store.node_records import format_member
from mpfora.store.state_records import format_state


def load(name: str, active: int = 0, **fields: Any) -> NodeLoad:
    return NodeLoad(Member(name, **({"capacity": 2, "handlers": ("train",)} | fields)), active)


GO = NodeLoad(Member("go1"))
MANY = load("n1", handlers=("train", "test"))
GPU = Wants("train", {"gpu": "yes", "zone": "b"})

FULL = (
    "no node that could take it has room: n1 is full (1 of 1); it waits for room: --max-tasks says how much a node has"
)
NOBODY = "no node is live in this namespace: start one, or look at --namespace and --etcd"
ONLY_GO = (
    "no live node says which handlers it has, as Go nodes do not: go1. These claim what they find: see their logs, or"
    " start a node of mpfora"
)
CASES: list[tuple[str, Wants, list[NodeLoad], str]] = [
    ("no node", Wants(), [], NOBODY),
    ("only Go nodes", Wants(), [GO], ONLY_GO),
    (
        "no node has so much, and a Go node does not ask",
        Wants("train", needs=(("gpus", 3),)),
        [load("n1", has=(("gpus", 2),)), GO],
        "no node has 3 gpus: n1 has 2; start one with --has gpus=3, or submit it with less in needs. go1 may take it,"
        " as Go nodes claim what they find: see their logs",
    ),
    (
        "no handler of that name",
        Wants("trian"),
        [MANY, load("n2"), GO],
        "no live node has its handler 'trian' (is 'train' meant?): there are test (n1), train (n1, n2);"
        " start a node with it, or submit the task under another name. go1 may take it, as Go nodes claim what they"
        " find: see their logs",
    ),
    (
        "nothing like it",
        Wants("x"),
        [load("n1")],
        "no live node has its handler 'x': there are train (n1); start a node with it, or submit the task under another"
        " name",
    ),
    (
        "names none of several",
        Wants(),
        [MANY],
        "it names no handler, and every live node has several: name one of test (n1), train (n1)",
    ),
    (
        "no labels",
        GPU,
        [load("n1", labels={"gpu": "no"}), load("n2"), load("n3", handlers=("x",), labels={"gpu": "yes"})],
        "no live node with its handler has its labels gpu=yes, zone=b: n1 has gpu=no, no zone, n2 has no gpu, no zone;"
        " start one with --label, or submit it without",
    ),
    (
        "no room",
        Wants("train"),
        [
            load("n1", 2),
            load("n2", frozen=True),
            load("n3", draining=True, frozen=True),
            load("n4", 9, capacity=0),
            load("n5", handlers=("x",)),
            load("n6", full=True),
        ],
        "no node that could take it has room: n1 is full (2 of 2), n2 is frozen (mpfora node n2"
        " unfreeze), n3 is draining or leaving (mpfora node n3 undrain), n4 is full (9 of 0), n6 is taking no more for"
        " now, as its balancer says; it waits for room: --max-tasks says how much a node has",
    ),
    (
        "assigned",
        Wants("train"),
        [load("n1", 2), load("n2", 1), load("n3", 99, capacity=None)],
        "n2 is to claim it at once, or n3 after a second; if that lasts, n2 hangs or cannot write: see its log",
    ),
    (
        "a balancer of one's own",
        Wants("train"),
        [load("n2", balancer="fair"), load("n3", balancer="picky:Balancer")],
        "n2 is to claim it at once, or n3 after a second; if that lasts, the balancer 'picky:Balancer' of n3 refuses"
        " it, or n2 hangs or cannot write: see its log",
    ),
    (
        "not its turn",
        Wants("train"),
        [load("n4")],
        "others come before it, as a node is given 60 tasks at a time; n4 can take it in its turn",
    ),
    (
        "nodes in trouble",
        Wants("train"),
        [load("n1", trouble=Trouble("cannot start processes: [Errno 11] Resource temporarily unavailable"))],
        "no node that could take it can start it: n1 cannot start processes: [Errno 11] Resource temporarily"
        " unavailable",
    ),
    (
        "one in trouble, one without room",
        Wants("train"),
        [load("n1", trouble=Trouble("cannot start its zygote: no module 'jobs'")), load("n2", 2)],
        "no node that could take it has room: n1 cannot start its zygote: no module 'jobs', n2 is full (2 of 2); it"
        " waits for room: --max-tasks says how much a node has",
    ),
    (
        "props that cannot be read",
        Wants(problem="props is not JSON"),
        [load("n1", 2)],
        "its props cannot be read (props is not JSON): no node that could take it has room: n1 is full (2 of 2); it"
        " waits for room: --max-tasks says how much a node has",
    ),
    (
        "props that cannot be read, and no node that tells",
        Wants(problem="props is not JSON"),
        [GO],
        f"its props cannot be read (props is not JSON): {ONLY_GO}",
    ),
    (
        "many",
        Wants("train"),
        [load(f"n{n}", 2) for n in range(7)],
        "no node that could take it has room: n0 is full (2 of 2), n1 is full (2 of 2), n2 is full (2 of 2),"
        " n3 is full (2 of 2), n4 is full (2 of 2) and 2 more; it waits for room: --max-tasks says how much a node has",
    ),
]


@pytest.mark.parametrize(("wants", "loads", "reason"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_reasons(wants: Wants, loads: list[NodeLoad], reason: str) -> None:
    assert why_pending(wants, loads, Turn("n2", 60)) == reason


def test_what_rests_finds_room_on_a_full_node() -> None:
    reason = why_pending(Wants(), [load("n1", 2)], Turn("n1"), resting=True)
    assert reason == "n1 is to claim it at once; if that lasts, n1 hangs or cannot write: see its log"


def test_after_an_unclean_end_nodes_wait() -> None:
    reason = why_pending(Wants(), [load("n1")], Turn("n1"), vanished=True)
    assert reason == (
        "its last owner went without a word, so others wait a second (as long as its lease, where only the claim was"
        " removed): then n1 is to claim it at once; if that lasts, n1 hangs or cannot write: see its log"
    )


MEMBERS = st.builds(
    Member,
    st.sampled_from(["n1", "n2"]),
    capacity=st.sampled_from([None, 0, 1]),
    frozen=st.booleans(),
    draining=st.booleans(),
    full=st.booleans(),
    labels=st.dictionaries(st.sampled_from("ab"), st.sampled_from("xy")),
    handlers=st.lists(st.sampled_from(["h", "i"]), unique=True).map(tuple),
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine
@given(
    st.builds(
        Wants,
        st.sampled_from([None, "h", "i", "j"]),
        st.dictionaries(st.sampled_from("ab"), st.sampled_from("xy")),
        st.sampled_from([None, "bad"]),
    ),
    st.lists(st.builds(NodeLoad, MEMBERS, st.integers(0, 2)), max_size=3),
    st.booleans(),
    st.sampled_from([None, "n1", "n2"]),
)
def test_a_reason_agrees_with_the_rule_by_which_nodes_claim(
    wants: Wants, loads: list[NodeLoad], resting: bool, assignee: str | None
) -> None:
    reason = why_pending(wants, loads, Turn(assignee, 60), resting=resting)
    assert reason
    assert "\n" not in reason
    able = [one for one in loads if fits(one.member, wants)]
    can = any(words in reason for words in ("can take it", "is to claim it"))
    assert (can or "that could take it" in reason) == bool(able)
    free = [
        one
        for one in able
        if not (one.member.frozen or one.member.draining or one.member.full)
        and (resting or one.member.capacity is None or one.active < one.member.capacity)
    ]
    assert can == bool(free)


# -- by a whole snapshot ----------------------------------------------------------------------------------------------

LAYOUT = Layout("ns")


def reason_of(
    task_id: str, members: Sequence[Member], keys: Mapping[str, bytes], live: Live | None = None
) -> str | None:
    """Of a snapshot with these nodes and keys."""
    records = [(LAYOUT.member(member.name), format_member(member).encode()) for member in members]
    found = [KV(key, value, at, at, 1, 0) for at, (key, value) in enumerate([*records, *keys.items()], 5)]
    snapshot = read_snapshot(LAYOUT, found)
    kept, _ = read_state(snapshot.tasks[task_id].state)
    return Reasons(snapshot, live or {}, 0.0).of(task_id, snapshot.tasks[task_id], kept)


def task(task_id: str = "t", **values: bytes) -> dict[str, bytes]:
    """Its keys, by the names of the layout's methods."""
    return {LAYOUT.task(task_id): b"", LAYOUT.props(task_id): b"{}"} | {
        getattr(LAYOUT, name)(task_id): value for name, value in values.items()
    }


ONE = Member("n1", pid=7, handlers=("h",), balancer="fair")
AT_ONCE = "n1 is to claim it at once; if that lasts, n1 hangs or cannot write: see its log"
ISOLATED = {"n1": {"t": {"hold": "it waits while mpfora finds out which task takes nodes down"}}}


@pytest.mark.parametrize(
    ("members", "keys", "live", "reason"),
    [
        ([ONE], task(), {}, AT_ONCE),
        ([ONE], task(props=b'{"not_before":"2100-01-01T00:00:00Z"}'), {},
         "by not_before in its props; no node owns it until then"),
        ([], task(props=b'{"not_before":"2100-01-01T00:00:00Z"}'), {},
         f"by not_before in its props; if nothing changes until then: {NOBODY}"),
        ([ONE], task(state=b'{"state":"sleeping","until":"2100-01-01T00:00:00Z"}', released=b"{}"), {},
         "by its kept state; no node owns it until then"),
        ([ONE], task(state=b'{"state":"sleeping","until":"1969-01-01T00:00:00Z"}', released=b"{}"), {},
         "its time has come: a node wakes it up at once, or another one a second later, by its own clock"),
        ([Member("go1")], task(state=b'{"state":"sleeping","until":"1969-01-01T00:00:00Z"}'), {}, ONLY_GO),
        ([ONE], task(state=b"{"), {}, AT_ONCE),
        ([ONE], task(removal=b'{"task":5}'), {},
         "it is being deleted: the next node that can does it, or mpfora delete"),
        ([ONE], task(owner=b'{"node":"n0"}'), {}, "node n0 owns it and is gone: the claim ends with its lease"
         " (mpfora doctor tells of one on none)"),
        ([ONE], task(owner=b"{"), {}, "whose claim it is cannot be read: delete the owner key if no node runs it"),
        ([ONE], task(owner=b'{"node":"n1"}'), ISOLATED, f"node n1 holds it: {ISOLATED['n1']['t']['hold']}"),
        ([ONE], task(owner=b'{"node":"n1"}'), {"n1": {"t": {"attempt": 1}}}, None),
        ([Member("go1")], task(), {}, ONLY_GO),
        ([], task(), {}, NOBODY),
    ],
    ids=["new", "not before", "not before, with nobody", "asleep after an error", "due", "due, Go",
         "unreadable state", "deleted", "lease lost", "unreadable owner", "in isolation", "runs", "Go", "nobody"],
)  # fmt: skip
def test_every_kind_of_task_that_does_not_run(
    members: list[Member], keys: dict[str, bytes], live: Live, reason: str | None
) -> None:
    assert reason_of("t", members, keys, live) == reason


def test_the_node_that_is_named_is_the_one_to_which_the_others_leave_it() -> None:
    nodes = [ONE, replace(ONE, name="n2"), replace(ONE, name="n3")]
    mirror = Mirror()
    books = Assignments(mirror)
    changes = [*map(MemberPut, nodes), TaskPut("t", 8), WantsPut("t", Wants())]
    books.fold(mirror.absorb(Changes(9, tuple(changes), reset=True)))
    assert (reason_of("t", nodes, task()) or "").startswith(f"{books.assignee['t']} is to claim it at once, or ")


def test_one_of_a_great_many_waits_for_its_turn() -> None:
    keys = {key: value for n in range(500) for key, value in task(f"t{n:03}").items()}
    assert reason_of("t000", [ONE], keys) == AT_ONCE
    assert reason_of("t499", [ONE], keys) == (
        "others come before it, as a node is given 480 tasks at a time; n1 can take it in its turn"
    )


# -- as clients see it ------------------------------------------------------------------------------------------------


@pytest.fixture
async def client(etcd: EtcdServer, namespace: str) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(etcd.endpoint, namespace) as made:
        yield made


async def test_a_client_sees_why(client: AsyncClient, etcd: EtcdServer, namespace: str) -> None:
    await client.submit("p1", handler="h")
    assert (await client.task("p1")).reason == NOBODY
    async with fake_node(etcd.endpoint, namespace, handlers=("h",), capacity=1) as node:
        for task_id in ("full", "rest"):
            await client.submit(task_id)
            await node.own(task_id)
        await client._etcd.put(node.layout.state("rest"), format_state(TaskState(State.SLEEPING, until=4e9)))
        rows = {row.id: row.reason for row in await client.tasks()}
        assert rows == {"p1": FULL, "full": None, "rest": None}
        assert (await client.task("p1")).reason == rows["p1"]
        await client._etcd.put(node.layout.props("p1"), "{")
        assert ((await client.task("p1")).reason or "").startswith("its props cannot be read (props is not JSON")
        await client._etcd.put(node.layout.state("p1"), format_state(TaskState(attempt=1, node="n0")))
        assert (await client.task("p1")).node is None, "its last run was on n0, and now it is nobody's"
        await client._etcd.put(node.layout.state("full"), format_state(TaskState(State.PAUSED)))
        assert "went without a word" in ((await client.task("p1")).reason or "")
        await client._etcd.put(node.layout.released("p1"), '{"node":"n1","fence":7}')
        assert "n1 is to claim it at once" in ((await client.task("p1")).reason or "")


async def test_a_task_that_is_not_to_run_before_a_time_sleeps_before_it_is_claimed(
    client: AsyncClient, etcd: EtcdServer, namespace: str
) -> None:
    await client.submit("later", {"not_before": "2100-01-01T00:00:00Z"})
    await client.submit("due", {"not_before": "2000-01-01T00:00:00Z"})
    await client.submit("plain", {"text": "not_before"})
    await client._etcd.put(client._layout.props("bad"), '{"not_before":"2100-01-01T00:00:00Z","stop_timeout":"soon"}')
    await client._etcd.put(client._layout.task("bad"), "")
    rows = {row.id: row for row in await client.tasks()}
    assert {name: row.state for name, row in rows.items()} == {
        "later": "sleeping", "due": "pending", "plain": "pending", "bad": "sleeping",
    }  # fmt: skip
    assert rows["later"].until == 4102444800.0
    nobody = NOBODY
    assert rows["later"].reason == f"by not_before in its props; if nothing changes until then: {nobody}"
    assert (rows["due"].until, rows["due"].reason) == (None, nobody)
    assert [row.id for row in await client.tasks("sleeping")] == ["bad", "later"]
    assert detail(rows["later"]) == f"until 2100-01-01T00:00:00Z; {rows['later'].reason}"
    one = await client.task("later")
    assert (one.state, one.until, one.reason) == ("sleeping", rows["later"].until, rows["later"].reason)
    async with fake_node(etcd.endpoint, namespace, handlers=("h",), capacity=0) as node:
        assert (await client.task("plain")).reason == FULL.replace("1 of 1", "0 of 0")
        assert (await client.task("later")).reason == "by not_before in its props; no node owns it until then"
        due = (await client.task("due")).reason or ""
        assert due.startswith("its time has come: a node wakes it up at once"), "a full node does, too"
        await node.own("later")
        del node.rows["later"]
        one = await client.task("later")
        assert (one.state, one.until, one.reason, one.node) == ("sleeping", 4102444800.0, None, "n1")
    await client._etcd.put(client._layout.state("later"), format_state(TaskState()))
    assert (await client.task("later")).state != "sleeping", "a command has woken it"


async def test_of_owned_tasks(client: AsyncClient, etcd: EtcdServer, namespace: str) -> None:
    for task_id in ("runs", "held", "starting", "orphan", "odd"):
        await client.submit(task_id)
    await client._etcd.put(client._layout.owner("orphan"), format_owner("gone"))
    await client._etcd.put(client._layout.owner("odd"), "{}")
    async with fake_node(etcd.endpoint, namespace, handlers=("h",)) as node:
        await node.own("runs", attempt=1)
        await node.own("held", reason="its props could not be read")
        await node.own("starting")
        del node.rows["starting"]
        rows = {row.id: row.reason for row in await client.tasks()}
        assert rows["runs"] is None
        assert rows["held"] == "its props could not be read"
        assert (rows["starting"] or "").startswith("node n1 has claimed it and runs no process of it: not yet")
        assert (
            rows["orphan"]
            == "node gone owns it and is gone: the claim ends with its lease (mpfora doctor tells of one on none)"
        )
        assert "cannot be read" in (rows["odd"] or "")
        for task_id, reason in rows.items():
            assert (await client.task(task_id)).reason == reason


async def test_history_of_one_task(client: AsyncClient) -> None:
    await client.submit("p1")
    assert (await client.task("p1")).history == ()
    runs = (Run("n1", 1, 7, 10.0, 12.0, "raised", "ValueError: no", 1.5, 4096), Run("n2", 2))
    await client._etcd.put(client._layout.history("p1"), format_history(runs))
    task = await client.task("p1")
    assert task.history == runs
    assert task.to_json()["history"][0]["started"] == "1970-01-01T00:00:10Z"
    assert [row.history for row in await client.tasks()] == [None]
    await client._etcd.put(client._layout.history("p1"), "{")
    assert (await client.task("p1")).history == ()


async def test_many_pending_tasks_are_listed_quickly_enough_to_be_looked_at(client: AsyncClient) -> None:
    """Tasks alike share one reason."""
    await client.submit_many((f"t{n}", {"n": n}) for n in range(1500))
    rows = await asyncio.wait_for(client.tasks(), 20)
    assert len({id(row.reason) for row in rows}) == 1


async def test_what_stands_there_under_no_task_s_id(client: AsyncClient, etcd: EtcdServer, namespace: str) -> None:
    async with fake_node(etcd.endpoint, namespace, handlers=("h",)):
        etcd.put(f"/{namespace}/tasks/x y", "")
        [task] = await client.tasks()
        assert task.reason == (
            "no node takes it: task id 'x y': use 1 to 128 of the characters A-Z a-z 0-9 . _ : @ -;"
            " remove its key with etcdctl"
        )
