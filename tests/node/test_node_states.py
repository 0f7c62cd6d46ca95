"""The states of tasks on real nodes, a real etcd and real children: any sequence of commands, ends of runs and changes
of nodes, in each step for several tasks at once, against a small model that is told from the table in words.

What happens at one time may happen in any order: the model says which results there can be, and after each step, when
everything has come to rest, what is found must be one of them. The seed is printed first; `--states-seed N` draws the
same steps again (their timing is the machine's), and --long takes many more of them.
"""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from etcd_server import EtcdServer, encoded
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from node import LIMIT_S, Node, Site, is_alive, until
from node_handlers import RecordedRun, check_runs, runs
from puppets import ERRORS, LEFT, ORDERS, give

from mpfora import Message
from mpfora.errors import NotTaken, TaskNotFound
from mpfora.model.state import TaskState, Verb
from mpfora.store.command_records import format_message
from mpfora.store.history_records import RUNS_KEPT, parse_history
from mpfora.store.state_records import parse_state

TASKS = ("a", "b", "c", "d", "e", "f")
MAX_ERRORS = 2
#: a sleep that ends by itself within the step, and one that does not
DOZE_S, SLEEP_S = 0.3, 3600.0
RETRY = {"max_errors": MAX_ERRORS, "within": "1h", "delay": "0.2s", "factor": 1, "jitter": 0}
TERMINAL = ("completed", "failed", "killed")

# -- the model --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Is:
    """Where a task can be. state: a name of the table; "dozing" is a sleep that is about to end. errors: how many it
    has had; ended: whether its run has ended by what was done."""

    state: str
    errors: int = 0
    ended: bool = False

    def to(self, state: str | None, errors: int = 0, ended: bool = False) -> Is:
        """state None: there is no such transition, and nothing happens."""
        return self if state is None else Is(state, self.errors + errors, self.ended or ended)


def table(state: str, verb: str) -> str | None:
    """Where a message leads; None: nowhere. "doze" is a short sleep."""
    if state in TERMINAL:
        return None
    if verb in ("release", "checkpoint"):
        return state
    there = {"run": "runnable", "pause": "paused", "kill": "killed", "sleep": "sleeping", "doze": "dozing"}
    return "completed" if verb == "complete" and state == "runnable" else there.get(verb)


def ends(before: Is, how: str, asked: str | None = None) -> Is:
    """A run ends so, while it was asked to make room for a command, or was not."""
    if how == "result":
        return before.to("completed", ended=True)
    if how in ERRORS:
        if asked not in (None, "release"):
            return before.to(table("runnable", str(asked)), errors=1, ended=True)
        return before.to("failed" if before.errors + 1 >= MAX_ERRORS else "dozing", errors=1, ended=True)
    if how in ("obeys", "hangs"):
        return before.to(table("runnable", asked or "release"), ended=True)
    merely_leaves = how in ("release", "checkpoint", "run")
    is_overruled = asked is not None and how != "complete" and (asked == "kill" or merely_leaves)
    return before.to(table("runnable", str(asked) if is_overruled else how), ended=True)


def commanded(before: Is, verb: str) -> set[Is]:
    """A command reaches a task that is left alone besides, or that wakes up meanwhile."""
    found = set()
    for at in (before, before.to("runnable")) if before.state == "dozing" else (before,):
        stops_it = at.state == "runnable" and verb not in ("run", "checkpoint")
        found.add(at.to(table(at.state, verb), ended=stops_it))
    return found


def possible(before: Is, does: list[str], is_disturbed: bool) -> set[Is]:
    """What may have become of a task. does: what was done to it at one time: commands, or "!how" for an end that its
    run was ordered to come to. is_disturbed: its run may have been lost, or given back, on the way."""
    orders = [what[1:] for what in does if what.startswith("!")]
    verbs = [what for what in does if not what.startswith("!")]
    found = {before}
    for verb in verbs:
        found = {after for at in found for after in commanded(at, verb)}
    last = commanded(before, verbs[-1]) if verbs else set()  # it wins
    found |= last
    if any(verb not in ("run", "checkpoint") for verb in verbs[:-1]):  # also of a run that was asked to end before it
        found |= {replace(at, ended=True) for at in last}
    for how in orders:
        ended = ends(before, how)
        found |= {after for verb in verbs[-1:] for after in commanded(ended, verb)}
        asking = [verb for verb in verbs[-1:] if verb not in ("run", "checkpoint")]
        found |= {ends(before, how, verb) for verb in asking}
        if not asking or is_disturbed:
            found |= {ended}
        if not verbs and not is_disturbed:
            found = {ended}
    if (
        before.state != "runnable" and len(verbs) > 1
    ):  # what the first has woken may not run yet when the next one comes
        found |= {replace(at, ended=False) for at in found}
    rested = {at.to("runnable") if at.state == "dozing" else at for at in found}
    return rested | ({at.to(at.state, ended=True) for at in rested} if is_disturbed else set())


