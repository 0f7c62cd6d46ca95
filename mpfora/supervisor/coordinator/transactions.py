"""The transactions of the coordinator, and what their answers mean. Pure: operations of store/kv.py in,
results out.

A claim is ours while its owner key has the create revision that is the fence, and hangs on our lease. Every write for a
task compares both, so that whatever arrives late, twice or from a former life of this node changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from mpfora.model.history import Run
from mpfora.model.state import Message, State, TaskState, next_state
from mpfora.model.task import Claim
from mpfora.store import kv
from mpfora.store.claim_records import format_owner, format_released, parse_lost_run, parse_owner, parse_removal
from mpfora.store.history_records import format_history, parse_history
from mpfora.store.keys import Layout
from mpfora.store.kv import (
    KV,
    Delete,
    DeletePrefix,
    Get,
    Op,
    Put,
    Take,
    Txn,
    TxnResult,
    absent,
    created_at,
    exists,
    lease_is,
)
from mpfora.store.state_records import format_state, parse_state
from mpfora.supervisor.coordinator.interface import ClaimRequest, Sleeper, Update, Won

#: a checkpoint that says no more than that the task was claimed
NOTHING_SAVED = "null"
_RUNNABLE = format_state(TaskState())


class Session(NamedTuple):
    """One opening: the node that joined, and the lease that all of its keys hang on."""

    node: str
    lease: int
    ttl_s: float


def proof_txn(layout: Layout, session: Session) -> Txn:
    """Shows whether this node may write where nodes write. It writes nothing, as no key has a version below 0."""
    places = layout.member, layout.owner, layout.state, layout.checkpoint, layout.history
    puts = tuple(Put(place(session.node), b"", session.lease) for place in places)
    return Txn((kv.Compare(layout.member(session.node), "version", "<", 0),), puts)


def claim_txn(layout: Layout, session: Session, request: ClaimRequest) -> Txn:
    """Own the task if nobody does and it is the one that this node knows, and read what its run needs. Else read who
    owns it, and which task stands there.

    A node that is behind may know only a former task of this id, with other props and in another place: it must not
    claim the new one.

    Nothing costs the cluster more operations than claims. So what is seldom there is not read but compared to be
    absent: a wish that the task be deleted, and the mark of a node of a former version. Where one stands the claim is
    refused, and made with `rare_claim_txn`."""
    task_id, created = request.task_id, request.created
    if not created:
        return rare_claim_txn(layout, session, request)
    owner, task = layout.owner(task_id), layout.task(task_id)
    is_plain = absent(layout.removal(task_id)), absent(layout.released_before(task_id))
    compares = absent(owner), created_at(task, created), *is_plain
    return Txn(compares, _claim_ops(layout, session, request), (Get(owner), Get(task)))


def rare_claim_txn(layout: Layout, session: Session, request: ClaimRequest) -> Txn:
    """The claim of a task of which this node knows less, or of which something stands there that seldom does."""
    task_id, created = request.task_id, request.created
    owner, task = layout.owner(task_id), layout.task(task_id)
    rare = Get(task), Get(layout.removal(task_id)), Delete(layout.released_before(task_id))
    is_known = created_at(task, created) if created else exists(task)
    return Txn((absent(owner), is_known), (*_claim_ops(layout, session, request), *rare), (Get(owner), Get(task)))


def _claim_ops(layout: Layout, session: Session, request: ClaimRequest) -> tuple[Op, ...]:
    task_id = request.task_id
    return (
        Put(layout.owner(task_id), format_owner(session.node, request.missed), session.lease),
        Take(layout.released(task_id)),
        _trace_of_claim(layout, task_id),
        Get(layout.props(task_id)),
        Get(layout.state(task_id)),
        Get(layout.history(task_id)),
    )


def _trace_of_claim(layout: Layout, task_id: str) -> Txn:
    """Read the checkpoint, or leave one that says nothing where there is none. That is what is left of a claim whose
    node dies with it before anything was written for the task: the owner key goes with the lease, and a node that
    starts later could not tell that the task was ever run.

    It stands where the run saves, so that whatever removes a task removes it, and only the first claim of a task
    writes it. A node of any version reads it as no checkpoint."""
    checkpoint = layout.checkpoint(task_id)
    return Txn((absent(checkpoint),), (Put(checkpoint, NOTHING_SAVED),), (Get(checkpoint),))


def state_read(layout: Layout, sleeper: Sleeper) -> Txn:
    """Read what is kept of a task that is to be woken up."""
    return Txn((), (Get(layout.state(sleeper.task_id)),))


def wake_txn(layout: Layout, node: str, sleeper: Sleeper, found: kv.Answer) -> Txn | None:
    """Make a task runnable that nobody owns, if nothing of it has changed since this node looked. found: its kept
    state. None: it does not sleep any more.

    Where its owner wrote that it sleeps there is no process of it: that is the owner's word, although it may not have
    let go in order. So the mark of a clean release is put where there is none, for nodes that look later."""
    task_id = sleeper.task_id
    task, state, released = layout.task(task_id), layout.state(task_id), layout.released(task_id)
    is_same = created_at(task, sleeper.created) if sleeper.created else exists(task)
    is_old = kv.Compare(layout.props(task_id), "mod_revision", "<", sleeper.revision + 1)
    compares = absent(layout.owner(task_id)), is_same, is_old
    if sleeper.is_new:
        return Txn((*compares, absent(state)), (Put(state, _RUNNABLE),))
    if not isinstance(found, KV) or found.mod_revision > sleeper.revision:
        return None
    kept = parse_state(found.value)
    if kept.state is not State.SLEEPING:
        return None
    woken = Put(state, format_state(next_state(kept, Message.run())))
    mark = Txn((absent(released),), (Put(released, format_released(node, 0)),))
    return Txn((*compares, kv.modified_at(state, found.mod_revision)), (woken, mark))


def is_rare(request: ClaimRequest, owner: kv.Answer, task: kv.Answer) -> bool:
    """Whether a claim was refused although nobody owns the task and it is the one that this node knows. owner, task:
    what it found."""
    return owner is None and isinstance(task, KV) and task.create_revision == request.created


def is_outdated(request: ClaimRequest, owner: kv.Answer, task: kv.Answer) -> bool:
    """Whether a claim was refused only because another task of its id stands there. owner, task: what it found."""
    return owner is None and isinstance(task, KV) and task.create_revision != request.created != 0


def reread_txn(layout: Layout, session: Session, claim: Claim) -> Txn:
    """Read what the run of a claim needs, if it is ours."""
    task_id = claim.task_id
    return Txn(still_ours(layout, session, claim), (Get(layout.task(task_id)), *_run_reads(layout, task_id)))


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
    """The revisions at which the owner put state and checkpoint of its task last. 0: there is none.

    A write that was given up may happen after all, even after a later write of the same claim. The fence cannot tell
    the two apart. These revisions can.
    """

    state: int
    checkpoint: int

    def after(self, update: Update, revision: int) -> Written:
        return Written(
            self.state if update.state is None else revision,
            self.checkpoint if update.checkpoint_json is None else revision,
        )


def keep_txn(layout: Layout, session: Session, claim: Claim, update: Update, written: Written | None) -> Txn:
    """Write and keep the claim. If that is refused, read who owns the task, its state and its checkpoint.

    written  None: not known, as for a claim that came from elsewhere"""
    task_id = claim.task_id
    compares = still_ours(layout, session, claim)
    if written is not None and update.state is not None:
        compares += (kv.modified_at(layout.state(task_id), written.state),)
    if written is not None and update.checkpoint_json is not None:
        compares += (kv.modified_at(layout.checkpoint(task_id), written.checkpoint),)
    reads = Get(layout.owner(task_id)), Get(layout.state(task_id)), Get(layout.checkpoint(task_id))
    return Txn(compares, tuple(update_ops(layout, claim, update)), reads)


def found_written(session: Session, claim: Claim, refused: TxnResult) -> Written | None:
    """The revisions that a refused keep has found. None: the claim is no longer ours."""
    owner, state, checkpoint = refused.answers
    if not isinstance(owner, KV) or owner.create_revision != claim.fence or owner.lease != session.lease:
        return None
    return Written(_put_at(state), _put_at(checkpoint))


def kept_before(update: Update, refused: TxnResult) -> bool:
    """Whether a refused keep finds the very values that it was to write. Then it was made, and its answer was lost."""
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
    """Write and give the claim back. The mark says that no process of the task is left."""
    released = layout.released(claim.task_id)
    mark = format_released(session.node, claim.fence, update.to, update.cost)
    let_go = Delete(layout.owner(claim.task_id)), Put(released, mark)
    return Txn(
        still_ours(layout, session, claim),
        (*update_ops(layout, claim, update), *let_go),
        _trace_reads(layout, claim.task_id),
    )


def done_txn(layout: Layout, session: Session, claim: Claim, update: Update) -> Txn:
    """Write the state and remove the task: its key and all keys below it. Ids that begin alike stay."""
    task_id = claim.task_id
    puts = tuple(update_ops(layout, claim, Update(update.state, history=update.history)))
    if update.state is not None and update.state.kept_until is not None:
        puts += (Put(layout.finished_until(update.state.kept_until, task_id), b""),)
    if update.state is None:  # no terminal state says that nothing runs: the mark does, and goes with this node
        puts += (Put(layout.released(task_id), format_released(session.node, claim.fence), session.lease),)
    removal = Delete(layout.task(task_id)), DeletePrefix(layout.below_task(task_id)), Delete(layout.checkpoint(task_id))
    wish = Delete(layout.removal(task_id))
    return Txn(still_ours(layout, session, claim), (*puts, *removal, wish), _trace_reads(layout, task_id))


def remove_txn(layout: Layout, session: Session, claim: Claim) -> Txn:
    """Remove the task with all that is kept of it, as a client wishes. The wish goes in the same revision as the claim:
    that is the owner's word that no process of the task is left."""
    task_id = claim.task_id
    wish = layout.removal(task_id)
    compares = *still_ours(layout, session, claim), exists(wish)
    return Txn(compares, (Delete(wish), *removal_ops(layout, task_id)), _trace_reads(layout, task_id))


