"""The transactions of the coordinator, and what their answers mean. Pure: operations of `mpfora/kv.py` in, results out.

A claim is ours while its owner key has the create revision that is the fence, and hangs on our lease. Every write for a
task compares both, so that whatever arrives late, twice or from a former life of this node changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from mpfora import kv
from mpfora.history import Run, format_history, parse_history
from mpfora.keys import (
    Layout,
    format_owner,
    format_released,
    format_state,
    parse_lost_run,
    parse_owner,
    parse_state,
)
from mpfora.kv import KV, Delete, DeletePrefix, Get, Op, Put, Txn, TxnResult, absent, created_at, exists, lease_is
from mpfora.model import Claim
from mpfora.supervisor.coordinator import Update, Won


class Session(NamedTuple):
    """One opening: who joined, and the lease that everything of it hangs on."""

    node: str
    lease: int
    ttl_s: float


def claim_txn(layout: Layout, session: Session, task_id: str, missed: str | None) -> Txn:
    """Own the task if it exists and nobody does, and read what its run needs; else read who does."""
    owner = layout.owner(task_id)
    return Txn(
        (absent(owner), exists(layout.task(task_id))),
        (
            Put(owner, format_owner(session.node, missed), session.lease),
            Get(layout.released(task_id)),
            Delete(layout.released(task_id)),
            *_run_reads(layout, task_id),
        ),
        (Get(owner),),
    )


def reread_txn(layout: Layout, session: Session, claim: Claim) -> Txn:
    """Read what the run of a claim needs, if it is ours."""
    return Txn(still_ours(layout, session, claim), _run_reads(layout, claim.task_id))


def _run_reads(layout: Layout, task_id: str) -> tuple[Get, ...]:
    keys = layout.props(task_id), layout.state(task_id), layout.checkpoint(task_id), layout.history(task_id)
    return tuple(map(Get, keys))


def still_ours(layout: Layout, session: Session, claim: Claim) -> tuple[kv.Compare, ...]:
    owner = layout.owner(claim.task_id)
    return created_at(owner, claim.fence), lease_is(owner, session.lease)


def update_ops(layout: Layout, claim: Claim, update: Update) -> Iterator[Op]:
    if update.state is not None:
        yield Put(layout.state(claim.task_id), format_state(update.state))
    if update.checkpoint_json is not None:
        yield Put(layout.checkpoint(claim.task_id), update.checkpoint_json)
    if update.history is not None:
        yield Put(layout.history(claim.task_id), format_history(update.history))
    if update.command_revision is not None:
        yield take_command(layout, claim.task_id, update.command_revision)


class Written(NamedTuple):
    """The revisions at which the state and the checkpoint of a claim's task were put last, as its owner knows; 0: they
    are not there.

    A write that was given up may happen after all, and after a later one of the same claim, where the fence does not
    tell it from that: this does.
    """

    state: int
    checkpoint: int

    def after(self, update: Update, revision: int) -> Written:
        return Written(
            self.state if update.state is None else revision,
            self.checkpoint if update.checkpoint_json is None else revision,
        )


def keep_txn(layout: Layout, session: Session, claim: Claim, update: Update, written: Written | None) -> Txn:
    """Write and keep the claim; refused, it reads whose the task is and what stands there. written None: not known, as
    of a claim that came from elsewhere."""
    task_id = claim.task_id
    compares = still_ours(layout, session, claim)
    if written is not None and update.state is not None:
        compares += (kv.modified_at(layout.state(task_id), written.state),)
    if written is not None and update.checkpoint_json is not None:
        compares += (kv.modified_at(layout.checkpoint(task_id), written.checkpoint),)
    reads = Get(layout.owner(task_id)), Get(layout.state(task_id)), Get(layout.checkpoint(task_id))
    return Txn(compares, tuple(update_ops(layout, claim, update)), reads)


def found_written(session: Session, claim: Claim, refused: TxnResult) -> Written | None:
    """What a refused keep found; None: the claim is not ours any more."""
    owner, state, checkpoint = refused.answers
    if not isinstance(owner, KV) or owner.create_revision != claim.fence or owner.lease != session.lease:
        return None
    return Written(_put_at(state), _put_at(checkpoint))


def kept_before(update: Update, refused: TxnResult) -> bool:
    """Whether a refused keep finds what it was to write: it was made, and its answer was lost."""
    _, state, checkpoint = refused.answers
    wanted = (
        (state, None if update.state is None else format_state(update.state)),
        (checkpoint, update.checkpoint_json),
    )
    return all(text is None or (isinstance(at, KV) and at.value == text.encode()) for at, text in wanted)


def _put_at(found: kv.Answer) -> int:
    return found.mod_revision if isinstance(found, KV) else 0


def take_command(layout: Layout, task_id: str, revision: int) -> Txn:
    """Delete the command that was put at `revision`, and no later one."""
    key = layout.commands(task_id)
    return Txn((kv.modified_at(key, revision),), (Delete(key),))


def release_txn(layout: Layout, session: Session, claim: Claim, update: Update) -> Txn:
    """Write and let go, with the mark that says that nothing of the task runs any more."""
    released = layout.released(claim.task_id)
    mark = format_released(session.node, claim.fence, update.to, update.cost)
    let_go = Delete(layout.owner(claim.task_id)), Put(released, mark)
    return Txn(
        still_ours(layout, session, claim),
        (*update_ops(layout, claim, update), *let_go),
        _trace_reads(layout, claim.task_id),
    )


def done_txn(layout: Layout, session: Session, claim: Claim, update: Update) -> Txn:
    """Write the state and remove the task: its key and what is below it, and not what merely begins with its name."""
    task_id = claim.task_id
    puts = tuple(update_ops(layout, claim, Update(update.state, history=update.history)))
    if update.state is not None and update.state.kept_until is not None:
        puts += (Put(layout.finished_until(update.state.kept_until, task_id), b""),)
    removal = Delete(layout.task(task_id)), DeletePrefix(layout.below_task(task_id)), Delete(layout.checkpoint(task_id))
    return Txn(still_ours(layout, session, claim), (*puts, *removal), _trace_reads(layout, task_id))


def sweep_txn(layout: Layout, found: KV) -> Txn:
    """Remove what a finished task has left, by the key that says until when it is kept; that key alone if the task is
    there again, or has left something newer."""
    task_id = found.key.rpartition("/")[2]
    state = layout.state(task_id)
    not_newer = kv.Compare(state, "mod_revision", "<", found.mod_revision + 1)
    kept = Delete(state), Delete(layout.checkpoint(task_id)), Delete(layout.history(task_id))
    return Txn((absent(layout.task(task_id)), not_newer), (Delete(found.key), *kept), (Delete(found.key),))


def _trace_reads(layout: Layout, task_id: str) -> tuple[Get, ...]:
    return Get(layout.task(task_id)), Get(layout.released(task_id)), Get(layout.state(task_id))


def settled_before(result: TxnResult, claim: Claim, update: Update, mark: bytes | None) -> bool:
    """Whether a refused release (mark: what it would have left) or done (mark None) had happened before, seen by its
    traces: the mark with our fence, or the task removed; and a state that it was to write, written since the claim."""
    task, released, state = result.answers
    if mark is not None:
        return isinstance(released, KV) and released.value == mark
    if task is not None or update.state is None:
        return task is None
    written = isinstance(state, KV) and state.mod_revision > claim.fence
    return written and isinstance(state, KV) and state.value == format_state(update.state).encode()


def plainly_won(claim: Claim, answers: Sequence[kv.Answer]) -> Won:
    """Of the answers to a claim that has succeeded."""
    _, released, _, *reads = answers
    lost_run = parse_lost_run(released.value) if isinstance(released, KV) else None
    return replace(won(claim, reads), lost_run=lost_run)


def won(claim: Claim, answers: Sequence[kv.Answer]) -> Won:
    """Of what a run needs: props, state, checkpoint and history, in this order."""
    props, state, checkpoint, history = answers
    parsed, problem = None, None
    if isinstance(state, KV):
        try:
            parsed = parse_state(state.value)
        except ValueError as error:
            problem = str(error)
    return Won(
        claim,
        _text(props) or "",
        parsed,
        _text(checkpoint),
        problem,
        _history(history),
        has_saved=isinstance(props, KV) and _put_at(checkpoint) > props.create_revision,
        state_revision=_put_at(state),
        checkpoint_revision=_put_at(checkpoint),
    )


def _history(found: kv.Answer) -> tuple[Run, ...]:
    """What cannot be read is begun anew: it is for people."""
    try:
        return parse_history(found.value) if isinstance(found, KV) else ()
    except ValueError:
        return ()


def _text(found: kv.Answer) -> str | None:
    """A value as text; bytes that are no UTF-8 stay visible as such, and fail as JSON where they are read."""
    return found.value.decode(errors="replace") if isinstance(found, KV) else None


def node_of(owner: KV) -> str | None:
    """Whose claim it is; None where that cannot be read."""
    try:
        return parse_owner(owner.value)[0]
    except ValueError:
        return None
