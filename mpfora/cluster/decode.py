"""From events of the watched key range to changes of the cluster: what a put or a deletion of a key means. Pure.

One revision at a time, because a claim's end is clean if its owner said so in the same revision.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import NamedTuple

from mpfora.cluster.changes import (
    Asked,
    Change,
    Changes,
    Malformed,
    MemberGone,
    MemberPut,
    NodeCommandPut,
    OwnerGone,
    OwnerPut,
    ReaderGone,
    ReaderPut,
    RemovalGone,
    RemovalPut,
    StateGone,
    StatePut,
    TaskCommandGone,
    TaskCommandPut,
    TaskGone,
    TaskPut,
    UsageGone,
    UsagePut,
    WantsPut,
    place_in_revision,
)
from mpfora.config.props import parse_wants
from mpfora.model.state import TERMINAL
from mpfora.model.task import Cost, InvalidName, Wants, check_name
from mpfora.store.claim_records import parse_owner, parse_released_cost, parse_released_to, parse_removal
from mpfora.store.command_records import parse_message, parse_node_command
from mpfora.store.keys import MARKER, Layout
from mpfora.store.kv import KV, Event, Revision
from mpfora.store.node_records import parse_member
from mpfora.store.state_records import parse_kept_state
from mpfora.store.usage_records import parse_usage

#: in a listing: who is there, then the tasks, then what is known of them, and last the commands of both, by revision
_LISTING_RANK: dict[type, int] = {
    MemberPut: 0,
    ReaderPut: 1,
    TaskPut: 2,
    RemovalPut: 3,
    WantsPut: 3,
    StatePut: 4,
    OwnerGone: 4,
    OwnerPut: 5,
    UsagePut: 6,
    NodeCommandPut: 6,
    TaskCommandPut: 6,
    Malformed: 7,
}


def parse_revision(layout: Layout, revision: Revision) -> Changes:
    """What one revision changed, in the order of its events; perhaps nothing."""
    changes = [change for event in revision.events if (change := parse_change(layout, event)) is not None]
    if any(type(change) is OwnerGone for change in changes):
        clean = _let_go(layout, revision)
        changes = [_cleaned(change, clean) for change in changes]
    asked, scheduled = tuple(_asked(layout, revision.events)), _is_scheduled(layout, revision.events)
    return Changes(revision.revision, tuple(changes), asked=asked, scheduled=scheduled)


def _asked(layout: Layout, events: Iterable[Event]) -> Iterator[Asked]:
    for event in events:
        if (question := parse_request(layout, event.key, is_gone=event.deleted)) is not None:
            yield question


def parse_request(layout: Layout, key: str, *, is_gone: bool = False) -> Asked | None:
    """The question that stands at a key; None: it is no question."""
    if not key.startswith(layout.requests):
        return None
    node, _, number = key.removeprefix(layout.requests).partition("/")
    return Asked(node, number, is_gone) if node and number and "/" not in number else None


def _is_scheduled(layout: Layout, events: Iterable[Event]) -> bool:
    return any(event.key.startswith(layout.schedules) for event in events)


def parse_in_parts(layout: Layout, revision: Revision, size: int) -> Iterator[Changes | None]:
    """As parse_revision, of a revision with very many events, in parts that are in the order of folding; None: nothing
    is ready yet. Between two of them little work is done."""
    chunks = [revision.events[first : first + size] for first in range(0, len(revision.events), size)]
    clean: dict[str, Word] = {}
    asked: list[Asked] = []
    for chunk in chunks:
        clean |= _let_go(layout, Revision(revision.revision, chunk))
        asked += _asked(layout, chunk)
        yield None
    placed: tuple[list[Change], ...] = ([], [], [])
    for chunk in chunks:
        for event in chunk:
            if (change := parse_change(layout, event)) is not None:
                placed[place_in_revision(change)].append(_cleaned(change, clean))
        yield None
    changes = chain(*placed)
    part, scheduled = tuple(islice(changes, size)), _is_scheduled(layout, revision.events)
    while part or asked or scheduled:
        following = tuple(islice(changes, size))
        yield Changes(revision.revision, part, more=bool(following), asked=tuple(asked), scheduled=scheduled)
        part, asked, scheduled = following, [], False


class Row(NamedTuple):
    """A key of a listing: its place among all, and what it says."""

    rank: int
    revision: int
    change: Change


#: how the states that mpfora and Go nodes keep of finished tasks begin
_FINISHED = tuple(f'{{"state":"{state.value}"'.encode() for state in TERMINAL)


def is_finished(layout: Layout, kv: KV) -> bool:
    """Whether a key of a listing is the kept state of a finished task, which says nothing to a node. Its first bytes
    tell: there may be a million of them."""
    return kv.value.startswith(_FINISHED) and kv.key.startswith(layout.states)


def in_order(row: Row) -> tuple[int, int]:
    """Sorts rows: a task comes before what is known of it, and commands in the order of revisions."""
    return row.rank, row.revision


def parse_key(layout: Layout, kv: KV) -> Row | None:
    """What one key of a listing means; None where it says nothing to a node. Where a mark says that the last owner let
    go cleanly, the OwnerGone that told so is told again, without the gift."""
    change = parse_change(layout, Event(kv.key, kv.value, False, kv.create_revision, kv.mod_revision))
    change = change or _marked_clean(layout, kv)
    return None if change is None else Row(_LISTING_RANK[type(change)], kv.mod_revision, change)


def parse_listing(layout: Layout, revision: int, kvs: Iterable[KV]) -> Changes:
    """The whole content at once, as a reset."""
    rows = sorted((row for kv in kvs if (row := parse_key(layout, kv)) is not None), key=in_order)
    return Changes(revision, tuple(row.change for row in rows), reset=True)


def _marked_clean(layout: Layout, kv: KV) -> OwnerGone | None:
    task_id = _marked_task(kv.key[len(layout.root) :].split("/"))
    return None if task_id is None else OwnerGone(task_id, clean=True, cost=_word(kv.value)[1])


def _marked_task(parts: list[str]) -> str | None:
    """The task of which a key is the mark of a clean release: where that is now, or where it was once."""
    match parts:
        case ["released", task_id] | ["tasks", task_id, "released"] if task_id != MARKER:
            return task_id
    return None


def parse_change(layout: Layout, event: Event) -> Change | None:
    """What one event means; None where it says nothing to a node. An OwnerGone is called unclean here: whether it was
    clean is known of the whole revision alone."""
    if not event.key.startswith(layout.root):
        return None
    parts = event.key[len(layout.root) :].split("/")
    read = _READERS.get(parts[0])
    if read is None:
        return None
    try:
        return read(parts, event)
    except InvalidName as error:
        return None if event.deleted else Malformed(event.key, str(error), event.mod_revision)
    except ValueError as error:
        return Malformed(event.key, str(error), event.mod_revision)
    except Exception as bug:  # noqa: BLE001 - said by every node, and one key's trouble
        return _failed_at(parts, event, bug)


def _failed_at(parts: list[str], event: Event, bug: Exception) -> Malformed:
    """The change for a key at which mpfora itself fails: it counts as malformed."""
    problem = f"mpfora fails at it, which is a bug in mpfora ({type(bug).__name__}: {bug})"[:500]
    state_of = parts[1] if parts[0] == "state" and len(parts) == 2 else None
    return Malformed(event.key, problem, event.mod_revision, state_of=state_of)


#: what a mark says of a task beside that its process is dead: to which node it is given, and what it costs
Word = tuple[str | None, Cost | None]
_NO_WORD: Word = None, None


def _let_go(layout: Layout, revision: Revision) -> dict[str, Word]:
    """The tasks whose owner vouched in this revision that nothing of it runs. Three things only an owner of ours does
    in the revision in which its key goes: it puts the mark, it puts a terminal state, or it removes the wish that the
    task be deleted. That the task is gone too is nobody's word: a Go client deletes all keys of a task that runs."""
    clean: dict[str, Word] = {}
    for event in revision.events:
        parts = event.key[len(layout.root) :].split("/")
        marked = None if event.deleted else _marked_task(parts)
        if marked is not None:
            clean[marked] = _word(event.value)
        elif len(parts) == 2 and (_is_final(parts[0], event) or (parts[0] == "removals" and event.deleted)):
            clean.setdefault(parts[1], _NO_WORD)
    return clean