# -- the world --------------------------------------------------------------------------------------------------------


class World:
    """Two nodes and their tasks; lives for the whole test. All that is done is printed, for whoever has to find out."""

    def __init__(self, etcd: EtcdServer, namespace: str, folder: Path) -> None:
        self.site, self.folder = Site(etcd, namespace), folder
        for name in (ORDERS, LEFT):
            (folder / name).mkdir()
        self.nodes: dict[str, Node] = {}
        self.ids = (f"t{n}" for n in range(10**6))
        self.counts: dict[str, int] = {}
        #: task -> the run that was ordered to end
        self.ordered: dict[str, int] = {}

    def start(self, name: str, *, joined: bool = True) -> None:
        self.nodes[name] = self.site.start(
            "puppets:puppet", name=name, joined=joined, max_tasks=0, stop_timeout=0.7, lease_ttl=5, save_every=0.05,
            retry=[f"{field}={value}" for field, value in RETRY.items()],
            balancer="none",  # a move for the balance comes when it likes, long after the node that it is for
        )  # fmt: skip

    def say(self, text: str) -> None:
        print(f"{time.monotonic():.2f} {text}", flush=True)

    # -- what is there ------------------------------------------------------------------------------------------------

    def runs(self, task_id: str) -> list[RecordedRun]:
        return runs(self.folder, task_id)

    def kept(self, task_id: str, content: dict[str, str]) -> TaskState:
        text = content.get(f"state/{task_id}")
        return TaskState() if text is None else parse_state(text)

    def found(self, task_id: str, attempt: int, content: dict[str, str]) -> Is | None:
        """Where the task is, once it is at rest there. attempt: how many of its runs had ended before."""
        kept = self.kept(task_id, content)
        keys = [key for key in content if key == f"tasks/{task_id}" or key.startswith(f"tasks/{task_id}/")]
        living = [run for run in self.runs(task_id) if is_alive(run.pid)]
        is_at = Is(
            kept.state.value,
            sum(1 for error in kept.errors if error.cause in ERRORS.values()),
            ended=kept.attempt > attempt,
        )
        if kept.terminal:
            return is_at if not keys and not living else None
        has_owner, is_asleep = f"tasks/{task_id}/owner" in keys, kept.until is not None
        is_settled = has_owner is not is_asleep and f"tasks/{task_id}/commands" not in keys
        awaited = [kept.attempt + 1] if is_at.state == "runnable" else []
        if awaited and self.ordered.get(task_id, 0) > kept.attempt:
            return None  # the run is about to end
        is_due = kept.until is not None and kept.until < time.time() + SLEEP_S / 2
        return is_at if is_settled and not is_due and [run.attempt for run in living] == awaited else None

    # -- what may be done to a task -----------------------------------------------------------------------------------

    def command(self, task_id: str, verb: str) -> None:
        message = {"sleep": Message.sleep(time.time() + SLEEP_S), "doze": Message.sleep(time.time() + DOZE_S)}
        told = message.get(verb) or Message(Verb(verb))
        try:
            self.site.client.command(task_id, told)
        except TaskNotFound:
            self.say(f"  {task_id}: too late for {verb}")
        except NotTaken:
            self._command_as_go(task_id, told)

    def _command_as_go(self, task_id: str, message: Message) -> None:
        """Go's commander does not look at the state: the node has to."""
        key, command = self.site.layout.task(task_id), self.site.layout.commands(task_id)
        put = {"key": encoded(command.encode()), "value": encoded(format_message(message).encode())}
        is_there = {"key": encoded(key.encode()), "target": "VERSION", "result": "GREATER", "version": "0"}
        self.site.etcd.post("kv/txn", {"compare": [is_there], "success": [{"requestPut": put}]})

    def order(self, task_id: str, how: str) -> None:
        attempt = self.kept(task_id, self.site.content()).attempt + 1
        sleeps = {"sleep": SLEEP_S, "doze": DOZE_S}
        do = "sleep" if how in sleeps else how
        give(self.folder, task_id, attempt, do=do, seconds=sleeps.get(how))
        if how in ENDS:
            self.ordered[task_id] = attempt

    # -- what may be done to nodes ------------------------------------------------------------------------------------

    def disturb(self, what: str, name: str) -> None:
        getattr(self, f"_{what}")(name)

    def _kill(self, name: str) -> None:
        """The supervisor is killed, and a new one started in its place."""
        self.nodes[name].send(signal.SIGKILL)
        self.nodes[name].exit_code()
        self.nodes[name].wait_empty()
        self.start(name)

    def _stop(self, name: str) -> None:
        """It leaves in order, and comes back."""
        assert self.nodes[name].stop() == 0
        self.start(name)

    def _outage(self, name: str) -> None:
        """Nobody is there for a moment."""
        for node in self.nodes.values():
            node.send(signal.SIGTERM)
        for node in self.nodes.values():
            assert node.exit_code() == 0
        for each in self.nodes:
            self.start(each)

    def _drain(self, name: str) -> None:
        self.site.client.node_command_and_wait(name, "drain")
        self.site.client.node_command_and_wait(name, "undrain")

    def _freeze(self, name: str) -> None:
        self.site.client.node_command_and_wait(name, "freeze")
        self.site.client.node_command_and_wait(name, "unfreeze")

    def _kill_all(self, name: str) -> None:
        """As when the power fails: nobody is left to release the claims, which end with the lease."""
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for stat in self.nodes[name].tree():
                with suppress(ProcessLookupError):  # its parent's death has killed it
                    os.kill(stat.pid, number)
        self.nodes[name].exit_code()
        self.nodes[name].wait_empty()
        self.start(name + "x" if len(name) < 8 else name[:2], joined=True)
        del self.nodes[name]