def removal_ops(layout: Layout, task_id: str) -> tuple[Op, ...]:
    """Remove all keys of a task, but not the wish that it be deleted."""
    keys = layout.task, layout.state, layout.checkpoint, layout.history, layout.released
    return DeletePrefix(layout.below_task(task_id)), *(Delete(key(task_id)) for key in keys)


def sweep_txn(layout: Layout, found: KV) -> Txn:
    """Remove what a finished task has left. `found` is the key that says until when it is kept. If the task is there
    again, or has left something newer, only that key goes."""
    task_id = found.key.rpartition("/")[2]
    state = layout.state(task_id)
    not_newer = kv.Compare(state, "mod_revision", "<", found.mod_revision + 1)
    kept = Delete(state), Delete(layout.checkpoint(task_id)), Delete(layout.history(task_id))
    unused = absent(layout.task(task_id)), absent(layout.owner(task_id)), not_newer
    return Txn(unused, (Delete(found.key), *kept), (Delete(found.key),))


def _trace_reads(layout: Layout, task_id: str) -> tuple[Get, ...]:
    return Get(layout.task(task_id)), Get(layout.released(task_id)), Get(layout.state(task_id))


def settled_before(result: TxnResult, claim: Claim, update: Update, mark: bytes | None) -> bool:
    """Whether a refused release or done was made before, and its answer was lost. Its traces show that.

    mark  what the release would have left; None for a done, which has removed the task and written its state"""
    task, released, state = result.answers
    if mark is not None:
        return isinstance(released, KV) and released.value == mark
    if task is not None or update.state is None:
        return task is None
    written = isinstance(state, KV) and state.mod_revision > claim.fence
    return written and isinstance(state, KV) and state.value == format_state(update.state).encode()


