"""Consumer: nodes that programs start themselves, with handlers of the running script, and balancers of their own."""

from __future__ import annotations

import asyncio
import os
import sys
import textwrap
import threading
from pathlib import Path

import pytest
from etcd_server import EtcdServer
from node import LIMIT_S, Site, is_alive, until
from places import ROOT

from mpfora import Consumer, MemoryCoordinator, NoBalancer
from mpfora.config.handler_spec import HandlerSpecError
from mpfora.config.settings import SettingsError
from mpfora.errors import BadValue
from mpfora.model.code import ReloadState
from mpfora.supervisor.coordinator.memory import MemoryStore

SCRIPT = """
    import sys
    import threading
    import mpfora
    from mpfora import Consumer, EtcdCoordinator, FairBalancer, Handler, NoBalancer

    print("imported as", __name__, flush=True)
    BASE = 40

    def add(task, ctx):
        return BASE + task.props["n"]

    class Later(Handler):
        def run(self):
            self.stopped = threading.Event() if not hasattr(self, "stopped") else self.stopped
            return not self.stopped.wait(task_s(self.task))

        def stop(self):
            self.stopped = threading.Event() if not hasattr(self, "stopped") else self.stopped
            self.stopped.set()

    def task_s(task):
        return task.props.get("seconds", 0.01)

    if __name__ == "__main__":
        import logging
        logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(message)s")
        endpoint, namespace, name = sys.argv[1:]
        Consumer(
            EtcdCoordinator(endpoint, namespace=namespace),
            [add, Later, "spelled=operator:is_"],
            NoBalancer(),
            name=name,
            max_tasks=3,
            stop_timeout_s=1,
        ).run()
        print("after run", file=sys.stderr)
"""


@pytest.mark.parametrize("way", ["by path", "as a module", "as a package"])
def test_handlers_of_the_running_script(etcd: EtcdServer, namespace: str, tmp_path: Path, way: str) -> None:
    """As a user starts it: `python app.py`, `python -m app`, `python -m package`."""
    if way == "as a package":
        (tmp_path / "package").mkdir()
        (tmp_path / "package" / "__init__.py").touch()
    path = tmp_path / ("package/__main__.py" if way == "as a package" else "app.py")
    path.write_text(textwrap.dedent(SCRIPT))
    start = {"by path": ["app.py"], "as a module": ["-m", "app"], "as a package": ["-m", "package"]}[way]
    with Site(etcd, namespace) as site:
        site.submit("a", "add", n=2)
        site.submit("b", "Later")
        site.submit("c", "Later", seconds=3600)
        node = site.run([sys.executable, *start, etcd.endpoint, namespace, "n1"], cwd=tmp_path)
        node.wait_joined()
        assert site.wait_end("a").result == 42
        assert site.wait_end("b").state == "completed"
        site.submit("d", "spelled")
        assert site.wait_end("d").result is False
        node.child("c")
        assert node.stop() == 0
        assert node.log.find("after run$")
        assert node.log.find("imported as __mp_main__$")
        assert site.kept("c").cause == "released"
        assert site.client.task("c").state == "pending"


BALANCER = """
    from mpfora import Balancer

    class Picky(Balancer):
        def may_claim(self, view, task):
            return task.id.startswith("mine")

        def choose_releases(self, view):
            return [task.id for task in view.mine if task.id.endswith("2")]
"""


