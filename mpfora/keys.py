"""The key layout in etcd and the JSON values there: Metafora's, byte for byte where its Go nodes read them. Pure.

    NS/tasks/ID                  a task; any value
    NS/tasks/ID/props            JSON object: its properties
    NS/tasks/ID/owner            {"node":"NAME"}, on the owner's lease; ours may add "missed"
    NS/tasks/ID/commands         the last message for the task
    NS/tasks/ID/released         ours: the last owner's word that its process was dead when it let go
    NS/state/ID                  the task's state; outlives the task
    NS/nodes/NAME/_metafora      member record, on the node's lease
    NS/nodes/NAME/commands/N     a command for the node
    NS/readers/N                 ours: somebody wants to see progress
    NS/resources/NAME            ours: what the node's tasks cost, on its lease; changes seldom
    NS/checkpoints/ID            ours: what the last run saved (JSON); not watched
    NS/history/ID                ours: the last runs (JSON); not watched; goes with the state
    NS/finished/UNTIL/ID         ours: what is kept of a finished task goes then (Unix seconds); not watched
    NS/live/NAME                 ours: progress of the node's running tasks, on its lease; not watched

[NS/nodes/, NS/tasks0) is the watched range. Each value has a format_/parse_ pair here; what an event of the watched
range means is said by `mpfora/supervisor/key_changes.py`. A parse_ function raises ValueError with one line: what is
wrong and what would be right.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from mpfora.model import Cost, Member, NodeUsage, Wants
from mpfora.states import InvalidMessage, Message, State, TaskError, TaskState, Verb
from mpfora.units import format_time, parse_time

MARKER = "_metafora"

#: what a node says of itself stands among what it says of its tasks under this, which no task can have as its id
NODE_ROW = "/node"
#: loads are divided by weights
MOST_WEIGHT = 1e9
#: the node commands: Metafora's, then ours
NODE_VERBS = ("freeze", "unfreeze", "balance", "stop_task", "drain", "undrain")
#: the messages that a command may carry; `error` is only ever a task's own
COMMAND_VERBS = (Verb.RUN, Verb.PAUSE, Verb.KILL, Verb.RELEASE, Verb.CHECKPOINT, Verb.COMPLETE, Verb.SLEEP)


class Layout:
    """Where everything of one namespace is. The namespace is a name like "primes", slashes around it are ignored."""

    def __init__(self, namespace: str) -> None:
        name = namespace.strip("/ ")
        if not name:
            raise ValueError(f"namespace {namespace!r}: must not be empty")
        self.root = f"/{name}/"
        self.tasks = f"/{name}/tasks/"
        self.states = f"/{name}/state/"
        self.nodes = f"/{name}/nodes/"
        self.readers = f"/{name}/readers/"
        self.resources = f"/{name}/resources/"
        self.checkpoints = f"/{name}/checkpoints/"
        self.histories = f"/{name}/history/"
        self.finished = f"/{name}/finished/"
        self.live_nodes = f"/{name}/live/"
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
        return f"{self.tasks}{task_id}/released"

    def below_task(self, task_id: str) -> str:
        """Prefix of every key of the task but its own."""
        return f"{self.tasks}{task_id}/"

    def state(self, task_id: str) -> str:
        return self.states + task_id

    def checkpoint(self, task_id: str) -> str:
        return self.checkpoints + task_id

    def history(self, task_id: str) -> str:
        return self.histories + task_id

    def finished_until(self, until: float, task_id: str = "") -> str:
        """The key that says how long what is kept of a finished task stays; in the order of time."""
        return f"{self.finished}{max(0, int(until)):012d}/{task_id}"

    def member(self, node: str) -> str:
        return f"{self.nodes}{node}/{MARKER}"

    def node_command(self, node: str, key_id: str) -> str:
        return f"{self.nodes}{node}/commands/{key_id}"

    def live(self, node: str) -> str:
        return self.live_nodes + node

    def usage(self, node: str) -> str:
        return self.resources + node

    def reader(self, reader_id: str) -> str:
        return self.readers + reader_id

    def markers(self, node: str) -> tuple[str, str, str]:
        """The keys, besides its member record, that a Go node puts at start so that these folders exist."""
        return self.root + MARKER, self.tasks + MARKER, f"{self.nodes}{node}/commands/{MARKER}"


def format_json(value: Any) -> str:
    """Compact JSON. Raises ValueError for what JSON cannot hold (NaN, infinities), TypeError for what is no JSON
    value."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def parse_json(value: bytes | str, what: str) -> Any:
    """Any JSON value, in UTF-8. Raises ValueError naming `what`."""
    try:
        return json.loads(value.decode() if isinstance(value, bytes) else value)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{what} is no JSON ({error}): {_short(value)}") from None


