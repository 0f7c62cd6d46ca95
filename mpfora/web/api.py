"""The JSON API: what each operation does."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from mpfora.client.info.task_info import TaskInfo
from mpfora.client.tasks.submit import find_task_id
from mpfora.errors import (
    AnsweredOtherwise,
    BadValue,
    CommandReplaced,
    EtcdRefused,
    EtcdUnreachable,
    InvalidTask,
    MpforaError,
    NobodyToAsk,
    NodeNotFound,
    NodeSilent,
    NotOnNode,
    NotRunning,
    NotTaken,
    ScheduleNotFound,
    TaskExists,
    TaskNotFound,
    UnreadableState,
)
from mpfora.model.units import parse_duration, shown
from mpfora.web.actions import Actions, CountChanged
from mpfora.web.guard import error
from mpfora.web.log_stream import follow_log, read_log, wanted
from mpfora.web.operations import BULK, Operation
from mpfora.web.page_data import PageData
from mpfora.web.people import Role, User
from mpfora.web.redaction import redacted
from mpfora.web.settings import WebSettings
from mpfora.web.stream import live
from mpfora.web.views import Views

log = logging.getLogger("mpfora.web")

#: how long the first answer waits for the mirror
_READY_S = 20.0
_STATUS: tuple[tuple[type[MpforaError], int], ...] = (
    (CountChanged, 409), (TaskNotFound, 404), (NodeNotFound, 404), (ScheduleNotFound, 404), (BadValue, 400),
    (InvalidTask, 400),
    (NotTaken, 409), (AnsweredOtherwise, 409), (CommandReplaced, 409), (UnreadableState, 409), (TaskExists, 409),
    (NotOnNode, 409), (NotRunning, 409), (NobodyToAsk, 409), (NodeSilent, 504), (EtcdUnreachable, 503),
    (EtcdRefused, 502),
)  # fmt: skip


def status_of(failure: MpforaError) -> int:
    """A time that is up is 504."""
    if isinstance(failure, TimeoutError):
        return 504
    return next((status for kind, status in _STATUS if isinstance(failure, kind)), 409)


class Api:
    """A method for each operation."""

    def __init__(self, data: PageData, views: Views, settings: WebSettings) -> None:
        self._data, self._views, self._settings = data, views, settings
        self._actions = Actions(data)

    def endpoint(self, operation: Operation) -> Callable[[Request], Awaitable[Response]]:
        """The operation behind the checks that all have: the role, and what errors become."""
        handler: Callable[[Request], Awaitable[Response]] = getattr(self, operation.handler)

        async def checked(request: Request) -> Response:
            user: User = request.scope["user"]
            if user.role < operation.role:
                self._data.audit.note(user, request.method, request.url.path, "not allowed", is_refused=True)
                return error(403, f"{user.name} may {user.role.title}; this takes the role {operation.role.title}")
            try:
                await self._data.mirror.ready(_READY_S)
                return await handler(request)
            except CountChanged as failure:
                return JSONResponse({"error": str(failure), "count": failure.count}, 409)
            except MpforaError as failure:
                return error(status_of(failure), str(failure))

        return checked

    # -- looking ------------------------------------------------------------------------------------------------------

    def _view(self, name: str, params: Mapping[str, str]) -> JSONResponse:
        return JSONResponse(self._views.show(name, params))

    async def seen(self, request: Request) -> Response:
        """What a page of this name shows, without parameters."""
        return self._view(request.url.path.rpartition("/")[2], {})

    async def tasks(self, request: Request) -> Response:
        return self._view("tasks", _query(request, "q", "sort", "after", "limit"))

    async def task(self, request: Request) -> Response:
        """All of a task: what stands in etcd, and what the mirror knows of why it waits and how its run does."""
        details = await self._data.client.details(_task_id(request))
        full = _merged(details.task, self._data)
        hide = self._settings.redact
        return JSONResponse(
            {
                "task": self._views.task_json(full),
                "props": redacted(details.props, hide),
                "checkpoint": redacted(details.checkpoint, hide),
                "checkpoint_bytes": details.checkpoint_bytes,
                "problem": details.problem,
            }
        )

    async def node(self, request: Request) -> Response:
        return self._view("node", {"name": request.path_params["name"], **_query(request, "sort")})

    async def events(self, request: Request) -> Response:
        return self._view("events", _query(request, "q"))

    async def stream(self, request: Request) -> Response:
        params = dict(request.query_params)
        name = params.pop("view", "")
        if name not in self._views.names:
            raise BadValue(f"view: must be one of {', '.join(self._views.names)}, not {shown(name)}")
        known = {key: value for key, value in params.items() if key in ("q", "sort", "after", "limit", "id", "name")}
        events = live(self._data, self._views, name, known)
        return StreamingResponse(events, media_type="text/event-stream", headers={"x-accel-buffering": "no"})

    async def log(self, request: Request) -> Response:
        """What it has printed, as JSON; with follow=1 on and on, as server-sent events."""
        task_id, params = _task_id(request), _query(request, "run", "tail", "grep")
        if request.query_params.get("follow") != "1":
            return JSONResponse({"lines": await read_log(self._data.client, task_id, params)})
        events = follow_log(self._data, task_id, wanted(params))
        return StreamingResponse(events, media_type="text/event-stream", headers={"x-accel-buffering": "no"})

    # -- looking into what runs ---------------------------------------------------------------------------------------

    async def stack(self, request: Request) -> Response:
        body, task_id = await _body(request), _task_id(request)
        native = body.get("native", False)
        found = await self._data.client.stack(task_id, native)
        self._data.audit.note(_user(request), "stack", f"task {task_id}", f"by {found.how}")
        return JSONResponse(found.to_json())

    async def profile(self, request: Request) -> Response:
        body, task_id = await _body(request), _task_id(request)
        seconds = _duration(body, "for", 15.0)
        found = await self._data.client.profile(task_id, seconds, body.get("hz", 50), body.get("by", "wall"))
        self._data.audit.note(_user(request), "profile", f"task {task_id}", f"{found.seconds:.1f} s by {found.how}")
        stacks = [[list(frames), weight] for frames, weight in found.stacks]
        places = [[place, share] for place, share in found.places()]
        return JSONResponse(
            {"task": found.task_id, "node": found.node, "pid": found.pid, "attempt": found.attempt,
             "title": found.title, "by": found.by, "how": found.how, "note": found.note,
             "seconds": found.seconds, "stacks": stacks, "places": places}
        )  # fmt: skip

    # -- doing --------------------------------------------------------------------------------------------------------

    async def command(self, request: Request) -> Response:
        verb = request.url.path.rpartition("/")[2]
        task, outcome = await self._actions.on_task(_user(request), _task_id(request), verb, await _body(request))
        return JSONResponse({"outcome": outcome, "task": self._views.task_json(task)})

    async def delete(self, request: Request) -> Response:
        return JSONResponse({"outcome": await self._actions.delete(_user(request), _task_id(request))})

    async def command_node(self, request: Request) -> Response:
        verb = request.url.path.rpartition("/")[2]
        name = request.path_params["name"]
        outcome = await self._actions.on_node(_user(request), name, verb, await _body(request))
        return JSONResponse({"outcome": outcome})

    async def command_schedule(self, request: Request) -> Response:
        verb = "delete" if request.method == "DELETE" else request.url.path.rpartition("/")[2]
        await _body(request)
        return JSONResponse(
            {"outcome": await self._actions.on_schedule(_user(request), request.path_params["name"], verb)}
        )

    async def bulk(self, request: Request) -> Response:
        """One JSON object at the end; or, to who accepts application/x-ndjson, a line as often as more are done."""
        body = await _body(request)
        verb, q, expect = body.get("verb"), body.get("q"), body.get("expect")
        if verb not in BULK:
            raise BadValue(f"verb: must be one of {', '.join(BULK)}, not {shown(verb)}")
        if isinstance(expect, bool) or not isinstance(expect, int) or not isinstance(q, str):
            raise BadValue("q must be a filter, and expect the number of tasks that it is for")
        user = _user(request)
        if verb == "delete" and user.role < Role.ADMIN:
            self._data.audit.note(user, "delete many", f"filter {q!r}", "not allowed", is_refused=True)
            return error(403, f"{user.name} may {user.role.title}; to delete takes the role admin")
        self._views.check_filter(q)

        def act(on_progress: Callable[[int], None]) -> Awaitable[dict[str, Any]]:
            return self._actions.on_many(user, verb, q, expect, body, on_progress)

        if "application/x-ndjson" not in request.headers.get("accept", ""):
            return JSONResponse(await act(lambda _: None))
        if (count := self._data.mirror.count(self._views.check_filter(q))) != expect:
            raise CountChanged(expect, count)
        return StreamingResponse(_lines(act, expect), media_type="application/x-ndjson")


#: between two lines on the progress of a bulk action
_LINE_EVERY_S = 0.25


async def _lines(act: Callable[[Callable[[int], None]], Awaitable[dict[str, Any]]], of: int) -> AsyncGenerator[bytes]:
    done = 0

    def progress(count: int) -> None:
        nonlocal done
        done = count

    acting = asyncio.ensure_future(act(progress))
    while not acting.done():
        await asyncio.wait((acting,), timeout=_LINE_EVERY_S)
        yield json.dumps({"done": done, "of": of}).encode() + b"\n"
    try:
        yield json.dumps({"result": await acting}).encode() + b"\n"
    except MpforaError as failure:
        yield json.dumps({"error": str(failure)}).encode() + b"\n"


def _merged(task: TaskInfo, data: PageData) -> TaskInfo:
    """What the mirror knows besides: reasons, gauges, the handler by its node."""
    try:
        row = data.mirror.task(task.id)
    except TaskNotFound:  # it is newer than the mirror
        return task
    if row.state != task.state or row.fence != task.fence:
        return replace(task, handler=task.handler or row.handler)
    return replace(
        task, reason=row.reason, handler=row.handler, group=row.group, progress=row.progress, note=row.note,
        attempt=row.attempt, started=row.started, cpu=row.cpu, cpu_s=row.cpu_s, rss=row.rss,
        needs=row.needs, given=row.given,
    )  # fmt: skip


def _query(request: Request, *names: str) -> dict[str, str]:
    return {name: value for name in names if (value := request.query_params.get(name)) is not None}


def _task_id(request: Request) -> str:
    """Raises InvalidTask."""
    return find_task_id(request.path_params["task_id"])


def _user(request: Request) -> User:
    user: User = request.scope["user"]
    return user


async def _body(request: Request) -> dict[str, Any]:
    """The JSON object that came; {} where nothing came. Raises BadValue."""
    body = await request.body()
    if not body.strip():
        return {}
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise BadValue("the body is not JSON") from None
    if not isinstance(value, dict):
        raise BadValue(f"the body must be a JSON object, not {shown(value)}")
    return value


def _duration(body: Mapping[str, Any], name: str, default: float) -> float:
    try:
        return parse_duration(body.get(name, default), name)
    except (ValueError, TypeError, OverflowError) as failure:
        raise BadValue(str(failure)) from None