def _is_final(first: str, event: Event) -> bool:
    try:
        return first == "state" and not event.deleted and parse_kept_state(event.value).state in TERMINAL
    except ValueError:
        return False


def _word(mark: bytes) -> Word:
    """The contents of a mark of release. Any mark counts, also one whose value cannot be read."""
    try:
        return parse_released_to(mark), parse_released_cost(mark)
    except ValueError:
        return _NO_WORD


def _cleaned(change: Change, clean: dict[str, Word]) -> Change:
    if isinstance(change, OwnerGone) and change.task_id in clean:
        to, cost = clean[change.task_id]
        return OwnerGone(change.task_id, clean=True, to=to, cost=cost)
    return change


# Readers, by the first part of the key after the namespace. A deletion is never malformed.


def _read_task(parts: list[str], event: Event) -> Change | None:
    if len(parts) == 2 and parts[1] != MARKER:
        task_id = check_name(parts[1])
        return TaskGone(task_id) if event.deleted else TaskPut(task_id, event.create_revision)
    read = _TASK_READERS.get(parts[2]) if len(parts) == 3 else None
    if read is None:
        return None
    try:
        return read(check_name(parts[1]), event)
    except InvalidName:
        return None  # the task's own key is reported


def _read_props(task_id: str, event: Event) -> Change | None:
    return WantsPut(task_id, Wants() if event.deleted else parse_wants(event.value))


