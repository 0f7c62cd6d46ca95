"""Why a pending task is pending: a table of cases, and as it is seen from a client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from etcd_server import EtcdServer
from fake_node import fake_node
from hypothesis import given
from hypothesis import strategies as st

from mpfora import AsyncClient
from mpfora.cli.render import detail
from mpfora.client.pending import Place, why_pending
from mpfora.history import Run, format_history
from mpfora.keys import format_owner, format_state
from mpfora.model import Member, Wants
from mpfora.states import State, TaskState
from mpfora.supervisor.designations import fits


def place(name: str, active: int = 0, **fields: Any) -> Place:
    return Place(Member(name, **({"capacity": 2, "handlers": ("train",)} | fields)), active)


GO = Place(Member("go1"))
MANY = place("n1", handlers=("train", "test"))
GPU = Wants("train", {"gpu": "yes", "zone": "b"})

CASES: list[tuple[str, Wants, list[Place], str]] = [
    ("no node", Wants(), [], "no node is live in this namespace"),
    ("only Go nodes", Wants(), [GO], "no live node says which handlers it has, as Go nodes do not: go1"),
    (
        "no handler of that name",
        Wants("trian"),
        [MANY, place("n2"), GO],
        "no live node has its handler 'trian' (is 'train' meant?): there are test (n1), train (n1, n2)",
    ),
    ("nothing like it", Wants("x"), [place("n1")], "no live node has its handler 'x': there are train (n1)"),
    (
        "names none of several",
        Wants(),
        [MANY],
        "it names no handler, and every live node has several: name one of test (n1), train (n1)",
    ),
    (
        "no labels",
        GPU,
        [place("n1", labels={"gpu": "no"}), place("n2"), place("n3", handlers=("x",), labels={"gpu": "yes"})],
        "no live node with its handler has its labels gpu=yes, zone=b: n1 has gpu=no, no zone, n2 has no gpu, no zone",
    ),
    (
        "no room",
        Wants("train"),
        [
            place("n1", 2),
            place("n2", frozen=True),
            place("n3", draining=True, frozen=True),
            place("n4", 9, capacity=0),
            place("n5", handlers=("x",)),
            place("n6", full=True),
        ],
        "no node that could take it has room: n1 is full (2 of 2), n2 is frozen, n3 is draining, n4 is full (9 of 0),"
        " n6 is taking no more for now, as its balancer says",
    ),
    (
        "may be claimed",
        Wants("train"),
        [place("n1", 2), place("n2", 1), place("n3", 99, capacity=None)],
        "it was submitted or given back a moment ago, or a balancer refuses it; could be claimed by n2, n3",
    ),
    (
        "props that cannot be read",
        Wants(problem="props is no JSON"),
        [place("n1", 2)],
        "its props cannot be read (props is no JSON): no node that could take it has room: n1 is full (2 of 2)",
    ),
    (
        "props that cannot be read, and no node that tells",
        Wants(problem="props is no JSON"),
        [GO],
        "its props cannot be read (props is no JSON): no live node says which handlers it has, as Go nodes do not: go1",
    ),
    (
        "many",
        Wants("train"),
        [place(f"n{n}", 2) for n in range(7)],
        "no node that could take it has room: n0 is full (2 of 2), n1 is full (2 of 2), n2 is full (2 of 2),"
        " n3 is full (2 of 2), n4 is full (2 of 2) and 2 more",
    ),
]


@pytest.mark.parametrize(("wants", "places", "reason"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_reasons(wants: Wants, places: list[Place], reason: str) -> None:
    assert why_pending(wants, places) == reason


def test_what_rests_finds_room_on_a_full_node() -> None:
    assert why_pending(Wants(), [place("n1", 2)], resting=True).endswith("could be claimed by n1")


def test_after_an_unclean_end_nodes_wait() -> None:
    reason = why_pending(Wants(), [place("n1")], vanished=True)
    assert reason == "its last owner went without a word, so others wait a moment; could be claimed by n1"


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


@given(
    st.builds(
        Wants,
        st.sampled_from([None, "h", "i", "j"]),
        st.dictionaries(st.sampled_from("ab"), st.sampled_from("xy")),
        st.sampled_from([None, "bad"]),
    ),
    st.lists(st.builds(Place, MEMBERS, st.integers(0, 2)), max_size=3),
    st.booleans(),
)
def test_a_reason_agrees_with_the_rule_by_which_nodes_claim(wants: Wants, places: list[Place], resting: bool) -> None:
    reason = why_pending(wants, places, resting=resting)
    assert reason
    assert "\n" not in reason
    able = [one for one in places if fits(one.member, wants)]
    assert ("could" in reason) == bool(able)
    free = [
        one
        for one in able
        if not (one.member.frozen or one.member.draining or one.member.full)
        and (resting or one.member.capacity is None or one.active < one.member.capacity)
    ]
    assert ("could be claimed by" in reason) == bool(free)


# -- as clients see it ------------------------------------------------------------------------------------------------


@pytest.fixture
async def client(etcd: EtcdServer, namespace: str) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(etcd.endpoint, namespace) as made:
        yield made


async def test_a_client_sees_why(client: AsyncClient, etcd: EtcdServer, namespace: str) -> None:
    await client.submit("p1", handler="h")
    assert (await client.task("p1")).reason == "no node is live in this namespace"
    async with fake_node(etcd.endpoint, namespace, handlers=("h",), capacity=1) as node:
        for task_id in ("full", "rest"):
            await client.submit(task_id)
            await node.own(task_id)
        await client._etcd.put(node.layout.state("rest"), format_state(TaskState(State.SLEEPING, until=4e9)))
        rows = {row.id: row.reason for row in await client.tasks()}
        assert rows == {"p1": "no node that could take it has room: n1 is full (1 of 1)", "full": None, "rest": None}
        assert (await client.task("p1")).reason == rows["p1"]
        await client._etcd.put(node.layout.props("p1"), "{")
        assert ((await client.task("p1")).reason or "").startswith("its props cannot be read (props is no JSON")
        await client._etcd.put(node.layout.state("p1"), format_state(TaskState(attempt=1, node="n0")))
        assert (await client.task("p1")).node is None, "its last run was on n0, and now it is nobody's"
        await client._etcd.put(node.layout.state("full"), format_state(TaskState(State.PAUSED)))
        assert "went without a word" in ((await client.task("p1")).reason or "")
        await client._etcd.put(node.layout.released("p1"), '{"node":"n1","fence":7}')
        assert "a moment ago" in ((await client.task("p1")).reason or "")


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
        "later": "sleeping", "due": "pending", "plain": "pending", "bad": "pending",
    }  # fmt: skip
    assert rows["later"].until == 4102444800.0
    nobody = "no node is live in this namespace"
    assert rows["later"].reason == f"by not_before in its props; not claimed yet: {nobody}"
    assert (rows["due"].until, rows["due"].reason) == (None, nobody)
    assert [row.id for row in await client.tasks("sleeping")] == ["later"]
    assert detail(rows["later"]) == f"until 2100-01-01T00:00:00Z; {rows['later'].reason}"
    one = await client.task("later")
    assert (one.state, one.until, one.reason) == ("sleeping", rows["later"].until, rows["later"].reason)
    async with fake_node(etcd.endpoint, namespace, handlers=("h",), capacity=0) as node:
        assert (await client.task("plain")).reason == "no node that could take it has room: n1 is full (0 of 0)"
        for task_id in ("later", "due"):
            reason = (await client.task(task_id)).reason or ""
            assert reason.endswith("could be claimed by n1"), "a full node holds sleepers, and wakes them"
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
        assert rows["orphan"] == "node gone owns it and is gone: the claim ends with its lease"
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
