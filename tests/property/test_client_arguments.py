"""Whatever arguments a client call is given, it raises an MpforaError that names the culprit, or does its work."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from etcd_server import EtcdServer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mpfora import AsyncClient, Client, Message
from mpfora.client import NewTask
from mpfora.errors import BadValue, InvalidTask, MpforaError

CALLS = sorted(
    name
    for name, value in vars(Client).items()
    if inspect.isfunction(value) and not name.startswith("_") and name not in ("close", "follow")
)
bounds = st.sampled_from([0.01, 0, -1, -math.inf, math.nan, "x", "1ms", b"1", [], True, object()])

plain = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([10**400, -(10**400), 0, -1, math.nan, math.inf, -math.inf, 1e300]),
    st.floats(),
    st.text(max_size=5),
    st.binary(max_size=3),
    st.sampled_from(["t1", "10m", "pending", "completed", "freeze", "stop_task", "n1", "\ud800", "a/b", "owner", ""]),
    st.sampled_from([object(), len, int, Message.pause(), Message.run(), NewTask("t1"), NewTask(1), NewTask("t1", 3)]),
)
values = st.one_of(
    plain,
    st.lists(plain, max_size=3),
    st.tuples(plain, plain),
    st.dictionaries(st.one_of(st.text(max_size=3), st.integers()), plain, max_size=2),
)


@pytest.fixture(scope="module")
def client(shared_etcd: EtcdServer) -> Iterator[Client]:
    with Client(shared_etcd.endpoint, "test-arguments") as client:
        yield client


def raises_nothing_else(call: Callable[..., object], given: dict[str, Any]) -> None:
    with suppress(MpforaError):
        call(**given)


@given(data=st.data())
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_call_raises_anything_else(client: Client, data: st.DataObject) -> None:
    call = getattr(client, data.draw(st.sampled_from(CALLS)))
    parameters = inspect.signature(call).parameters.values()
    names = [parameter.name for parameter in parameters if parameter.kind is parameter.POSITIONAL_OR_KEYWORD]
    # a wait without end is no error, and no test
    given = {name: data.draw(bounds if name == "timeout" else values, label=name) for name in names}
    raises_nothing_else(call, given)


def test_async_and_sync_take_the_same(etcd: EtcdServer) -> None:
    for name in CALLS:
        assert list(inspect.signature(getattr(Client, name)).parameters) == list(
            inspect.signature(getattr(AsyncClient, name)).parameters
        ), name


@pytest.mark.parametrize(
    ("call", "arguments", "culprit"),
    [
        ("delete", ("t1", 30), "wait"),
        ("delete", ("t1", True, "soon"), "timeout"),
        ("wait", ("t1", math.nan), "timeout"),
        ("wait", (5,), "task_ids"),
        ("wait", ("t1", 1, "x"), "on_held_up"),
        ("command", ("t1", "pause"), "message"),
        ("command_and_wait", ("t1", Message.pause(), []), "timeout"),
        ("tasks", ("compelted",), "state"),
        ("nodes", (1,), "counts"),
        ("purge", (None, "pending"), "state"),
        ("purge", (None, None, -1), "older_than"),
        ("node_command", (5, "freeze"), "node name"),
        ("node_command", ("n1", "explode"), "explode"),
        ("node_command_and_wait", ("n1", "freeze", "never"), "timeout"),
        ("submit", ("t1", None, None, "yes"), "replace"),
        ("submit_many", ([("t1", None)], 0), "window"),
        ("submit_many", ("t1",), "tasks"),
        ("submit_many", ([("t1", None)], 5, 5), "on_existed"),
    ],
)
def test_the_error_names_the_culprit(client: Client, call: str, arguments: tuple[Any, ...], culprit: str) -> None:
    with pytest.raises(BadValue, match=culprit):
        getattr(client, call)(*arguments)


def test_tasks_that_are_none(client: Client) -> None:
    for task in ("ab", 5, (), ("a", None, None, None)):
        with pytest.raises(InvalidTask, match="each must be a NewTask"):
            client.submit_many([task])  # type: ignore[list-item]


@pytest.fixture
def environment_names_an_etcd(shared_etcd: EtcdServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """None for endpoints is no nonsense: without this it starts the embedded etcd."""
    monkeypatch.setenv("MPFORA_ETCD", shared_etcd.endpoint)


@pytest.mark.usefixtures("environment_names_an_etcd")
@given(values, values)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_client_is_made_of_nonsense(endpoints: Any, namespace: Any) -> None:
    raises_nothing_else(AsyncClient, {"endpoints": endpoints, "namespace": namespace})


def test_follow_checks_at_its_first_step(client: Client) -> None:
    with pytest.raises(BadValue, match="interval"):
        next(client.follow("often"))  # type: ignore[arg-type]