# -- the steps --------------------------------------------------------------------------------------------------------

VERBS = ("run", "pause", "kill", "release", "checkpoint", "complete", "sleep", "doze")
ENDS = ("result", *ERRORS, "release", "checkpoint", "run", "pause", "kill", "complete", "sleep", "doze")
commands, orders = st.sampled_from(VERBS), st.sampled_from(ENDS).map(lambda how: f"!{how}")
#: what is done to one task in one step, at one time: nothing, a command, an end of its run, or two of them
deeds = st.one_of(
    st.just([]),
    commands.map(lambda verb: [verb]),
    orders.map(lambda how: [how]),
    st.tuples(commands, commands).map(list),
    st.tuples(commands, orders).map(list),
    st.tuples(orders, commands).map(list),
)
#: before it: the run stops listening, or saves
moods = st.sampled_from([None, None, "deaf", "save"])
disturbances = st.sampled_from([None, None, None, "kill", "stop", "drain", "freeze", "outage"])


def machine(world: World, disturbances: st.SearchStrategy[str | None]) -> type[RuleBasedStateMachine]:
    """The machine for hypothesis: each of its lives has new tasks in the same namespace."""

    class TaskStates(RuleBasedStateMachine):
        """at          where each task is, as the model and the store agree
        attempts    how many of its runs had ended then
        may_forget  a whole node has died
        fresh       those that were submitted since;  old  those that have finished and were followed by others"""

        @initialize(verbs=st.lists(st.sampled_from([None, *VERBS]), min_size=len(TASKS), max_size=len(TASKS)))
        def are_submitted(self, verbs: list[str | None]) -> None:
            """Each task is new, and commanded before or while it is claimed and started."""
            self.tasks: list[str] = []
            self.at: dict[str, Is] = {}
            self.attempts: dict[str, int] = {}
            self.fresh: set[str] = set()
            self.old: list[str] = []
            self.may_forget = False
            for verb in verbs:
                task_id = self._submit()
                self.tasks.append(task_id)
                if verb is not None:
                    world.command(task_id, verb)
            does = {task_id: [verb] if verb else [] for task_id, verb in zip(self.tasks, verbs, strict=True)}
            world.say(f"submitted {does}")
            self._rest(does)

        def _submit(self) -> str:
            task_id = next(world.ids)
            self.at[task_id], self.attempts[task_id] = Is("runnable"), 0
            self.fresh.add(task_id)
            world.site.submit(task_id, folder=str(world.folder))
            return task_id

        def _follow_finished(self) -> None:
            """A new task in the place of each that has finished, not waited for."""
            for place, task_id in enumerate(self.tasks):
                if self.at[task_id].state in TERMINAL:
                    self.old.append(task_id)
                    self.tasks[place] = self._submit()

        @rule(
            does=st.lists(deeds, min_size=len(TASKS), max_size=len(TASKS)),
            moods=st.lists(moods, min_size=len(TASKS), max_size=len(TASKS)),
            disturbance=disturbances,
            name=st.sampled_from(["n1", "n2"]),
            is_first=st.booleans(),
        )
        def happen(
            self,
            does: list[list[str]],
            moods: list[str | None],
            disturbance: str | None,
            name: str,
            is_first: bool,
        ) -> None:
            self._follow_finished()
            self.may_forget |= disturbance == "kill_all"
            by_task = {
                task_id: [what for what in deed if not what.startswith("!") or self.at[task_id].state == "runnable"]
                for task_id, deed in zip(self.tasks, does, strict=True)
            }
            name = name if name in world.nodes else next(n for n in world.nodes if n[:2] == name)
            world.say(f"{by_task} {moods} {disturbance} of {name} {'first' if is_first else 'then'}")
            for task_id, mood in zip(self.tasks, moods, strict=True):
                if mood is not None and self.at[task_id].state == "runnable" and task_id not in self.fresh:
                    self._put_in(task_id, mood)
            if disturbance is not None and is_first and disturbance != "outage":
                world.disturb(disturbance, name)
            for task_id, deed in by_task.items():
                for what in deed:
                    if what.startswith("!"):
                        world.order(task_id, what[1:])
                    else:
                        world.command(task_id, what)
            if disturbance is not None and not (is_first and disturbance != "outage"):
                world.disturb(disturbance, name)
            self._rest(by_task, is_disturbed=disturbance is not None)

        def _put_in(self, task_id: str, mood: str) -> None:
            saved = world.site.get(world.site.layout.checkpoint(task_id))
            world.order(task_id, mood)
            taken = world.folder / ORDERS / task_id
            until(lambda: not taken.exists(), f"{task_id} {mood}")
            if mood == "save":
                until(lambda: world.site.get(world.site.layout.checkpoint(task_id)) != saved, f"{task_id} has saved")

        def _rest(self, does: dict[str, list[str]], *, is_disturbed: bool = False) -> None:
            """Until every task is where it may be."""
            allowed = {
                task_id: possible(Is(self.at[task_id].state, self.at[task_id].errors), does[task_id], is_disturbed)
                for task_id in self.tasks
            }
            # a command may come before the first run; a first run that was lost with its whole node is known to those
            # nodes alone that were there to see it, and the next owner may be a newer one
            unknown = [task_id for task_id in self.tasks if self.may_forget and not self.attempts[task_id]]
            for task_id in [*self.fresh, *unknown]:
                allowed[task_id] |= {replace(at, ended=False) for at in allowed[task_id]}
            self.fresh.clear()
            found: dict[str, Is] = {}

            def look() -> bool:
                content = world.site.content()
                at = {task_id: world.found(task_id, self.attempts[task_id], content) for task_id in self.tasks}
                found.clear()
                found.update({task_id: here for task_id, here in at.items() if here in allowed[task_id]})
                return len(found) == len(self.tasks)

            try:
                until(look, lambda: self._told(allowed, does, found), LIMIT_S / 2)
            except AssertionError as error:
                world.say(str(error))  # hypothesis may say something else, if it goes well a second time
                raise
            self.at.update(found)
            content = world.site.content()
            for task_id in self.tasks:
                self._check(task_id, content, None if is_disturbed else len(does[task_id]))
                world.counts[self.at[task_id].state] = world.counts.get(self.at[task_id].state, 0) + 1

        def _check(self, task_id: str, content: dict[str, str], most: int | None) -> None:
            """What holds of every task at rest. most: so many of its runs may have ended; None: any number."""
            kept = world.kept(task_id, content)
            attempts, recorded = kept.attempt, world.runs(task_id)
            (world.folder / ORDERS / task_id).unlink(missing_ok=True)
            world.ordered.pop(task_id, None)
            assert attempts >= self.attempts[task_id], "attempts are never forgotten"
            assert most is None or attempts <= self.attempts[task_id] + most, "something was carried out twice"
            self.attempts[task_id] = attempts
            check_runs(world.folder, task_id)
            numbers = [run.attempt for run in recorded]
            if self.may_forget and 1 in numbers:
                numbers = numbers[numbers.count(1) - 1 :]
            assert numbers == sorted(set(numbers)), "each run has a number of its own"
            counts = [run.count for run in recorded]
            assert counts == sorted(counts), f"what was saved went back: {recorded}"
            saved = (json.loads(content.get(f"checkpoints/{task_id}", "null")) or {"count": 0})["count"]
            assert kept.terminal or not counts or counts[-1] <= saved, "what is saved stays until the end"
            history = parse_history(content.get(f"history/{task_id}", "[]"))
            assert [run.attempt for run in history] == list(range(1, attempts + 1))[-RUNS_KEPT:], history
            assert all(run.cause for run in history)
            for left in [run for run in history if run.cause == "released"]:
                note = world.folder / LEFT / f"{task_id} {left.attempt}"
                assert kept.terminal or not note.exists() or int(note.read_text()) <= saved, f"{left} was not kept"
            last = history[-1].cause if history else ""
            assert kept.cause == last

        def _told(self, allowed: dict[str, set[Is]], does: dict[str, list[str]], found: dict[str, Is]) -> str:
            content = world.site.content()
            lines = [
                f"{task_id} was {self.at[task_id]}, {does[task_id]}; may be {allowed[task_id]}; is"
                f" {world.found(task_id, self.attempts[task_id], content)} {world.kept(task_id, content)}"
                f" {[key for key in content if f'/{task_id}' in key]} {world.runs(task_id)[-2:]}"
                for task_id in self.tasks
                if task_id not in found
            ]
            return "\n".join(["at rest where they may be, but", *lines])

        def teardown(self) -> None:
            """Whatever it is and does, a task is deleted and nothing of it is left."""
            tasks = [*getattr(self, "tasks", []), *getattr(self, "old", [])]
            for task_id in tasks:
                world.site.client.delete(task_id, wait=False)
            living = [run.pid for task_id in tasks for run in world.runs(task_id)]
            until(lambda: not any(map(is_alive, living)), "their processes are dead")
            until(
                lambda: not [key for key in world.site.content() if set(key.split("/")) & set(tasks)],
                "nothing is left of them",
            )

    return TaskStates


