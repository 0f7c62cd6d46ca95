"""The key layout in etcd: Metafora's, and where ours goes beyond it. Pure.

    NS/tasks/ID                  a task; any value
    NS/tasks/ID/props            JSON object: its properties
    NS/tasks/ID/owner            {"node":"NAME"}, on the owner's lease; ours may add "missed"
    NS/tasks/ID/commands         the last message for the task
    NS/state/ID                  the task's state; outlives the task
    NS/nodes/NAME/_metafora      member record, on the node's lease
    NS/nodes/NAME/commands/N     a command for the node
    NS/readers/N                 ours: somebody wants to see progress
    NS/released/ID               ours: the last owner's word that its process was dead when it let go; beside the tasks,
                                 where a Go client takes it for no task (it was NS/tasks/ID/released once)
    NS/removals/ID               ours: the task is to be deleted; its owner does it, and then this is gone with the rest
    NS/resources/NAME            ours: what the node's tasks cost, on its lease; changes seldom
    NS/checkpoints/ID            ours: what the last run saved (JSON), null from the first claim on; not watched
    NS/history/ID                ours: the last runs (JSON); not watched; goes with the state
    NS/finished/UNTIL/ID         ours: what is kept of a finished task goes then (Unix seconds); not watched
    NS/requests/NODE/N           ours: somebody asks the node something, on their lease: see question_records.py
    NS/answers/N/SEQ             ours: its answer, on the same lease; not watched
    NS/schedules/NAME            ours: a schedule, whose slots are the tasks NAME@TIME: see schedule_records.py
    NS/groups/NAME               ours: how a group was submitted, on a lease of months: see group_records.py
    NS/groups/NAME/submitting    ours: on the lease of the client that submits it; neither is watched
    NS/schedules/NAME/progress   ours: how far it has come
    NS/live/NAME                 ours: progress of the node's running tasks, on its lease; not watched

[NS/nodes/, NS/tasks0) is the watched range; `mpfora/cluster/decode.py` says what its events mean. Each value has a
format_/parse_ pair in a module of records beside this one: claim_records (owner, released, removals), state_records,
command_records, node_records (members, live), usage_records (resources), history_records, group_records and
question_records. `mpfora/config/props.py` reads props. A parse_ function raises ValueError with one line: what is
wrong and what would be right.
"""

from __future__ import annotations

import posixpath

from mpfora.model.units import held_time

MARKER = "_metafora"

#: first parts of what stands in a namespace: none may be a part of a namespace within another
_FIRST_PARTS = frozenset(
    {
        "tasks", "state", "nodes", "readers", "released", "removals", "resources", "checkpoints", "history", "finished",
        "live", "requests", "answers", "schedules", "groups", MARKER,
    }
)  # fmt: skip


def clean_namespace(namespace: str) -> str:
    """The name of a namespace as Go's path.Join cleans it: "/a//b/../c/" is "a/c". Raises ValueError for a name that is
    empty, and for one that would lie among the keys of another namespace."""
    name = posixpath.normpath("/" + namespace.strip("/ ")).strip("/ ")
    if not name:
        raise ValueError(f"namespace {namespace!r}: must not be empty, and a part '..' takes the one before it away")
    outer, *parts = name.split("/")
    for number, part in enumerate(parts):
        if part in _FIRST_PARTS:
            raise ValueError(
                f"namespace {name!r}: it would lie among the keys of the namespace"
                f" {'/'.join((outer, *parts[:number]))!r}, whose {part} stand there: choose another name than {part!r}"
            )
    return name


class Layout:
    """Where everything of one namespace stands. A namespace is a name like "primes"; slashes around it are ignored."""

    def __init__(self, namespace: str) -> None:
        name = clean_namespace(namespace)
        self.root = f"/{name}/"
        self.tasks = f"/{name}/tasks/"
        self.states = f"/{name}/state/"
        self.nodes = f"/{name}/nodes/"
        self.readers = f"/{name}/readers/"
        self.releases = f"/{name}/released/"
        self.removals = f"/{name}/removals/"
        self.resources = f"/{name}/resources/"
        self.checkpoints = f"/{name}/checkpoints/"
        self.histories = f"/{name}/history/"
        self.finished = f"/{name}/finished/"
        self.live_nodes = f"/{name}/live/"
        self.requests = f"/{name}/requests/"
        self.schedules = f"/{name}/schedules/"
        self.groups = f"/{name}/groups/"
        self._answers = f"/{name}/answers/"
        #: [start, end) of what every node watches
        self.watched = (self.nodes, f"/{name}/tasks0")

    def task(self, task_id: str) -> str:
        return self.tasks + task_id

    def props(self, task_id: str) -> str:
        return f"{self.tasks}{task_id}/props"

    def owner(self, task_id: str) -> str:
        return f"{self.tasks}{task_id}/owner"

    def commands(self, task_id: str) -> str:
        return f"{self.tasks}{task_id}/commands"

    def released(self, task_id: str) -> str:
        return self.releases + task_id

    def released_before(self, task_id: str) -> str:
        """Where nodes of former versions put the mark of a release."""
        return f"{self.tasks}{task_id}/released"

    def removal(self, task_id: str) -> str:
        return self.removals + task_id

    def below_task(self, task_id: str) -> str:
        """The prefix of every key of the task but its own."""
        return f"{self.tasks}{task_id}/"

    def state(self, task_id: str) -> str:
        return self.states + task_id

    def checkpoint(self, task_id: str) -> str:
        return self.checkpoints + task_id

    def history(self, task_id: str) -> str:
        return self.histories + task_id

    def finished_until(self, until: float, task_id: str = "") -> str:
        """The key that says until when a finished task's state is kept. These keys stand in the order of time."""
        return f"{self.finished}{max(0, int(held_time(until))):012d}/{task_id}"

    def member(self, node: str) -> str:
        return f"{self.nodes}{node}/{MARKER}"

    def node_command(self, node: str, key_id: str) -> str:
        return f"{self.nodes}{node}/commands/{key_id}"

    def live(self, node: str) -> str:
        return self.live_nodes + node

    def request(self, node: str, number: str) -> str:
        """A question to a node, see question_records.py."""
        return f"{self.requests}{node}/{number}"

    def answers(self, number: str) -> str:
        """Where the pieces of its answer stand."""
        return f"{self._answers}{number}/"

    def answer(self, number: str, sequence: int) -> str:
        return f"{self.answers(number)}{sequence:06d}"

    def schedule(self, name: str) -> str:
        return self.schedules + name

    def schedule_progress(self, name: str) -> str:
        return f"{self.schedules}{name}/progress"

    def group(self, name: str) -> str:
        return self.groups + name

    def group_submitting(self, name: str) -> str:
        return f"{self.groups}{name}/submitting"

    def usage(self, node: str) -> str:
        return self.resources + node

    def reader(self, reader_id: str) -> str:
        return self.readers + reader_id

    def markers(self, node: str) -> tuple[str, str, str]:
        """The keys, besides its member record, that a Go node puts at start so that these folders exist."""
        return self.root + MARKER, self.tasks + MARKER, f"{self.nodes}{node}/commands/{MARKER}"