def parse_object(value: bytes | str, what: str) -> dict[str, Any]:
    """A JSON object. Raises ValueError naming `what`."""
    parsed = parse_json(value, what)
    if not isinstance(parsed, dict):
        raise ValueError(f"{what} must be a JSON object, not {_short(value)}")
    return parsed


def _short(value: bytes | str) -> str:
    text = value.decode(errors="replace") if isinstance(value, bytes) else value
    return repr(text if len(text) <= 80 else text[:77] + "...")


def _field(values: Mapping[str, Any], name: str, kinds: type | tuple[type, ...], default: Any, what: str) -> Any:
    """A field of a JSON object; `default` where it is missing or null. Raises ValueError if it is of another kind."""
    value = values.get(name)
    if value is None:
        return default
    kinds = kinds if isinstance(kinds, tuple) else (kinds,)
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        wanted = " or ".join(_JSON_NAMES[kind] for kind in kinds)
        raise ValueError(f'{what}: "{name}" must be {wanted}, not {_short(json.dumps(value))}')
    return value


_JSON_NAMES = {
    str: "a string",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    dict: "an object",
    list: "a list",
}


def _time(values: Mapping[str, Any], name: str, what: str) -> float | None:
    text = _field(values, name, str, None, what)
    if text is None:
        return None
    try:
        return parse_time(text)
    except (ValueError, OverflowError) as error:
        raise ValueError(f'{what}: "{name}": {error}') from None


def _strings(values: Mapping[str, Any], name: str, what: str) -> dict[str, str]:
    found = _field(values, name, dict, {}, what)
    if not all(isinstance(value, str) for value in found.values()):
        raise ValueError(f'{what}: "{name}" must map names to strings, not {_short(json.dumps(found))}')
    return dict(found)


# -- owner ------------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=256)
def format_owner(node: str, missed: str | None = None) -> str:
    return format_json({"node": node} if missed is None else {"node": node, "missed": missed})


def parse_owner(value: bytes | str) -> tuple[str, str | None]:
    """(node, the node that should have claimed the task and did not, or None)."""
    values = parse_object(value, "owner")
    node = _field(values, "node", str, "", "owner")
    if not node:
        raise ValueError(f'owner needs the node\'s name, like {{"node":"NAME"}}: {_short(value)}')
    return node, _field(values, "missed", str, None, "owner")


def format_released(node: str, fence: int, to: str | None = None, cost: Cost | None = None) -> str:
    """The mark of a clean release: whose claim it was, which node should have the task, and what it costs."""
    values: dict[str, Any] = {"node": node, "fence": fence}
    if to is not None:
        values["to"] = to
    if cost is not None:
        values["cost"] = _cost_values(cost)
    return format_json(values)


def format_lost(node: str, fence: int) -> str:
    """The same mark, left in the owner's name when it had died, and its process after it: that run never ended."""
    return format_json({"node": node, "fence": fence, "lost": True})


def parse_lost_run(value: bytes | str) -> tuple[str, int] | None:
    """(node, fence) of the claim whose owner died, None where the mark says nothing of that. Never raises."""
    try:
        lost = parse_object(value, "released").get("lost") is True
        return parse_released(value) if lost else None
    except ValueError:
        return None


def parse_released_to(value: bytes | str) -> str | None:
    """The node that should have a task that was let go; None: whoever is next. Raises ValueError."""
    to: str | None = _field(parse_object(value, "released"), "to", str, None, "released")
    return to


def parse_released_cost(value: bytes | str) -> Cost | None:
    """What a task that was let go costs, if its node knew. Raises ValueError."""
    values = parse_object(value, "released").get("cost")
    return None if values is None else _parse_cost(values, "released")


def parse_released(value: bytes | str) -> tuple[str, int]:
    values = parse_object(value, "released")
    return _field(values, "node", str, "", "released"), _field(values, "fence", int, 0, "released")


# -- member record ----------------------------------------------------------------------------------------------------


def format_member(member: Member) -> str:
    return format_json(
        {
            "host": member.host,
            "created": member.created,
            "node": member.name,
            "pid": member.pid,
            "capacity": member.capacity,
            "weight": member.weight,
            "frozen": member.frozen,
            "draining": member.draining,
            **({"full": True} if member.full else {}),
            "labels": dict(member.labels),
            "handlers": list(member.handlers),
            **({"balancer": member.balancer} if member.balancer else {}),
        }
    )