def test_a_balancer_of_one_s_own(etcd: EtcdServer, namespace: str, tmp_path: Path) -> None:
    (tmp_path / "picky.py").write_text(textwrap.dedent(BALANCER))
    with Site(etcd, namespace) as site:
        for task_id in ("other", "mine1"):
            site.submit(task_id, seconds=0.01)
        env = {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
        node = site.start("zoo:sleep", balancer="picky:Picky", env=env)
        site.submit("mine2")
        assert site.wait_end("mine1").result == "slept"
        first, claim = node.child("mine2"), site.fence("mine2")
        site.wait_taken(site.tell_node("n1", "balance"))
        until(lambda: site.fence("mine2") > claim, "released and claimed anew")
        assert not is_alive(first)
        assert site.owner("other") is None
        assert node.stop() == 0


async def test_in_a_running_event_loop_with_everything_in_memory() -> None:
    """As a test of a user's own does it: no etcd, real processes."""
    store = MemoryStore("test")
    store.submit("t", {"value": 7})
    consumer = Consumer(MemoryCoordinator(store), "zoo:result", name="n1", max_tasks=2, lease_ttl_s=30)
    running = asyncio.create_task(consumer.run_async())
    await store.wait_for(lambda: not store.tasks(), LIMIT_S)
    consumer.stop()
    await asyncio.wait_for(running, LIMIT_S)
    state = store.state("t")
    assert state is not None
    assert (state.state, state.result, state.node) == ("completed", 7, "n1")
    assert store.owner("t") is None


async def test_a_call_reloads_the_code_of_its_handlers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    module = tmp_path / "reloaded_by_call.py"
    module.write_text("def run(task, ctx):\n    return 1\n")
    store = MemoryStore("test")
    consumer = Consumer(MemoryCoordinator(store), "reloaded_by_call:run", name="n1", lease_ttl_s=30)
    consumer.reload()  # before its run it is of no effect
    running = asyncio.create_task(consumer.run_async())
    results = []
    for number, text in enumerate(["1", "1", "22", "oops("]):
        module.write_text(f"def run(task, ctx):\n    return {text}\n")
        if number:
            threading.Thread(target=consumer.reload, args=("new code", 5.0)).start()
        await store.wait_for(lambda number=number: is_over(store, number), LIMIT_S)
        store.submit(f"t{number}", {})
        await store.wait_for(lambda: not store.tasks(), LIMIT_S)
        state = store.state(f"t{number}")
        assert state is not None
        results.append(state.result)
    assert results == [1, 1, 22, 22]
    for within in (-1.0, float("nan"), "5m", True):
        with pytest.raises(BadValue, match="within_s"):
            consumer.reload(within_s=within)  # type: ignore[arg-type]
    consumer.stop()
    await asyncio.wait_for(running, LIMIT_S)


def is_over(store: MemoryStore, reloads: int) -> bool:
    """Whether the record of the node tells of this many generations, or of a failure."""
    member = store.member("n1")
    if member is None or member.code is None:
        return member is not None and reloads == 0
    last = member.code.reload
    return member.code.generation > reloads or (last is not None and last.state is ReloadState.FAILED)


def test_run_in_a_thread_is_stopped_from_another() -> None:
    store = MemoryStore("test")
    store.submit("t", {})
    consumer = Consumer(MemoryCoordinator(store), "zoo:sleep", NoBalancer(), name="n1", stop_timeout_s=5)
    thread = threading.Thread(target=consumer.run)
    thread.start()
    try:
        until(lambda: store.owner("t") is not None, "claimed")
    finally:
        consumer.stop()
        thread.join(LIMIT_S)
    assert not thread.is_alive()
    assert store.owner("t") is None


def test_a_stop_before_the_run_is_not_lost() -> None:
    consumer = Consumer(MemoryCoordinator(MemoryStore("test")), "zoo:sleep", NoBalancer(), name="n1")
    consumer.stop()
    thread = threading.Thread(target=consumer.run, daemon=True)
    thread.start()
    thread.join(LIMIT_S)
    assert not thread.is_alive()
    consumer.stop()  # after its end it is of no effect


@pytest.mark.parametrize(
    ("handlers", "error"),
    [
        ([], HandlerSpecError),
        ("nonsense", HandlerSpecError),
        (lambda task, ctx: None, HandlerSpecError),
        (["a=zoo:sleep", "a=zoo:result"], HandlerSpecError),
    ],
    ids=["none", "no spec", "a lambda", "twice"],
)
def test_handlers_that_no_zygote_could_import(handlers: object, error: type[Exception]) -> None:
    with pytest.raises(error):
        Consumer(MemoryCoordinator(), handlers)  # type: ignore[arg-type]


def test_settings_that_cannot_hold() -> None:
    with pytest.raises(SettingsError, match="--lease-ttl"):
        Consumer(MemoryCoordinator(), "zoo:sleep", lease_ttl_s=1)
    with pytest.raises(TypeError, match="no_such_setting"):
        Consumer(MemoryCoordinator(), "zoo:sleep", no_such_setting=1)
