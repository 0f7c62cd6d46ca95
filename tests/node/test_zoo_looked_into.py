"""Each animal of the zoo that hangs is asked for its stack and its profile while it does, from outside, of a real node:
what is told names the place, or says why it cannot."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from etcd_server import EtcdServer
from node import Node, Site, until

from mpfora.errors import MpforaError, NodeSilent
from mpfora.supervisor.zygote import live_stack

needs_py_spy = pytest.mark.skipif(live_stack.find_py_spy() is None, reason="py-spy is not installed")

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.keeps_processes("one node answers for all animals of the module"),
    needs_py_spy,
]


@dataclass(frozen=True)
class Animal:
    """place: what its stack names; how: who tells it, "" any; profile: what its profile names, or why there is none"""

    name: str
    place: str
    how: str = "task"
    profile: str = ""
    module: str = "zoo"

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


ANIMALS = (
    Animal("busy_loop", "busy_loop"),
    Animal("deadlock", "deadlock"),
    Animal("gil_in_c", "gil_in_c", how="py-spy", module="zygote_zoo"),
    Animal("gil_in_c", "gil_in_c", how=""),
    Animal("blocks_signals", "blocks_signals", how="py-spy"),
    Animal("ignores_signals", "ignores_signals"),
    Animal("async_deadlock", "first"),
    Animal("async_blocked", "async_blocked"),
    Animal("async_deaf", "async_deaf"),
    Animal("takes_sigusr2", "takes_sigusr2"),
    Animal("forked_and_waits", "forked_and_waits", module="zygote_zoo"),
    Animal("async_waits", "async_waits", module="zygote_zoo"),
    Animal("stop_itself", "stop_itself", how="", profile="stopped"),
)
IDS = [str(animal) for animal in ANIMALS]


@pytest.fixture(scope="module")
def zoo(shared_etcd: EtcdServer) -> Iterator[tuple[Site, Node]]:
    with Site(shared_etcd, f"zoo-{time.monotonic_ns()}") as site:
        handlers = [f"h{number}={animal.module}:{animal.name}" for number, animal in enumerate(ANIMALS)]
        node = site.start(*handlers, name="n1", max_tasks=0, lease_ttl=15)
        for number, _ in enumerate(ANIMALS):
            site.submit(f"t{number}", f"h{number}")
        yield site, node


@pytest.mark.parametrize(("number", "animal"), list(enumerate(ANIMALS)), ids=IDS)
def test_its_stack_names_the_place_and_it_goes_on(zoo: tuple[Site, Node], number: int, animal: Animal) -> None:
    site, _ = zoo
    seen: list[Any] = []

    def told() -> bool:
        seen.append(_asked(lambda: site.client.stack(f"t{number}")))
        stack = seen[-1]
        if stack is None or animal.how not in ("", stack.how):
            return False
        return animal.place in stack.text or bool(animal.profile and animal.profile in stack.note)

    until(told, lambda: f"its place: {seen[-1:]}")
    stack = seen[-1]
    assert (stack.node, stack.attempt) == ("n1", 1)
    assert "call_handler" not in stack.text or stack.how != "task"
    assert site.client.stack(f"t{number}").pid == stack.pid  # the same process, alive


@pytest.mark.parametrize(("number", "animal"), list(enumerate(ANIMALS)), ids=IDS)
def test_its_profile_names_the_place_or_says_why_not(zoo: tuple[Site, Node], number: int, animal: Animal) -> None:
    site, _ = zoo
    found = until(lambda: _profile(site, f"t{number}"), "a profile")
    if isinstance(found, MpforaError):
        assert animal.profile
        assert animal.profile in str(found)
        return
    profile = found
    frames = {frame for stack, _ in profile.stacks for frame in stack}
    assert animal.profile or any(animal.place in frame for frame in frames), (profile.title, profile.note, frames)
    assert profile.attempt == 1


def test_the_node_beside_them_is_undisturbed(zoo: tuple[Site, Node]) -> None:
    site, node = zoo
    until(lambda: not [key for key in site.content() if key.startswith(("requests/", "answers/"))], "nothing is left")
    assert not node.log.find("bug in mpfora")
    assert all(site.kept(f"t{number}").attempt == 0 for number, _ in enumerate(ANIMALS))  # none has ended


def _profile(site: Site, task_id: str) -> Any:
    try:
        return _asked(lambda: site.client.profile(task_id, seconds=1, timeout=60))
    except MpforaError as error:
        return error


def _asked(ask: Any) -> Any:
    """None: its process is about to start, or its node was busy."""
    try:
        return ask()
    except NodeSilent:
        return None
    except MpforaError as error:
        if "no process of it" in str(error) or "ask again" in str(error) or "no node has it" in str(error):
            return None
        raise
