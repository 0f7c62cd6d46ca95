"""From events of the watched key range to changes of the cluster: what a put or a deletion of a key means. Pure.

One revision at a time, because a claim's end is clean if its owner said so in the same revision.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from mpfora.keys import (
    MARKER,
    Layout,
    parse_member,
    parse_message,
    parse_node_command,
    parse_owner,
    parse_released_cost,
    parse_released_to,
    parse_state,
    parse_usage,
    parse_wants,
)
from mpfora.kv import KV, Event, Revision
from mpfora.model import Cost, InvalidName, Wants, check_name
from mpfora.supervisor.changes import (
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
    StateGone,
    StatePut,
    TaskCommandGone,
    TaskCommandPut,
    TaskGone,
    TaskPut,
    UsageGone,
    UsagePut,
    WantsPut,
)

#: in a listing: who is there, then the tasks, then what is known of them, and last the commands of both, by revision
_LISTING_RANK: dict[type, int] = {
    MemberPut: 0,
    ReaderPut: 1,
    TaskPut: 2,
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
    return Changes(revision.revision, tuple(changes))


def parse_listing(layout: Layout, revision: int, kvs: Iterable[KV]) -> Changes:
    """The whole content, as a reset: a task comes before what is known of it, and commands in the order of revisions.
    Where a mark says that the last owner let go cleanly, the OwnerGone that told so is told again, without the gift."""
    found: list[tuple[int, int, Change]] = []
    for kv in kvs:
        change = parse_change(layout, Event(kv.key, kv.value, False, kv.create_revision, kv.mod_revision))
        change = change or _marked_clean(layout, kv)
        if change is not None:
            found.append((_LISTING_RANK[type(change)], kv.mod_revision, change))
    found.sort(key=lambda row: row[:2])
    return Changes(revision, tuple(change for _, _, change in found), reset=True)


def _marked_clean(layout: Layout, kv: KV) -> OwnerGone | None:
    parts = kv.key[len(layout.root) :].split("/")
    if len(parts) == 3 and parts[0] == "tasks" and parts[2] == "released":
        return OwnerGone(parts[1], clean=True, cost=_word(kv.value)[1])
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


#: what a mark says of a task beside that its process is dead: to which node it is given, and what it costs
Word = tuple[str | None, Cost | None]
_NO_WORD: Word = None, None


def _let_go(layout: Layout, revision: Revision) -> dict[str, Word]:
    """The tasks whose owner vouched in this revision that nothing of it runs, by the mark or by removing the task."""
    clean: dict[str, Word] = {}
    for event in revision.events:
        if event.key.startswith(layout.tasks):
            task_id, _, rest = event.key[len(layout.tasks) :].partition("/")
            if rest == "" and event.deleted:
                clean.setdefault(task_id, _NO_WORD)
            elif rest == "released" and not event.deleted:
                clean[task_id] = _word(event.value)
    return clean


def _word(mark: bytes) -> Word:
    """Any mark counts, whatever is in it."""
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
        return TaskGone(task_id) if event.deleted else TaskPut(task_id)
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


def _read_state(parts: list[str], event: Event) -> Change | None:
    if len(parts) != 2 or parts[1] == MARKER:
        return None
    task_id = check_name(parts[1])
    if event.deleted:
        return StateGone(task_id)
    try:
        state = parse_state(event.value)
    except ValueError as error:
        return Malformed(event.key, str(error), event.mod_revision, state_of=task_id)
    return StatePut(task_id, state.state, state.until)


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