def parse_member(name: str, value: bytes | str) -> Member:
    """The record of the node whose key it was found at; a Go node's has host, created and node alone."""
    what = f"member record of {name}"
    values = parse_object(value, what)
    handlers = _field(values, "handlers", list, [], what)
    if not all(isinstance(handler, str) for handler in handlers):
        raise ValueError(f'{what}: "handlers" must be a list of names, not {_short(json.dumps(handlers))}')
    weight = _field(values, "weight", (int, float), 1.0, what)
    if not 0 < weight <= MOST_WEIGHT:
        raise ValueError(f'{what}: "weight" must be over 0 and at most {MOST_WEIGHT:g}, not {_short(str(weight))}')
    return Member(
        name=name,
        host=_field(values, "host", str, "", what),
        pid=_field(values, "pid", int, 0, what),
        created=_field(values, "created", str, "", what),
        capacity=_field(values, "capacity", int, None, what),
        weight=float(weight),
        frozen=_field(values, "frozen", bool, False, what),
        draining=_field(values, "draining", bool, False, what),
        full=_field(values, "full", bool, False, what),
        labels=_strings(values, "labels", what),
        handlers=tuple(handlers),
        balancer=_field(values, "balancer", str, "", what),
    )


# -- what tasks cost --------------------------------------------------------------------------------------------------

#: no task costs more than this: a million cores, or an EiB
_MOST_COST = 10**12


def _cost_values(cost: Cost) -> list[int]:
    return [cost.cpu, cost.memory]


def _parse_cost(values: Any, what: str) -> Cost:
    numbers = values if isinstance(values, list) and len(values) == 2 else ()
    if not numbers or not all(type(n) is int and 0 <= n <= _MOST_COST for n in numbers):
        raise ValueError(f"{what}: a cost is [thousandths of a core, MiB], not {_short(json.dumps(values))}")
    return Cost(*numbers)


def format_usage(usage: NodeUsage) -> str:
    """What a node's tasks cost: {"tasks":{ID:[CPU,MEMORY]},"others":{HANDLER:[COUNT,CPU,MEMORY]}}."""
    return format_json(
        {
            "tasks": {task_id: _cost_values(cost) for task_id, cost in usage.tasks.items()},
            "others": {name: [count, *_cost_values(mean)] for name, (count, mean) in usage.others.items()},
        }
    )


def parse_usage(value: bytes | str) -> NodeUsage:
    values = parse_object(value, "usage")
    tasks = _field(values, "tasks", dict, {}, "usage")
    others = _field(values, "others", dict, {}, "usage")
    return NodeUsage(
        {task_id: _parse_cost(cost, "usage") for task_id, cost in tasks.items()},
        {name: _parse_mean(mean) for name, mean in others.items()},
    )


def _parse_mean(values: Any) -> tuple[int, Cost]:
    if not isinstance(values, list) or not values or type(values[0]) is not int or not 0 < values[0] <= _MOST_COST:
        raise ValueError(f'usage: "others" are [count, CPU, memory], not {_short(json.dumps(values))}')
    return values[0], _parse_cost(values[1:], "usage")


# -- commands ---------------------------------------------------------------------------------------------------------


def format_node_command(verb: str, parameters: Mapping[str, Any] | None = None) -> str:
    """Raises ValueError for a verb that no node knows, and for stop_task without a task."""
    _check_node_command(verb, parameters or {})
    return format_json({"command": verb, "parameters": dict(parameters)} if parameters else {"command": verb})


def parse_node_command(value: bytes | str) -> tuple[str, dict[str, Any]]:
    """(verb, parameters)."""
    values = parse_object(value, "node command")
    verb = _field(values, "command", str, "", "node command")
    parameters = _field(values, "parameters", dict, {}, "node command")
    _check_node_command(verb, parameters)
    return verb, parameters


def _check_node_command(verb: str, parameters: Mapping[str, Any]) -> None:
    if verb not in NODE_VERBS:
        raise ValueError(f"node command {verb[:80]!r} is unknown: use one of {', '.join(NODE_VERBS)}")
    if verb == "stop_task" and not (isinstance(parameters.get("task"), str) and parameters["task"]):
        raise ValueError('node command stop_task needs {"parameters":{"task":"ID"}}')


def format_message(message: Message) -> str:
    """A command for a task. Raises ValueError for a verb that no command may carry."""
    if message.verb not in COMMAND_VERBS:
        raise ValueError(f"message {message.verb.value!r} is no command: use one of {', '.join(COMMAND_VERBS)}")
    if message.until is None:
        return format_json({"message": message.verb.value})
    return format_json({"message": message.verb.value, "until": format_time(message.until)})


def parse_message(value: bytes | str) -> Message:
    """A command for a task. `until` counts with sleep alone, and "error" is never looked at: in Go it is an
    interface."""
    values = parse_object(value, "task command")
    name = _field(values, "message", str, "", "task command")
    if name not in COMMAND_VERBS:
        raise ValueError(f"task command {name[:80]!r} is unknown: use one of {', '.join(COMMAND_VERBS)}")
    verb = Verb(name)
    if verb is not Verb.SLEEP:
        return Message(verb)
    try:
        return Message(verb, until=_time(values, "until", "task command"))
    except InvalidMessage:
        raise ValueError('task command sleep needs a time, like "until":"2026-11-24T10:00:00Z"') from None


