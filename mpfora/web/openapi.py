"""The OpenAPI document, made of the table of operations. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from mpfora._version import __version__
from mpfora.client.info.node_info import NodeInfo
from mpfora.client.info.schedule_info import ScheduleInfo
from mpfora.client.info.task_info import TaskInfo
from mpfora.web.operations import OPERATIONS, Operation

_ANY: Mapping[str, Any] = {}
_TEXT, _COUNT, _FLAG = {"type": "string"}, {"type": "integer"}, {"type": "boolean"}
_NUMBER = {"type": "number"}


def _list(of: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": of}


def _map(of: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": of}


def _object(**properties: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _or_null(kind: str) -> dict[str, Any]:
    return {"type": [kind, "null"]}


_TASK_TYPES: Mapping[str, Mapping[str, Any]] = {
    "id": _TEXT, "state": _TEXT, "attempt": _COUNT, "fence": _or_null("integer"), "progress": _or_null("number"),
    "cpu": _or_null("number"), "cpu_s": _or_null("number"), "rss": _or_null("integer"), "errors": _list(_map(_ANY)),
    "history": {"type": ["array", "null"], "items": _map(_ANY)}, "result": _ANY, "needs": _or_null("object"),
    "given": _or_null("object"), "priority": _COUNT,
}  # fmt: skip
_NODE_TYPES: Mapping[str, Mapping[str, Any]] = {
    "pid": _COUNT, "tasks": _COUNT, "active": _COUNT, "capacity": _or_null("integer"), "frozen": _FLAG,
    "draining": _FLAG, "labels": _map(_TEXT), "handlers": _list(_TEXT), "cgroups": _list(_TEXT),
    "share": _or_null("integer"), "cost": _or_null("number"), "cost_share": _or_null("number"),
    "counts": _or_null("object"), "trouble": _or_null("object"), "code": _or_null("object"), "has": _map(_NUMBER),
    "free": _or_null("object"),
}  # fmt: skip
_SCHEDULE_TYPES: Mapping[str, Mapping[str, Any]] = {
    "cron": _or_null("string"), "every": _or_null("integer"), "handler": _or_null("string"), "props": _map(_ANY),
    "jitter": _NUMBER, "paused": _FLAG, "next": _or_null("number"), "next_id": _or_null("string"),
    "last_id": _or_null("string"), "waiting": _list(_TEXT), "skipped": _COUNT, "upcoming": _list(_NUMBER),
}  # fmt: skip
#: what every live view says besides
_SEEN: Mapping[str, Mapping[str, Any]] = {"revision": _COUNT, "trouble": _TEXT, "namespace": _TEXT}
_SUMMARY = _map(_or_null("integer"))

SCHEMAS: Mapping[str, Any] = {
    "Error": _object(error=_TEXT),
    "Task": _object(**{one.name: _TASK_TYPES.get(one.name, _or_null("string")) for one in fields(TaskInfo)}),
    "Node": _object(**{one.name: _NODE_TYPES.get(one.name, _TEXT) for one in fields(NodeInfo)}),
    "Schedule": _object(**{one.name: _SCHEDULE_TYPES.get(one.name, _TEXT) for one in fields(ScheduleInfo)}),
    "Attention": _object(level={"enum": ["error", "warning", "info"]}, kind=_TEXT, text=_TEXT, count=_COUNT),
    "Overview": _object(
        states=_map(_COUNT), total=_COUNT, nodes=_SUMMARY, attention=_list(_ref("Attention")),
        handlers=_list(_map(_ANY)), charts=_map(_ANY), **_SEEN,
    ),
    "TaskPage": _object(tasks=_list(_ref("Task")), total=_COUNT, next=_or_null("string"), **_SEEN),
    "TaskDetails": _object(
        task=_ref("Task"), props=_ANY, checkpoint=_ANY, checkpoint_bytes=_COUNT, problem=_TEXT,
    ),
    "Done": _object(outcome=_TEXT, task=_ref("Task")),
    "Outcome": _object(outcome=_TEXT),
    "Stack": _object(task=_TEXT, node=_TEXT, pid=_COUNT, attempt=_COUNT, how=_TEXT, note=_TEXT, stack=_TEXT),
    "Profile": _object(
        task=_TEXT, node=_TEXT, pid=_COUNT, attempt=_COUNT, title=_TEXT, by=_TEXT, how=_TEXT, note=_TEXT,
        seconds=_NUMBER,
        stacks=_list(_list(_ANY)), places=_list(_list(_ANY)),
    ),
    "Bulk": _object(
        outcome=_TEXT, count=_COUNT, done=_COUNT, states=_map(_COUNT), refused=_list(_object(id=_TEXT, error=_TEXT)),
    ),
    "Log": _object(lines=_list(_map(_ANY))),
    "NodeList": _object(nodes=_list(_ref("Node")), summary=_SUMMARY, **_SEEN),
    "NodePage": _object(node=_ref("Node"), tasks=_list(_ref("Task")), total=_COUNT, **_SEEN),
    "GroupList": _object(groups=_list(_object(group=_TEXT, states=_map(_COUNT))), total=_COUNT, **_SEEN),
    "ScheduleList": _object(schedules=_list(_ref("Schedule")), total=_COUNT, **_SEEN),
    "EventList": _object(events=_list(_map(_ANY)), **_SEEN),
    "ActionList": _object(actions=_list(_map(_ANY)), **_SEEN),
}  # fmt: skip


def document(prefix: str = "") -> dict[str, Any]:
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "mpfora web",
            "version": __version__,
            "description": "What the page of `mpfora web` asks. Tasks and nodes have the shape that the command line"
            " prints with --json. Whatever changes something takes application/json, and comes from the page itself or"
            " with a token; each operation names the least role that may.",
        },
        "servers": [{"url": prefix or "/"}],
        "paths": paths,
        "components": {
            "schemas": SCHEMAS,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "password": {"type": "http", "scheme": "basic"},
            },
        },
        "security": [{"token": []}, {"password": []}],
    }


def _operation(operation: Operation) -> dict[str, Any]:
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in re.findall(r"\{(\w+)\}", operation.path)
    ]
    parameters += [
        {"name": name, "in": "query", "description": about, "schema": schema}
        for name, (about, schema) in operation.query.items()
    ]
    if operation.answer == "events":
        content: dict[str, Any] = {"text/event-stream": {"schema": {"type": "string"}}}
    else:
        content = {"application/json": {"schema": _ref(operation.answer)}}
    refused = {"description": "Why not", "content": {"application/json": {"schema": _ref("Error")}}}
    made: dict[str, Any] = {
        "operationId": f"{operation.method.lower()}{re.sub('[^a-z]+', '_', operation.path.removeprefix('/api/v1'))}",
        "summary": operation.summary,
        "description": f"Takes the role {operation.role.title}.",
        "parameters": parameters,
        "responses": {"200": {"description": "OK", "content": content}, "default": refused},
    }
    if operation.body is not None:
        schema = {"type": "object", "properties": operation.body, "required": list(operation.required)}
        made["requestBody"] = {
            "required": bool(operation.required), "content": {"application/json": {"schema": schema}},
        }  # fmt: skip
    return made