def _read_owner(task_id: str, event: Event) -> Change | None:
    if event.deleted:
        return OwnerGone(task_id, clean=False)
    node, missed = parse_owner(event.value)
    return OwnerPut(task_id, node, event.create_revision, missed)


def _read_task_command(task_id: str, event: Event) -> Change | None:
    if event.deleted:
        return TaskCommandGone(task_id)
    try:
        return TaskCommandPut(task_id, parse_message(event.value), event.mod_revision)
    except ValueError as error:
        return Malformed(event.key, str(error), event.mod_revision, task_id=task_id)


def _read_removal(parts: list[str], event: Event) -> Change | None:
    if len(parts) != 2 or parts[1] == MARKER:
        return None
    task_id = check_name(parts[1])
    return RemovalGone(task_id) if event.deleted else RemovalPut(task_id, parse_removal(event.value))


def _read_state(parts: list[str], event: Event) -> Change | None:
    if len(parts) != 2 or parts[1] == MARKER:
        return None
    task_id = check_name(parts[1])
    if event.deleted:
        return StateGone(task_id)
    try:
        return StatePut(task_id, *parse_kept_state(event.value))
    except ValueError as error:
        return Malformed(event.key, str(error), event.mod_revision, state_of=task_id)


def _read_node(parts: list[str], event: Event) -> Change | None:
    if len(parts) == 3 and parts[2] == MARKER:
        name = check_name(parts[1], "node name")
        return MemberGone(name) if event.deleted else MemberPut(parse_member(name, event.value))
    if len(parts) == 4 and parts[2] == "commands" and parts[3] != MARKER and not event.deleted:
        return _read_node_command(check_name(parts[1], "node name"), parts[3], event)
    return None


def _read_node_command(node: str, key_id: str, event: Event) -> Change:
    try:
        verb, parameters = parse_node_command(event.value)
    except ValueError as error:
        return Malformed(event.key, str(error), event.mod_revision, node=node, key_id=key_id)
    return NodeCommandPut(node, key_id, verb, parameters, event.mod_revision)


def _read_reader(parts: list[str], event: Event) -> Change | None:
    if len(parts) != 2 or parts[1] == MARKER:
        return None
    return ReaderGone(parts[1]) if event.deleted else ReaderPut(parts[1])


def _read_usage(parts: list[str], event: Event) -> Change | None:
    if len(parts) != 2 or parts[1] == MARKER:
        return None
    name = check_name(parts[1], "node name")
    return UsageGone(name) if event.deleted else UsagePut(name, parse_usage(event.value))


_READERS: dict[str, Callable[[list[str], Event], Change | None]] = {
    "tasks": _read_task,
    "removals": _read_removal,
    "state": _read_state,
    "nodes": _read_node,
    "readers": _read_reader,
    "resources": _read_usage,
}
_TASK_READERS: dict[str, Callable[[str, Event], Change | None]] = {
    "props": _read_props,
    "owner": _read_owner,
    "commands": _read_task_command,
}
