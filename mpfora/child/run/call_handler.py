"""One run, from its spec to the report: parse what the handler gets, call it in its form, say how it ended.

Nothing here deals with processes: process.py has prepared this one and ends it.
"""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from types import CoroutineType
from typing import Any, TypeVar

from mpfora.child.run.channel import Channel
from mpfora.child.run.context import Context
from mpfora.child.run.coroutines import Left, make_runner, run_coroutine
from mpfora.child.run.current import set_current
from mpfora.child.run.error_report import class_name, describe, is_of_node
from mpfora.child.run.given import put_to_use
from mpfora.child.run.heartbeat import Heartbeat
from mpfora.child.run.json_values import RESULT_BYTES, BadValue, check_message, format_value, parse_value
from mpfora.child.run.loaded_handler import Form, LoadedHandler
from mpfora.child.run.stop_requests import StopRequests
from mpfora.handlers import Handler
from mpfora.ipc import frames
from mpfora.model.run_spec import RunSpec
from mpfora.model.state import Message
from mpfora.model.task import Task

T = TypeVar("T")
Report = frames.Returned | frames.ReturnedMessage | frames.Failed


class NotSetUp(Exception):
    """The node lacks something that the call of a handler needs; the cause says what."""


@dataclass(frozen=True, slots=True)
class ExitAsked:
    """The handler called sys.exit with a code that is not 0. There is no result then, and no error of ours to report:
    the process exits with `code`, as the author asked, and the run ends as `exited`."""

    code: int


def try_process(task: Task, ctx: Context) -> None:
    """The handler of a self-test: a run that ends well has had a process, its descriptors and a thread."""
    thread = threading.Thread(target=int, name="mpfora-trial")
    thread.start()
    thread.join()


def conduct(spec: RunSpec, handler: LoadedHandler, heartbeat: Heartbeat, channel: Channel) -> Report | ExitAsked:
    """Run the handler once, in this thread, the main one. Raises nothing: what the handler raises is in the
    report."""
    requests = StopRequests(channel, heartbeat)
    try:
        if spec.given is not None:
            put_to_use(spec.given)
        props = _props(spec.props_json)
        config = None if handler.schema is None else handler.schema.build(props)
        task = Task(spec.task_id, props, spec.handler, config, spec.props_json)
        ctx = Context(task, spec, heartbeat, requests, _checkpoint(spec.checkpoint_json))
        set_current(ctx, heartbeat)
    except BaseException as error:  # noqa: BLE001 - a spec's own code (__post_init__) may raise anything
        return describe(error, at_start=True)
    try:
        return _report(_call(handler, task, ctx, requests))
    except SystemExit as error:
        return _exit(error, ctx)
    except NotSetUp as error:
        # a limit of its own may be why there is no thread for it
        return describe(error.__cause__ or error, at_start=True, of_node=spec.limits.pids_limit is None)
    except BaseException as error:  # noqa: BLE001 - KeyboardInterrupt and the like are errors of the task
        return describe(error)


def _props(text: str) -> dict[str, Any]:
    """Props may be any JSON (Go's plainest task has a string): what is not an object counts as no props."""
    if text in ("", "{}"):  # most tasks that have no props
        return {}
    props = parse_value(text, "props") if text.strip() else None
    return props if isinstance(props, dict) else {}


def _checkpoint(text: str | None) -> Any:
    return None if text is None or not text.strip() else parse_value(text, "checkpoint")


# -- calling ----------------------------------------------------------------------------------------------------------


def _call(handler: LoadedHandler, task: Task, ctx: Context, requests: StopRequests) -> Any:
    """What the handler returned: a result, or a Message. A handler that is to stop before it began is not called."""
    if ctx.stopping:
        return ctx.leave()
    if handler.form is not Form.FUNCTION:
        return _run_class(handler, task, ctx, requests)
    value = handler.target(task, ctx)
    if not hasattr(type(value), "__await__"):
        return value
    runner = _set_up(make_runner)
    try:
        return run_coroutine(value if isinstance(value, CoroutineType) else _awaited(value), runner, requests)
    except Left:
        return ctx.leave()


async def _awaited(value: Any) -> Any:
    """For awaitables that are not coroutines. asyncio's own futures belong to the event loop that they were made for,
    and cannot be awaited in another."""
    if hasattr(value, "get_loop"):
        kind = class_name(type(value))
        raise BadValue(f"result: {kind} of another event loop: declare the handler as `async def` and await it there")
    return await value


def _set_up(make: Callable[[], T]) -> T:
    """What is needed before the handler's own code begins. Raises NotSetUp where the node is out of something."""
    try:
        return make()
    except Exception as error:
        if is_of_node(error):
            raise NotSetUp from error
        raise


def _run_class(handler: LoadedHandler, task: Task, ctx: Context, requests: StopRequests) -> Message | None:
    instance = handler.target(task, ctx) if handler.form is Form.CLASS_CTX else handler.target(task)
    stopper = _Stopper(instance, requests)
    _set_up(stopper.start)
    try:
        finished = instance.run()
    finally:
        stopper.run_has_ended = True
    if finished is True:
        return None
    if finished is False:
        return ctx.leave()
    kind = class_name(type(finished)).removeprefix("builtins.")
    raise BadValue(f"run() must return True (done) or False (released); it returned {kind}")


class _Stopper(threading.Thread):
    """Calls a Handler's stop(): at each Stop frame, one call after the other, none once run() has ended."""

    def __init__(self, instance: Handler, requests: StopRequests) -> None:
        super().__init__(name="mpfora-stop", daemon=True)
        self._instance = instance
        self._requests = requests
        self.run_has_ended = False

    def run(self) -> None:
        self._requests.wait_for_stop(None)
        self._requests.wait_for_frame(1.0)
        while not self.run_has_ended:
            seen = self._requests.stops
            try:
                self._instance.stop()
            except BaseException:  # noqa: BLE001 - the handler's own; run() goes on
                print(f"stop() raised:\n{traceback.format_exc()}", file=sys.stderr, end="")
            self._requests.wait_for_another(seen)


# -- reporting --------------------------------------------------------------------------------------------------------


def _report(value: Any) -> Report:
    """The frame of what a handler returned. Raises BadValue if it cannot be kept."""
    if not issubclass(type(value), Message):
        return frames.Returned(format_value(value, "result", RESULT_BYTES))
    message: Message = value
    check_message(message)
    result_json = format_value(message.result, "result", RESULT_BYTES)
    return frames.ReturnedMessage(message.verb.value, message.until, message.checkpoint_json, result_json)


def _exit(error: SystemExit, ctx: Context) -> Report | ExitAsked:
    """The argument of sys.exit, as Python itself takes it: None and 0 are success, a text is an error.

    A number that C cannot hold is -1 there. A handler that was asked to stop and exits has stopped: its work need not
    be done."""
    code = 0 if error.code is None else error.code
    if isinstance(code, int):
        number = (code if abs(code) < 1 << 63 else -1) & 0xFF
        if number:
            return ExitAsked(number)
        return _report(ctx.leave() if ctx.stopping else None)
    return describe(error)
