"""One run, from the order to the report: parse what the handler gets, call it in its form, say how it ended.

Nothing here knows of processes; entry.py has prepared this one and ends it.
"""

from __future__ import annotations

import sys
import threading
import traceback
from dataclasses import dataclass
from types import CoroutineType
from typing import Any

from mpfora import wire
from mpfora.child.beat import Pulse
from mpfora.child.channel import Channel
from mpfora.child.context import Context
from mpfora.child.coroutines import Left, run_coroutine
from mpfora.child.failures import class_name, describe
from mpfora.child.loading import Form, LoadedHandler
from mpfora.child.orders import Orders
from mpfora.child.values import RESULT_BYTES, BadValue, check_message, format_value, parse_value
from mpfora.handlers import Handler
from mpfora.model import Task
from mpfora.states import Message

Report = wire.Returned | wire.ReturnedMessage | wire.Failed


@dataclass(frozen=True, slots=True)
class ExitAsked:
    """The handler called sys.exit. There is no result then, and no error of ours to report: the process exits with
    `code`, as the author asked, and the run ends as `exited`."""

    code: int


def conduct(order: wire.Fork, handler: LoadedHandler, pulse: Pulse, channel: Channel) -> Report | ExitAsked:
    """Run the handler once, in this thread, the main one. Raises nothing: what the handler raises is in the
    report."""
    orders = Orders(channel, pulse)
    try:
        props = _props(order.props_json)
        config = None if handler.schema is None else handler.schema.build(props)
        task = Task(order.task, props, order.handler, config)
        ctx = Context(task, order, pulse, orders, _checkpoint(order.checkpoint_json))
    except BaseException as error:  # noqa: BLE001 - a spec's own code (__post_init__) may raise anything
        return describe(error, at_start=True)
    try:
        return _report(_call(handler, task, ctx, orders))
    except SystemExit as error:
        return ExitAsked(_exit_code(error))
    except BaseException as error:  # noqa: BLE001 - KeyboardInterrupt and the like are errors of the task
        return describe(error)


def _props(text: str) -> dict[str, Any]:
    if text in ("", "{}"):  # most tasks that have no props
        return {}
    props = parse_value(text, "props") if text.strip() else None
    if props is None:
        return {}
    if not isinstance(props, dict):
        raise BadValue(f"props: a JSON object is needed, not {_json_type(props)}")
    return props


def _checkpoint(text: str | None) -> Any:
    return None if text is None or not text.strip() else parse_value(text, "checkpoint")


def _json_type(value: Any) -> str:
    names = {list: "an array", str: "a string", bool: "a boolean", int: "a number", float: "a number"}
    return names.get(type(value), "null")


# -- calling ----------------------------------------------------------------------------------------------------------


def _call(handler: LoadedHandler, task: Task, ctx: Context, orders: Orders) -> Any:
    """What the handler returned: a result, or a Message. One that is to stop before it began is not called at all."""
    if ctx.stopping:
        return ctx.leave()
    if handler.form is not Form.FUNCTION:
        return _run_class(handler, task, ctx, orders)
    value = handler.target(task, ctx)
    if not isinstance(value, CoroutineType):
        return value
    try:
        return run_coroutine(value, orders)
    except Left:
        return ctx.leave()


def _run_class(handler: LoadedHandler, task: Task, ctx: Context, orders: Orders) -> Message | None:
    instance = handler.target(task, ctx) if handler.form is Form.CLASS_CTX else handler.target(task)
    stopper = _Stopper(instance, orders)
    stopper.start()
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

    def __init__(self, instance: Handler, orders: Orders) -> None:
        super().__init__(name="mpfora-stop", daemon=True)
        self._instance = instance
        self._orders = orders
        self.run_has_ended = False

    def run(self) -> None:
        self._orders.wait_for_stop(None)
        self._orders.wait_for_frame(1.0)
        while not self.run_has_ended:
            seen = self._orders.stops
            try:
                self._instance.stop()
            except BaseException:  # noqa: BLE001 - the handler's own; run() goes on
                print(f"stop() raised:\n{traceback.format_exc()}", file=sys.stderr, end="")
            self._orders.wait_for_another(seen)


# -- reporting --------------------------------------------------------------------------------------------------------


def _report(value: Any) -> Report:
    """The frame of what a handler returned. Raises BadValue if it cannot be kept."""
    if not issubclass(type(value), Message):
        return wire.Returned(format_value(value, "result", RESULT_BYTES))
    message: Message = value
    check_message(message)
    result_json = format_value(message.result, "result", RESULT_BYTES)
    return wire.ReturnedMessage(message.verb.value, message.until, message.checkpoint_json, result_json)


def _exit_code(error: SystemExit) -> int:
    """As Python itself takes the argument of sys.exit."""
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code & 0xFF
    print(error.code, file=sys.stderr)
    return 1
