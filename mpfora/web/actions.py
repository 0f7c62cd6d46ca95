"""What people do to tasks and nodes from the page, and how it ended: each is waited for to its end, and logged."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from mpfora.client import AsyncClient
from mpfora.client.filters.filter import parse_filter
from mpfora.client.info.task_info import FINISHED, TaskInfo
from mpfora.errors import BadValue, MpforaError, ScheduleNotFound
from mpfora.model.state import Message
from mpfora.model.units import parse_duration, parse_time, shown
from mpfora.web.page_data import PageData
from mpfora.web.people import User

PLAIN_VERBS: Mapping[str, Callable[[], Message]] = {
    "run": Message.run, "pause": Message.pause, "kill": Message.kill, "release": Message.release,
    "checkpoint": Message.checkpoint,
}  # fmt: skip
#: what can be done to one task; `delete` is a method of its own
TASK_VERBS = (*PLAIN_VERBS, "sleep", "complete", "retry")
#: what can be done to all tasks that a filter matches
BULK_VERBS = (*PLAIN_VERBS, "sleep", "delete")
#: what a node takes at once; `reload` and `restart` are methods of their own
NODE_VERBS = {
    "freeze": "freeze", "unfreeze": "unfreeze", "drain": "drain", "undrain": "undrain", "balance": "balance",
    "stop-task": "stop_task",
}  # fmt: skip
SCHEDULE_VERBS = ("pause", "resume", "trigger")
_TIMEOUT_S, _MOST_TIMEOUT_S = 60.0, 3_600.0
_RELOAD_S, _RESTART_S = 600.0, 300.0
#: refusals of single tasks that the answer to a bulk action lists
_MOST_REFUSED = 20


class CountChanged(MpforaError):
    """The filter matches another number of tasks than the person who acts has seen."""

    def __init__(self, expected: int, count: int) -> None:
        super().__init__(
            f"the filter matches {count:,} tasks now, not {expected:,}: look again, and confirm the new number"
        )
        self.count = count


class Actions:
    """Raises MpforaError of every kind, after it has logged it."""

    def __init__(self, data: PageData) -> None:
        self._data = data

    @property
    def _client(self) -> AsyncClient:
        return self._data.client

    async def on_task(self, user: User, task_id: str, verb: str, body: Mapping[str, Any]) -> tuple[TaskInfo, str]:
        """Returns the task as it is then, and in words how it ended."""
        with _noted(self._data, user, verb, f"task {task_id}") as note:
            timeout, began = _timeout(body), time.monotonic()
            if verb == "retry":
                await self._submit_again(task_id, body)
                note.outcome = "submitted again"
                return (await self._client.details(task_id)).task, note.outcome
            task = await self._client.command_and_wait(task_id, message_of(verb, body), timeout)
            note.outcome = how_it_ended(verb, task, time.monotonic() - began)
            return task, note.outcome

    async def _submit_again(self, task_id: str, body: Mapping[str, Any]) -> None:
        before = await self._client.details(task_id)
        props = body.get("props", before.props)
        if props is None:
            raise BadValue("props: the props of this task were not kept: give them again, {} if it has none")
        if not isinstance(props, dict):
            raise BadValue(f"props: must be an object, not {shown(props)}")
        handler = body.get("handler", before.task.handler if before.task.finished else None)
        await self._client.submit(task_id, props, handler or None, replace=True)

    async def delete(self, user: User, task_id: str, timeout: float = _TIMEOUT_S) -> str:
        with _noted(self._data, user, "delete", f"task {task_id}") as note:
            began = time.monotonic()
            await self._client.delete(task_id, timeout=timeout)
            note.outcome = f"deleted after {time.monotonic() - began:.1f} s"
            return note.outcome

    async def on_node(self, user: User, name: str, verb: str, body: Mapping[str, Any]) -> str:
        task_id = body.get("task")
        if (verb == "stop-task") != isinstance(task_id, str):
            raise BadValue("task: stop-task needs the id of the task to stop, and no other verb takes one")
        if "within" in body and verb != "reload":
            raise BadValue(f"within: it is for reload, and not for {verb}")
        on = f"node {name}" + (f", task {task_id}" if task_id else "")
        with _noted(self._data, user, verb, on) as note:
            note.outcome = await self._on_node(name, verb, body)
            return note.outcome

    async def _on_node(self, name: str, verb: str, body: Mapping[str, Any]) -> str:
        """Returns in words how it ended."""
        began = time.monotonic()
        if verb == "reload":
            code = await self._client.reload_node(name, body.get("within"), _timeout(body, _RELOAD_S))
            return f"reloaded after {time.monotonic() - began:.1f} s: new runs are of {code.in_words}"
        if verb == "restart":
            await self._client.restart_node(name, _timeout(body, _RESTART_S))
            return f"restarted: {name} is back after {time.monotonic() - began:.1f} s"
        parameters = {"task": body["task"]} if verb == "stop-task" else {}
        await self._client.node_command_and_wait(name, NODE_VERBS[verb], _timeout(body), **parameters)
        return f"taken by {name} after {time.monotonic() - began:.1f} s"

    async def on_schedule(self, user: User, name: str, verb: str) -> str:
        with _noted(self._data, user, verb, f"schedule {name}") as note:
            if verb == "trigger":
                note.outcome = f"triggered: its next task is {await self._client.trigger_schedule(name)}"
            elif verb == "delete":
                if not await self._client.delete_schedule(name):
                    raise ScheduleNotFound(name, [info.name for info in self._data.mirror.schedules()])
                note.outcome = "deleted; the tasks that it made go on"
            elif verb == "pause":
                await self._client.pause_schedule(name)
                note.outcome = "paused: its times pass without a task"
            else:
                info = await self._client.resume_schedule(name)
                note.outcome = f"resumed: its next task is {info.next_id}" if info.next_id else "resumed"
            return note.outcome

    async def on_many(
        self, user: User, verb: str, q: str, expect: int, body: Mapping[str, Any], on_progress: Callable[[int], None]
    ) -> dict[str, Any]:
        """Act on all tasks that the filter matches, if their number is `expect`. Goes on to its end even if nobody
        listens any more."""
        which = parse_filter(q)
        message = None if verb == "delete" else message_of(verb, body)
        timeout = _timeout(body)
        ids = self._data.mirror.ids(which)
        if len(ids) != expect:
            self._data.audit.note(user, f"{verb} many", f"filter {q!r}", "the count has changed", is_refused=True)
            raise CountChanged(expect, len(ids))
        return await asyncio.shield(
            asyncio.ensure_future(self._on_many(user, verb, q, ids, message, timeout, on_progress))
        )

    async def _on_many(
        self,
        user: User,
        verb: str,
        q: str,
        ids: list[str],
        message: Message | None,
        timeout: float,
        on_progress: Callable[[int], None],
    ) -> dict[str, Any]:
        done = 0

        def one_done(_: str, __: object) -> None:
            nonlocal done
            done += 1
            on_progress(done)

        with _noted(self._data, user, f"{verb} many", f"filter {q!r}, {len(ids):,} tasks") as note:
            began = time.monotonic()
            results: Mapping[str, Any] = (
                await self._client.delete_many(ids, True, timeout, one_done)
                if message is None
                else await self._client.command_many(ids, message, True, timeout, one_done)
            )
            answer = _of_many(verb, results, time.monotonic() - began)
            note.outcome = answer["outcome"]
            return answer


def _of_many(verb: str, results: Mapping[str, Any], took_s: float) -> dict[str, Any]:
    refused = {task_id: str(one) for task_id, one in results.items() if isinstance(one, MpforaError)}
    states = Counter(one.state for one in results.values() if isinstance(one, TaskInfo))
    done = len(results) - len(refused)
    ended = ", ".join(f"{count:,} {state}" for state, count in states.most_common())
    outcome = f"{verb}: {done:,} of {len(results):,} done after {took_s:.1f} s" + (f" ({ended})" if ended else "")
    outcome += f"; {len(refused):,} refused" if refused else ""
    some = [{"id": task_id, "error": text} for task_id, text in list(refused.items())[:_MOST_REFUSED]]
    return {"outcome": outcome, "count": len(results), "done": done, "states": states, "refused": some}


def message_of(verb: str, body: Mapping[str, Any]) -> Message:
    """Raises BadValue."""
    if verb in PLAIN_VERBS:
        return PLAIN_VERBS[verb]()
    if verb == "complete":
        return Message.complete(body.get("result"))
    try:
        if "until" in body:
            return Message.sleep(parse_time(_text(body, "until")))
        return Message.sleep(time.time() + parse_duration(body.get("for", ""), "for"))
    except BadValue:
        raise
    except (ValueError, OverflowError, TypeError) as error:
        raise BadValue(f"sleep: {error}: give for, as 10m, or until, a time") from None


def _text(body: Mapping[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str):
        raise BadValue(f"{name}: must be a text, not {shown(value)}")
    return value


def _timeout(body: Mapping[str, Any], usual_s: float = _TIMEOUT_S) -> float:
    value = body.get("timeout", usual_s)
    try:
        found = parse_duration(value, "timeout")
    except (ValueError, TypeError, OverflowError):
        found = math.nan
    if not 0 < found <= _MOST_TIMEOUT_S:
        raise BadValue(f"timeout: must be a duration of at most 1h, as 30s, not {shown(value)}")
    return found


def how_it_ended(verb: str, task: TaskInfo, took_s: float) -> str:
    """In words: "killed after 10.0 s by stop_timeout: its process did not stop when asked, and was killed; its stack is
    kept"."""
    run = task.history[-1] if task.history else None
    if verb in ("checkpoint", "release"):
        where = f"; it is {task.state}" + (f" on {task.node}" if task.node else "")
        return f"{verb} done after {took_s:.1f} s{where}"
    text = f"{task.state} after {took_s:.1f} s"
    if run is not None and run.cause == "stop_timeout" and task.state != "pending":
        text += " by stop_timeout: its process did not stop when asked, and was killed"
    if task.state in FINISHED and task.stack:
        text += "; its stack is kept"
    return text


class _noted:
    """Wraps an action: logs how it ended, whether well or not; of an error with a traceback, the error."""

    def __init__(self, data: PageData, user: User, what: str, on: str) -> None:
        self._data, self._user, self._what, self._on = data, user, what, on
        self.outcome = "done"

    def __enter__(self) -> _noted:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: object) -> None:
        text = self.outcome if error is None else str(error).partition("\n")[0] or type(error).__name__
        self._data.audit.note(self._user, self._what, self._on, text, is_refused=error is not None)