@pytest.fixture
def world(etcd: EtcdServer, namespace: str, tmp_path: Path) -> Iterator[World]:
    made = World(etcd, namespace, tmp_path)
    with made.site:
        made.start("n1")
        made.start("n2")
        yield made


def run(world: World, number: int | None, lives: int, steps: int, what: st.SearchStrategy[str | None]) -> None:
    number = random.SystemRandom().randrange(10**6) if number is None else number
    print(f"--states-seed {number}: {lives} lives of {steps} steps for {len(TASKS)} tasks", flush=True)
    # the first life that hypothesis draws is one in which nothing happens. It holds lives that it draws from one seed
    # against each other, and takes what the machine's timing makes of them for an error of the test: a seed for each
    options = settings(
        max_examples=2, stateful_step_count=steps, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck), print_blob=False,
    )  # fmt: skip
    for life in range(lives):
        run_state_machine_as_test(seed(number + life)(machine(world, what)), settings=options)
    print(f"came to rest {world.counts}", flush=True)


@pytest.mark.timeout(300)
def test_tasks_come_to_rest_where_the_table_says(world: World, pytestconfig: pytest.Config) -> None:
    run(world, pytestconfig.getoption("--states-seed"), 2, 10, disturbances)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_tasks_come_to_rest_where_the_table_says_for_long(world: World, pytestconfig: pytest.Config) -> None:
    run(world, pytestconfig.getoption("--states-seed"), 40, 15, st.one_of(disturbances, st.just("kill_all")))
