"""The operations of the API: what is served, who may, and what the OpenAPI document says. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mpfora.web.people import Role

#: what can be done to all tasks that a filter matches
BULK = ("run", "pause", "kill", "release", "checkpoint", "sleep", "delete")


@dataclass(frozen=True, slots=True)
class Operation:
    """query: name -> (what it is, its JSON schema); body: properties of the JSON object that it takes, None: none;
    answer: the name of what it answers with, in openapi.py"""

    method: str
    path: str
    role: Role
    handler: str
    summary: str
    answer: str
    query: Mapping[str, tuple[str, Mapping[str, Any]]] = field(default_factory=dict)
    body: Mapping[str, Mapping[str, Any]] | None = None
    required: tuple[str, ...] = ()


_TEXT: Mapping[str, Any] = {"type": "string"}
_DURATION: Mapping[str, Any] = {"type": ["string", "number"]}


def _timeout(usual: str) -> Mapping[str, Mapping[str, Any]]:
    return {"timeout": {**_DURATION, "description": f"how long to wait for its end; {usual} unless told"}}


_TIMEOUT = _timeout("60s")
_Q = {"q": ("a filter, as of `mpfora tasks`", _TEXT)}
_SORT = {"sort": ("id, since, progress, cpu, rss or attempt; - before it reverses it", _TEXT)}


def _commands() -> tuple[Operation, ...]:
    more: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
        "sleep": {"for": {**_DURATION, "description": "10m, or"}, "until": {**_TEXT, "description": "a time"}},
        "complete": {"result": {"description": "any JSON value"}},
        "retry": {"props": {"type": "object"}, "handler": {"type": ["string", "null"]}},
    }
    about = {
        "run": "Run it (again)", "pause": "Stop it, and keep it from running", "kill": "End it for ever",
        "release": "Give it to another node", "checkpoint": "Have it save", "sleep": "Run it again later",
        "complete": "End it as done, with a result", "retry": "Submit it again, in the place of one that has finished",
    }  # fmt: skip
    return tuple(
        Operation("POST", f"/api/v1/tasks/{{task_id}}/{verb}", Role.OPERATE, "command", text, "Done",
                  body={**more.get(verb, {}), **_TIMEOUT})
        for verb, text in about.items()
    )  # fmt: skip


def _node_commands() -> tuple[Operation, ...]:
    about = {
        "freeze": "Take no more tasks", "unfreeze": "Take tasks again", "drain": "Give all tasks back, take none",
        "undrain": "Take tasks again", "balance": "Look now whether tasks should move", "stop-task": "Let go of a task",
        "reload": "Import the handlers anew, for new runs; the error has the traceback if that fails",
        "restart": "Give all tasks back, and leave to be started again",
    }  # fmt: skip
    within = {**_DURATION, "description": "running tasks save and go on in the new code; killed after so long"}
    more: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
        "stop-task": {"task": _TEXT, **_TIMEOUT}, "reload": {"within": within, **_timeout("10m")},
        "restart": _timeout("5m"),
    }  # fmt: skip
    return tuple(
        Operation("POST", f"/api/v1/nodes/{{name}}/{verb}", Role.ADMIN, "command_node", text, "Outcome",
                  body=more.get(verb, _TIMEOUT), required=("task",) if verb == "stop-task" else ())
        for verb, text in about.items()
    )  # fmt: skip


def _schedule_commands() -> tuple[Operation, ...]:
    about = {
        "pause": "Let its times pass without a task", "resume": "Go on with the next of its times",
        "trigger": "Make a task now, beside its times",
    }  # fmt: skip
    return tuple(
        Operation("POST", f"/api/v1/schedules/{{name}}/{verb}", Role.OPERATE, "command_schedule", text, "Outcome",
                  body={})
        for verb, text in about.items()
    )  # fmt: skip


OPERATIONS: tuple[Operation, ...] = (
    Operation("GET", "/api/v1/overview", Role.VIEW, "seen", "Counts, what needs attention, charts", "Overview"),
    Operation(
        "GET", "/api/v1/tasks", Role.VIEW, "tasks", "A page of the tasks that a filter matches", "TaskPage",
        {**_Q, **_SORT, "after": ("`next` of the page before", _TEXT),
         "limit": ("at most this many; 50 by default", {"type": "integer", "minimum": 1, "maximum": 1000})},
    ),
    Operation("GET", "/api/v1/tasks/{task_id}", Role.VIEW, "task", "All of one task", "TaskDetails"),
    Operation(
        "GET", "/api/v1/tasks/{task_id}/log", Role.VIEW, "log", "What it has printed; with follow=1, live", "Log",
        {"run": ("of its Nth run; else of the newest", _TEXT), "tail": ("the last so many lines", _TEXT),
         "grep": ("lines in which this regular expression is found", _TEXT),
         "follow": ("1: go on, as server-sent events", {"enum": ["", "0"]})},
    ),
    Operation("DELETE", "/api/v1/tasks/{task_id}", Role.ADMIN, "delete", "Stop it, and remove all of it", "Outcome",
              body={}),
    *_commands(),
    Operation("POST", "/api/v1/tasks/{task_id}/stack", Role.OPERATE, "stack", "Where it is now", "Stack",
              body={"native": {"type": "boolean"}}),
    Operation("POST", "/api/v1/tasks/{task_id}/profile", Role.OPERATE, "profile", "Where it spends its time",
              "Profile", body={"for": _DURATION, "hz": {"type": "integer"},
                               "by": {"enum": ["wall", "cpu", "gil"]}}),
    Operation(
        "POST", "/api/v1/bulk", Role.OPERATE, "bulk", "Command all tasks that a filter matches; 409 if they are not as"
        " many as expected", "Bulk",
        body={"verb": {"enum": list(BULK)}, "q": _TEXT, "expect": {"type": "integer"}, "for": _DURATION,
              "until": _TEXT, **_TIMEOUT},
        required=("verb", "q", "expect"),
    ),
    Operation("GET", "/api/v1/nodes", Role.VIEW, "seen", "The live nodes", "NodeList"),
    Operation("GET", "/api/v1/nodes/{name}", Role.VIEW, "node", "One node and its tasks", "NodePage", _SORT),
    *_node_commands(),
    Operation("GET", "/api/v1/groups", Role.VIEW, "seen", "The groups of tasks", "GroupList"),
    Operation("GET", "/api/v1/schedules", Role.VIEW, "seen", "The schedules, and when each is next",
              "ScheduleList"),
    *_schedule_commands(),
    Operation("DELETE", "/api/v1/schedules/{name}", Role.ADMIN, "command_schedule",
              "Make no more tasks; those that were made go on", "Outcome", body={}),
    Operation("GET", "/api/v1/events", Role.VIEW, "events", "What has happened in the cluster since this server looks",
              "EventList", {"q": ("those alone with this in their task, node, kind or text", _TEXT)}),
    Operation("GET", "/api/v1/actions", Role.VIEW, "seen", "What people did here of late", "ActionList"),
    Operation(
        "GET", "/api/v1/stream", Role.VIEW, "stream", "What a page shows, live: server-sent events", "events",
        {"view": ("overview, tasks, task, nodes, node, groups, schedules, events or actions", _TEXT), **_Q, **_SORT,
         "after": ("as of tasks", _TEXT), "limit": ("as of tasks", _TEXT), "id": ("of task", _TEXT),
         "name": ("of node", _TEXT)},
    ),
)  # fmt: skip