def plainly_won(claim: Claim, created: int, answers: Sequence[kv.Answer]) -> Won:
    """What a claim that has succeeded has read. created: of the task that was asked for."""
    _, released, trace, props, state, history, *rare = answers
    assert isinstance(trace, TxnResult)
    checkpoint = KV("", NOTHING_SAVED.encode(), claim.fence, claim.fence, 1, 0) if trace.succeeded else trace.answers[0]
    task, removal = (rare[0], rare[1]) if rare else (None, None)
    created = task.create_revision if isinstance(task, KV) else created
    lost_run = parse_lost_run(released.value) if isinstance(released, KV) else None
    found = won(claim, created, (props, state, checkpoint, history))
    return replace(found, lost_run=lost_run, is_removed=_is_removed(removal, created))


def _is_removed(removal: kv.Answer, created: int) -> bool:
    """Whether the wish is for this very task, and not for an earlier one of its id."""
    try:
        return isinstance(removal, KV) and parse_removal(removal.value) == created
    except ValueError:
        return False


def reread(claim: Claim, answers: Sequence[kv.Answer]) -> Won:
    """What `reread_txn` has read of a claim that is ours."""
    task, *reads = answers
    return won(claim, task.create_revision if isinstance(task, KV) else 0, reads)


def won(claim: Claim, created: int, answers: Sequence[kv.Answer]) -> Won:
    """The won claim. answers: the task's props, state, checkpoint and history, in this order."""
    props, state, checkpoint, history = answers
    parsed, problem = None, None
    checkpoint_json = _text(checkpoint)
    if isinstance(state, KV):
        try:
            parsed = parse_state(state.value)
        except ValueError as error:
            problem = str(error)
    return Won(
        claim,
        _text(props) or "",
        parsed,
        None if checkpoint_json == NOTHING_SAVED else checkpoint_json,
        problem,
        _history(history),
        created=created,
        was_claimed=0 < created < _put_at(checkpoint) != claim.fence,
        state_revision=_put_at(state),
        checkpoint_revision=_put_at(checkpoint),
    )


def _history(found: kv.Answer) -> tuple[Run, ...]:
    """A history that cannot be read begins anew: only people read it."""
    try:
        return parse_history(found.value) if isinstance(found, KV) else ()
    except ValueError:
        return ()


def _text(found: kv.Answer) -> str | None:
    """A value as text; bytes that are not UTF-8 stay visible as such, and fail as JSON where they are read."""
    return found.value.decode(errors="replace") if isinstance(found, KV) else None


def node_of(owner: KV) -> str | None:
    """Whose claim it is; None where that cannot be read."""
    try:
        return parse_owner(owner.value)[0]
    except ValueError:
        return None
