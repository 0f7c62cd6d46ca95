"""The values of commands: to a node, and to a task. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mpfora.model.state import InvalidMessage, Message, Verb
from mpfora.model.units import format_time
from mpfora.store.json_format import format_json, parse_object, read_field, read_time

#: the node commands: Metafora's, then ours
GO_VERBS = ("freeze", "unfreeze", "balance", "stop_task")
NODE_VERBS = (*GO_VERBS, "drain", "undrain", "reload", "restart")
#: seconds that running tasks may have to go on in reloaded code
_MOST_WITHIN_S = 315_360_000
#: the most characters of the name of whoever sent a command
_BY = 200
#: the messages that a command may carry; `error` is only ever a task's own
COMMAND_VERBS = (Verb.RUN, Verb.PAUSE, Verb.KILL, Verb.RELEASE, Verb.CHECKPOINT, Verb.COMPLETE, Verb.SLEEP)


def format_node_command(verb: str, parameters: Mapping[str, Any] | None = None, by: str = "") -> str:
    """by: who sends it, for those who look on. Raises ValueError for a verb that no node knows, and for stop_task
    without a task."""
    _check_node_command(verb, parameters or {})
    given = {"parameters": dict(parameters)} if parameters else {}
    return format_json({"command": verb} | given | ({"by": by} if by else {}))


def parse_node_command(value: bytes | str) -> tuple[str, dict[str, Any]]:
    """(verb, parameters)."""
    values = parse_object(value, "node command")
    verb = read_field(values, "command", str, "", "node command")
    parameters = read_field(values, "parameters", dict, {}, "node command")
    _check_node_command(verb, parameters)
    return verb, parameters


def _check_node_command(verb: str, parameters: Mapping[str, Any]) -> None:
    if verb not in NODE_VERBS:
        raise ValueError(f"node command {verb[:80]!r} is unknown: use one of {', '.join(NODE_VERBS)}")
    if verb == "stop_task" and not (isinstance(parameters.get("task"), str) and parameters["task"]):
        raise ValueError('node command stop_task needs {"parameters":{"task":"ID"}}')
    if verb == "restart" and not (isinstance(parameters.get("created"), str) and parameters["created"]):
        # a restarted node that finds the command again must not restart again
        raise ValueError('node command restart needs {"parameters":{"created":TIME}}, from the record of the node')
    if verb == "reload":
        _check_within(parameters.get("within"))


def _check_within(within: object) -> None:
    if within is None:
        return
    if isinstance(within, bool) or not isinstance(within, int | float) or not 0 <= within <= _MOST_WITHIN_S:
        raise ValueError('node command reload: "within" must be seconds, at most ten years')


def format_message(message: Message, by: str = "") -> str:
    """A command for a task. by: who sends it, for those who look on. Raises ValueError for a verb that no command may
    carry."""
    if message.verb not in COMMAND_VERBS:
        raise ValueError(f"message {message.verb.value!r} is not a command: use one of {', '.join(COMMAND_VERBS)}")
    until = {} if message.until is None else {"until": format_time(message.until)}
    return format_json({"message": message.verb.value} | until | ({"by": by} if by else {}))


def parse_by(value: bytes | str) -> str:
    """Who sent a command; "" where it does not say."""
    try:
        by = parse_object(value, "command").get("by")
    except ValueError:
        return ""
    return by[:_BY] if isinstance(by, str) else ""


def parse_message(value: bytes | str) -> Message:
    """A command for a task. Reads `until` for sleep only. Never reads "error": in Go that is an interface."""
    values = parse_object(value, "task command")
    name = read_field(values, "message", str, "", "task command")
    if name not in COMMAND_VERBS:
        raise ValueError(f"task command {name[:80]!r} is unknown: use one of {', '.join(COMMAND_VERBS)}")
    verb = Verb(name)
    if verb is not Verb.SLEEP:
        return Message(verb)
    try:
        return Message(verb, until=read_time(values, "until", "task command"))
    except InvalidMessage:
        raise ValueError('task command sleep needs a time, like "until":"2026-11-24T10:00:00Z"') from None
