"""Asking a node: a question is put into the store on a lease of our own, and the answer comes there in pieces."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import secrets
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mpfora.client.tasks.wait import watching
from mpfora.errors import LeaseNotFound, MpforaError, NodeSilent, NotRunning, TaskNotFound
from mpfora.profiles.profile import Profile, parse_stacks
from mpfora.store.claim_records import parse_owner
from mpfora.store.keys import Layout
from mpfora.store.kv import KV, Compacted, Event, Get, Put, Store, StoreError, Txn, exists, prefix_end
from mpfora.store.question_records import STACK, Question, format_question, parse_answer, parse_piece

if TYPE_CHECKING:
    from mpfora.profiles.profile import Profile

#: how long a question outlives its asker, in seconds
TTL_S = 8.0
_RENEW_EVERY_S = 2.0
REVOKE_WITHIN_S = 2.0
#: the most bytes of a profile's text
_MOST_PROFILE = 8 * 1024 * 1024
#: a task that was not found on its node may be on its way from or to it
_MOVES, _MOVE_S = 4, 0.5


@dataclass(frozen=True, slots=True)
class LiveStack:
    """Where a running task is.

    text  its threads and the tasks of its event loops, as Python writes stacks
    how   who tells: "task" (it itself), "py-spy" or "kernel" (what /proc says, without Python's stacks)
    note  why it is not the task itself; "" else
    node, pid   where it runs
    attempt     which of its runs it is; 0: its node is of a version that does not tell"""

    task_id: str
    node: str
    pid: int
    how: str
    note: str
    text: str
    attempt: int = 0

    def to_json(self) -> dict[str, Any]:
        return {
            "task": self.task_id,
            "node": self.node,
            "pid": self.pid,
            "attempt": self.attempt,
            "how": self.how,
            "note": self.note,
            "stack": self.text,
        }


async def live_stack(store: Store, layout: Layout, task_id: str, native: bool, timeout_s: float) -> LiveStack:
    """Raises TaskNotFound, NotRunning, NodeSilent, MpforaError, StoreError."""
    node, answer = await _asked(store, layout, Question(STACK, task_id, native), timeout_s)
    how, note, pid, attempt = _answered(task_id, answer)
    return LiveStack(task_id, node, pid, how, note, str(answer.get("stack", "")), attempt)


async def live_profile(store: Store, layout: Layout, question: Question, timeout_s: float) -> Profile:
    """timeout_s: how much longer than the profile takes its node may need to answer. Raises as `live_stack`."""
    node, answer = await _asked(store, layout, question, question.for_s + timeout_s)
    from mpfora.profiles.profile import Profile  # who asks something else needs none of it

    how, note, pid, attempt = _answered(question.task_id, answer)
    try:
        packed = base64.b64decode(str(answer.get("profile", "")))
        text = await asyncio.to_thread(zlib.decompressobj().decompress, packed, _MOST_PROFILE)
    except (ValueError, zlib.error) as error:
        raise NodeSilent(node, f"gave a profile that cannot be read: {error}") from None
    stacks = parse_stacks(text.decode(errors="replace"))
    return Profile(question.task_id, node, pid, question.by, how, note, stacks, attempt)


async def _asked(store: Store, layout: Layout, question: Question, timeout_s: float) -> tuple[str, dict[str, Any]]:
    """(node, its answer): of the node that has the task, and the next one if it moves meanwhile."""
    task_id = question.task_id
    ends = asyncio.get_running_loop().time() + timeout_s
    for _ in range(_MOVES):
        node = await _owner(store, layout, task_id)
        left_s = ends - asyncio.get_running_loop().time()
        answer = await ask(store, layout, node, question, max(0.1, left_s))
        if not answer.get("gone"):
            return node, answer
        await asyncio.sleep(_MOVE_S)
    raise NotRunning(task_id, f"{node} has it, and no process of it runs there now: it waits, sleeps or is paused")


async def _owner(store: Store, layout: Layout, task_id: str) -> str:
    """The node that has the task. Raises TaskNotFound, NotRunning, MpforaError."""
    keys = layout.owner(task_id), layout.task(task_id), layout.state(task_id)
    owner, *others = (await store.txn(Txn((), tuple(map(Get, keys))))).answers
    if isinstance(owner, KV):
        try:
            return parse_owner(owner.value)[0]
        except ValueError as error:
            raise MpforaError(f"task {task_id!r}: its owner cannot be read: {error}") from None
    if not any(others):
        raise TaskNotFound(task_id)
    raise NotRunning(task_id, f"no node has it now (mpfora task {task_id} says more)")


def _answered(task_id: str, answer: Mapping[str, Any]) -> tuple[str, str, int, int]:
    """(how, note, pid, attempt). Raises MpforaError for an answer that says why there is none."""
    if "error" in answer:
        raise MpforaError(f"task {task_id!r}: {answer['error']}")
    pid, attempt = (value if isinstance(value := answer.get(name), int) else 0 for name in ("pid", "attempt"))
    return str(answer.get("how", "")), str(answer.get("note", "")), pid, attempt


async def ask(store: Store, layout: Layout, node: str, question: Question, timeout_s: float) -> dict[str, Any]:
    """The answer of a node. Raises NodeSilent, StoreError."""
    number = str(secrets.randbits(63))
    lease = (await store.grant(TTL_S)).id
    renewing = asyncio.create_task(renew(store, lease))
    try:
        put = Put(layout.request(node, number), format_question(question), lease)
        asked = await store.txn(Txn((exists(layout.member(node)),), (put,)))
        if not asked.succeeded:
            raise NodeSilent(node, "is not live: its lease has ended")
        async with asyncio.timeout(timeout_s):
            return parse_answer(await received(store, layout.answers(number), asked.revision + 1))
    except TimeoutError:
        raise NodeSilent(node, f"has not answered within {round(timeout_s, 1):g} s") from None
    except (ValueError, Compacted) as error:
        raise NodeSilent(node, f"gave an answer that cannot be read: {error}") from None
    finally:
        renewing.cancel()
        await asyncio.gather(renewing, return_exceptions=True)
        with contextlib.suppress(StoreError):  # then it runs out by itself
            await store.revoke(lease, REVOKE_WITHIN_S)


async def received(store: Store, prefix: str, from_revision: int) -> str:
    """All pieces of an answer. Raises ValueError."""
    pieces: dict[str, str] = {}
    async with watching(store, prefix, prefix_end(prefix), from_revision) as revisions:
        async for revision in revisions:
            for event in revision.events:
                if not event.deleted and not _take(pieces, event):
                    return "".join(pieces[key] for key in sorted(pieces))
    raise ValueError("the watch ended")


def _take(pieces: dict[str, str], event: Event) -> bool:
    """Whether more pieces follow."""
    pieces[event.key], more = parse_piece(event.value)
    return more


async def renew(store: Store, lease: int) -> None:
    while True:
        await asyncio.sleep(_RENEW_EVERY_S)
        try:
            await store.keepalive(lease, _RENEW_EVERY_S)
        except LeaseNotFound:
            return
        except StoreError:
            continue
