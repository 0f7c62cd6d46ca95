"""One call of a pool: read it from its parcel, make it, and write its result or exception into the other parcel.

The report says that there is a result, or describes the error in texts; the parcel holds the value, or the exception.
"""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Callable
from types import CoroutineType
from typing import Any, NamedTuple

from mpfora.child.run.call_handler import ExitAsked, Report
from mpfora.child.run.channel import Channel, Gone, identity
from mpfora.child.run.context import RunContext
from mpfora.child.run.coroutines import Left, make_runner, run_coroutine
from mpfora.child.run.current import set_current
from mpfora.child.run.error_report import describe, is_of_node, one_line
from mpfora.child.run.heartbeat import Heartbeat
from mpfora.child.run.stop_requests import StopRequests
from mpfora.child.zygote.load_handlers import CONDUCTS, import_main
from mpfora.ipc import frames, parcel, pickling
from mpfora.model.run_spec import RunSpec

#: how long its call may take to come: the supervisor sends it right behind the Fork frame
_CALL_WITHIN_S = 30.0
#: exceptions by which a call may end in order
_NOT_RAISED = (KeyboardInterrupt, SystemExit, GeneratorExit)


class _Given(NamedTuple):
    """A call as it came: its segments, and where its result goes."""

    frame: frames.Call
    segments: list[memoryview]
    result: int
    identity: tuple[int, int] | None

    def fill_result(self, segments: list[bytes | memoryview]) -> None:
        """Raises OSError. The call may have closed the descriptor, and its number may be another file's by now."""
        if identity(self.result) != self.identity:
            raise Gone("the call closed the file for its result (it closes descriptors that it did not open)")
        parcel.fill(self.result, segments)


def conduct(spec: RunSpec, heartbeat: Heartbeat, channel: Channel) -> Report | ExitAsked:
    """Form.CONDUCTOR. Raises nothing but in a process that the call forked."""
    pid = os.getpid()
    try:
        given = _receive(channel)
    except BaseException as error:  # noqa: BLE001 - whatever it is, the pool learns it
        return describe(error, at_start=True, of_node=is_of_node(error))
    requests = StopRequests(channel, heartbeat)
    set_current(RunContext(heartbeat, requests), heartbeat)
    try:
        value = _perform(given, heartbeat, requests)
        segments = pickling.pack(value)
    except SystemExit as error:
        return _exit(error, given)
    except BaseException as error:  # noqa: BLE001 - it is the call's own
        report: Report = describe(error)
        segments = _pickled(error) if _is_raised(error) else []
    else:
        report = frames.Returned("null")
    if os.getpid() != pid:  # the call forked, and this is not the process that it began in
        return report
    try:
        if segments:
            given.fill_result(segments)
    except OSError as error:
        return describe(error)
    return report


setattr(conduct, CONDUCTS, True)


def _receive(channel: Channel) -> _Given:
    frame, (call, result) = channel.receive_call(_CALL_WITHIN_S)
    segments = parcel.take(call, shared=False)
    os.close(call)
    if segments is None:
        raise Gone("the call came without its parcel")
    return _Given(frame, segments, result, identity(result))


def _perform(given: _Given, heartbeat: Heartbeat, requests: StopRequests) -> Any:
    """Make the call. Its arguments are let go of when it has returned."""
    if given.frame.path is not None:
        sys.path[:] = given.frame.path
    if given.frame.authkey is not None:
        from multiprocessing.process import current_process

        current_process().authkey = bytes.fromhex(given.frame.authkey)
    if given.frame.main_path or given.frame.main_module:
        import_main(given.frame.main_path, given.frame.main_module)
    function: Callable[..., Any]
    function, args, kwargs = pickling.unpack(given.segments)
    given.segments.clear()
    value = function(*args, **kwargs)
    if not isinstance(value, CoroutineType):
        return value
    heartbeat.listen()  # a stop cancels it
    try:
        return run_coroutine(value, make_runner(), requests)
    except Left:
        return None


def _is_raised(error: BaseException) -> bool:
    """Whether it can be raised in the program that has the pool, with the same meaning."""
    cancelled = getattr(sys.modules.get("asyncio.exceptions"), "CancelledError", ())
    return not isinstance(error, _NOT_RAISED) and not isinstance(error, cancelled)


def _pickled(error: BaseException) -> list[bytes | memoryview]:
    """The segments of an exception that survives pickling, [] for one that does not: many do not."""
    try:
        segments = pickling.pack(error)
        return segments if type(pickle.loads(segments[0], buffers=segments[1:])) is type(error) else []
    except BaseException:  # noqa: BLE001 - the exception's own code: it is described in texts
        return []


def _exit(error: SystemExit, given: _Given) -> Report | ExitAsked:
    """The argument of sys.exit, as Python itself takes it: None and 0 are success, a text is an error."""
    code = 0 if error.code is None else error.code
    if not isinstance(code, int):
        return frames.Failed(one_line(f"SystemExit: {code}"), describe(error).traceback, "builtins.SystemExit")
    if code & 0xFF:
        return ExitAsked(code & 0xFF)
    given.fill_result(pickling.pack(None))
    return frames.Returned("null")