# -- state ------------------------------------------------------------------------------------------------------------

_STATE_FIELDS = frozenset(
    {"state", "until", "errors", "attempt", "result", "cause", "node", "started", "ended", "stack", "kept_until"}
)


def format_state(state: TaskState) -> str:
    """Metafora's fields in its form, ours where they say something, and unknown ones as they were found."""
    values: dict[str, Any] = {"state": state.state.value}
    if state.until is not None:
        values["until"] = format_time(state.until)
    if state.errors:
        values["errors"] = [_error_values(error) for error in state.errors]
    for name in ("attempt", "cause", "node", "stack"):
        if getattr(state, name):
            values[name] = getattr(state, name)
    if state.result is not None:
        values["result"] = state.result
    for name in ("started", "ended", "kept_until"):
        if getattr(state, name) is not None:
            values[name] = format_time(getattr(state, name))
    return format_json(values | {name: value for name, value in state.extra.items() if name not in _STATE_FIELDS})


def _error_values(error: TaskError) -> dict[str, str]:
    values = {"timestamp": format_time(error.at), "error": error.text}
    return values | {name: getattr(error, name) for name in ("cause", "stack") if getattr(error, name)}


def parse_state(value: bytes | str) -> TaskState:
    values = parse_object(value, "state")
    name = _field(values, "state", str, "", "state")
    if name not in list(State):
        raise ValueError(f'state: "state" must be one of {", ".join(State)}, not {_short(name)}')
    until = _time(values, "until", "state")
    if name == State.SLEEPING and until is None:
        raise ValueError('state: sleeping needs a time, like "until":"2026-11-24T10:00:00Z"')
    return TaskState(
        state=State(name),
        until=until if name == State.SLEEPING else None,
        errors=tuple(_parse_error(error) for error in _field(values, "errors", list, [], "state")),
        attempt=_field(values, "attempt", int, 0, "state"),
        result=values.get("result"),
        cause=_field(values, "cause", str, "", "state"),
        node=_field(values, "node", str, "", "state"),
        started=_time(values, "started", "state"),
        ended=_time(values, "ended", "state"),
        stack=_field(values, "stack", str, "", "state"),
        kept_until=_time(values, "kept_until", "state"),
        extra={key: value for key, value in values.items() if key not in _STATE_FIELDS},
    )


def _parse_error(values: Any) -> TaskError:
    what = "an error of the state"
    if not isinstance(values, dict):
        raise ValueError(f"{what} must be an object, not {_short(json.dumps(values))}")
    at = _time(values, "timestamp", what)
    if at is None:
        raise ValueError(f'{what} needs its time, like "timestamp":"2026-11-24T10:00:00Z"')
    texts = {name: _field(values, name, str, "", what) for name in ("error", "cause", "stack")}
    return TaskError(at=at, text=texts["error"], cause=texts["cause"], stack=texts["stack"])


# -- props ------------------------------------------------------------------------------------------------------------


def parse_wants(value: bytes | str) -> Wants:
    """What a task's props ask of a node. Never raises: props that are no object make a `problem`, which fails the task
    when it is run; other things under "handler" and "labels" than a name and names with texts are the task's own
    affair, and a "not_before" that is no time makes an error of the run."""
    if value in (b"", ""):
        return Wants()
    try:
        props = parse_json(value, "props")
    except ValueError as error:
        return Wants(problem=str(error))
    if props is None:
        return Wants()
    if not isinstance(props, dict):
        return Wants(problem=f"props must be a JSON object, not {_short(value)}")
    handler, labels = props.get("handler"), props.get("labels")
    labels_count = isinstance(labels, dict) and all(isinstance(text, str) for text in labels.values())
    return Wants(
        handler if isinstance(handler, str) else None,
        labels if isinstance(labels, dict) and labels_count else {},
        sleeps_first=_is_time(props.get("not_before")),
    )


def _is_time(value: Any) -> bool:
    try:
        return isinstance(value, str) and parse_time(value) is not None
    except (ValueError, OverflowError):
        return False


# -- progress ---------------------------------------------------------------------------------------------------------


def format_progress(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """What a node's running tasks say of themselves, by task id; and the node of itself, under NODE_ROW."""
    return format_json({task_id: dict(row) for task_id, row in rows.items()})


def parse_progress(value: bytes | str) -> dict[str, dict[str, Any]]:
    rows = parse_object(value, "progress")
    return {task_id: row for task_id, row in rows.items() if isinstance(row, dict)}
