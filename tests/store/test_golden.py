"""The format as it stands in the store, held by files: a change of a key or a value is seen in review.

    MPFORA_UPDATE_GOLDEN=1 pytest tests/store/test_golden.py

writes them anew; look at the difference, and think of the nodes and clients that read the old form."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from mpfora.client.tasks.submit import NewTask, kept_of, replace_txn, submit_txn
from mpfora.model.code import Code, Reload, ReloadState
from mpfora.model.history import Run
from mpfora.model.state import Message, State, TaskError, TaskState, Verb
from mpfora.model.task import Claim, Member
from mpfora.store.batcher import ops_of
from mpfora.store.claim_records import format_owner, format_released
from mpfora.store.command_records import COMMAND_VERBS, NODE_VERBS, format_message, format_node_command
from mpfora.store.history_records import format_history
from mpfora.store.keys import Layout
from mpfora.store.kv import KV, Delete, DeletePrefix, Get, Put, Take, Txn
from mpfora.store.node_records import format_member, format_progress
from mpfora.store.state_records import format_state
from mpfora.supervisor.coordinator.interface import ClaimRequest, Update
from mpfora.supervisor.coordinator.transactions import (
    Session,
    Written,
    claim_txn,
    done_txn,
    keep_txn,
    rare_claim_txn,
    release_txn,
    take_command,
)

GOLDEN = Path(__file__).parent / "golden"
KEYS = Layout("ns")
AT = 1795514400.0


def compare(name: str, lines: Iterable[str]) -> None:
    """With the file of this name, or write it if that is asked for."""
    path, text = GOLDEN / name, "\n".join(lines) + "\n"
    if os.environ.get("MPFORA_UPDATE_GOLDEN"):
        path.write_text(text)
    assert path.exists(), f"{path} is missing: MPFORA_UPDATE_GOLDEN=1 writes it"
    assert text == path.read_text(), f"the format has changed; if that is meant, MPFORA_UPDATE_GOLDEN=1 writes {path}"


def test_keys() -> None:
    compare(
        "keys.txt",
        [
            KEYS.task("ID"),
            KEYS.props("ID"),
            KEYS.owner("ID"),
            KEYS.commands("ID"),
            KEYS.released("ID"),
            KEYS.state("ID"),
            KEYS.checkpoint("ID"),
            KEYS.history("ID"),
            KEYS.finished_until(AT, "ID"),
            KEYS.member("NODE"),
            KEYS.node_command("NODE", "17"),
            KEYS.live("NODE"),
            KEYS.reader("17"),
            *KEYS.markers("NODE"),
            "watched: {} to {}".format(*KEYS.watched),
        ],
    )


ERROR = TaskError(AT + 0.25, "ValueError: <no> & é\nTraceback ...", "raised", "Thread 0x1")
STATES = {
    **{state.value: TaskState(state) for state in State if state is not State.SLEEPING},
    "sleeping": TaskState(State.SLEEPING, until=AT + 0.5),
    "with all": TaskState(
        State.FAILED, errors=(ERROR, TaskError(AT, "exceeded")), attempt=3, cause="raised", node="n1", started=AT,
        ended=AT + 1.5, stack="Thread 0x1", output="the last words", extra={"version": 2}, kept_until=AT + 7,
        handler="work:run", group="g",
    ),
    "with a result": TaskState(State.COMPLETED, result={"found": [1, 2.5, None, "é"]}, attempt=1, cause="completed"),
}  # fmt: skip
MEMBER = Member("n1", "host", 4711, "2026-11-24T10:00:00Z", 4, 2.0, True, False, {"gpu": "no"}, ("primes:count", "h"))

NEED_PARAMETERS = ("stop_task", "restart")
RELOAD = Reload(ReloadState.FAILED, "SIGHUP", "2026-11-24T10:00:00Z", 17, "handler h cannot be imported", "Traceback")


def test_values() -> None:
    rows = {
        "owner": format_owner("n1"),
        "owner, missed": format_owner("n1", "n2"),
        "released": format_released("n1", 42),
        "released, to another": format_released("n1", 42, "n2"),
        **{f"state, {name}": format_state(state) for name, state in STATES.items()},
        **{f"command, {verb}": format_message(Message(verb)) for verb in COMMAND_VERBS if verb is not Verb.SLEEP},
        "command, sleep": format_message(Message.sleep(AT + 0.5)),
        **{f"node command, {verb}": format_node_command(verb) for verb in NODE_VERBS if verb not in NEED_PARAMETERS},
        "node command, stop_task": format_node_command("stop_task", {"task": "ID"}),
        "node command, reload within": format_node_command("reload", {"within": 300.0}),
        "node command, restart": format_node_command("restart", {"created": MEMBER.created}),
        "member": format_member(MEMBER),
        "member, no limit": format_member(Member("n1")),
        "member, reloaded": format_member(Member("n1", code=Code(2, (1,)))),
        "member, not reloaded": format_member(Member("n1", code=Code(1, (), RELOAD))),
        "progress": format_progress({"ID": {"progress": 0.5, "note": "at 7", "attempt": 1}}),
        "history": format_history([Run("n1", 1, 42, AT, AT + 1.5, "raised", "ValueError: no", 1.25, 4096)]),
    }
    compare("values.txt", (f"{name}: {value}" for name, value in rows.items()))


def shown(txn: Txn) -> Iterable[str]:
    """A transaction as text, an operation a line."""
    for key, target, relation, to in txn.compares:
        yield f"  if {target}({key}) {relation} {to!r}"
    for op in txn.success:
        match op:
            case Put(key, value, lease):
                text = value if isinstance(value, str) else value.decode()
                yield f"    put {key} = {text}" + (f" on the lease {lease}" if lease else "")
            case Take(key):
                yield f"    take {key}"
            case Delete(key):
                yield f"    delete {key}"
            case DeletePrefix(prefix):
                yield f"    delete {prefix}*"
            case Txn(compares, ops, otherwise):
                yield from (f"  {line}" for line in shown(Txn(compares, ops)))
                if otherwise:
                    yield "    else"
                    yield from (f"  {line}" for line in shown(Txn((), otherwise)))
            case Get(key):
                yield f"    get {key}"


def transactions(name: str, txns: Mapping[str, Txn]) -> None:
    compare(name, (line for title, txn in txns.items() for line in (title, *shown(txn))))


def test_what_a_node_writes_at_once() -> None:
    session, claim = Session("n1", 7, 15.0), Claim("ID", 42)
    run = Run("n1", 1, 42, AT, AT + 1.5, "released")
    update = Update(TaskState(attempt=1), '{"at":7}', command_revision=40, history=(run,))
    done = Update(TaskState(State.COMPLETED, result=7, kept_until=AT), history=(run,))
    txns = {
        "claim": claim_txn(KEYS, session, ClaimRequest("ID", created=17)),
        "claim, of one that was missed": claim_txn(KEYS, session, ClaimRequest("ID", "n2", created=17)),
        "claim, where something stands that seldom does": rare_claim_txn(KEYS, session, ClaimRequest("ID", created=17)),
        "keep": keep_txn(KEYS, session, claim, update, Written(17, 0)),
        "release": release_txn(KEYS, session, claim, update),
        "done": done_txn(KEYS, session, claim, done),
        "take a command": take_command(KEYS, "ID", 40),
    }
    transactions("node.txt", txns)


def test_what_a_client_writes_at_once() -> None:
    task = NewTask("ID", {"below": 10, "é": "<&>"}, "primes:count")
    state = format_state(TaskState(State.COMPLETED, kept_until=AT))
    kept = KV(KEYS.state("ID"), state.encode(), 15, 17, 3, 0)
    txns = {
        "submit": submit_txn(KEYS, task),
        "submit, no props": submit_txn(KEYS, NewTask("ID")),
        "replace": replace_txn(KEYS, task, kept),
        "purge": Txn((), kept_of(KEYS, "ID", kept)),
    }
    transactions("client.txt", txns)


def test_a_claim_has_seven_operations() -> None:
    """Each is one more for etcd and for the node, in each claim: a new one needs a reason that says why no compare and
    no later read will do."""
    assert ops_of(claim_txn(KEYS, Session("n1", 7, 15.0), ClaimRequest("ID", created=17))) == 7
