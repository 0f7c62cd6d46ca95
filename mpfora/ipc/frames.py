"""Frames between supervisor, zygote and children. Pure.

A frame is a dataclass; on a stream it is a 4-byte big-endian length and that many bytes of UTF-8 JSON:
{"frame": CLASS NAME, field: value, ...}. Between supervisor and zygote runs one Unix stream socket; a Fork frame
carries three descriptors with it (SCM_RIGHTS, in FORK_FDS order), a Will frame with an argv one. Between supervisor and
child runs one socket per run.

A peer may be a hostile handler: Decoder raises FrameError on what is not a frame, and never holds more than
MAX_FRAME.
"""

from __future__ import annotations

import dataclasses
import json
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from json.decoder import JSONDecoder
from json.encoder import encode_basestring_ascii
from math import isfinite
from typing import Any

from mpfora.model.run_spec import Given, RunLimits, RunSpec

#: props are at most about 1.5 MB (etcd's request limit), a checkpoint 512 KiB; JSON escapes may multiply them
MAX_FRAME = 16 * 1024 * 1024
_LENGTH = struct.Struct(">I")

#: what the descriptors of a Fork frame are, in order: the child's end of its control socket, the write end of its
#: output pipe (stdout and stderr), the run's file (run_file.py) for its stacks and its checkpoints
FORK_FDS = ("control", "output", "stacks")
#: and those of a Call frame: two parcels (parcel.py), with the call and for its result
CALL_FDS = ("call", "result")
#: a handler that every zygote has: it tries whether a run can be made at all
SELF_TEST = ""


class FrameError(ValueError):
    """The bytes are not a frame of ours."""


# -- supervisor to zygote --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Fork:
    """Start a run.

    run   a number that this supervisor never used before for this zygote
    slot  index into the shared-memory table
    spec  what is to be run, as the core has made it. Its texts may be malformed: then the run ends in an error
    """

    run: int
    slot: int
    spec: RunSpec


@dataclass(frozen=True, slots=True)
class Kill:
    """Kill the tree of a run: dump its stacks first if `dump`, then SIGKILL. A second Kill without dump hastens it.

    cause  an outcome.Cause value, reported back in Exited.killed_for
    """

    run: int
    cause: str
    dump: bool = True


@dataclass(frozen=True, slots=True)
class Look:
    """Ring the leader of a run: there is a question in the run's file (look_area.py). for_s: a thread of ours
    lives that long there."""

    run: int
    for_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Deadline:
    """Every child must be dead at boot_ns (CLOCK_BOOTTIME, nanoseconds); None: no deadline. The zygote needs no word
    for it."""

    boot_ns: int | None


@dataclass(frozen=True, slots=True)
class Will:
    """What to execute once, when the supervisor is gone and every child is reaped; None revokes it.

    argv   absolute program and arguments. What it reads from its standard input comes as a descriptor with the frame:
           it holds secrets, and nothing of the zygote's memory does, which every child inherits
    """

    argv: list[str] | None


@dataclass(frozen=True, slots=True)
class Sibling:
    """There is another zygote of this node, with runs of its own: no will is executed before that is over. With it
    comes one descriptor, a pidfd of the guard of the other. is_known False: there is none, and so no will, as nobody
    knows when that is over."""

    is_known: bool = True


@dataclass(frozen=True, slots=True)
class Ping:
    """Answered at once by a Pong of the same number: the zygote's loop turns."""

    number: int


@dataclass(frozen=True, slots=True)
class Bye:
    """The supervisor leaves in order: kill what is left, execute no will, exit 0."""


# -- zygote to supervisor --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ready:
    """Handlers are imported. handlers maps each name to the settings its @handler decorator gave
    (handlers.HandlerSettings as a dict of JSON values); threads names the modules' native threads that were found
    running, e.g. "openblas 3"; no_groups why runs have no control group, "" where they have; files what its modules
    were imported from, where the supervisor wants to know."""

    pid: int
    handlers: dict[str, dict[str, Any]]
    threads: list[str] = field(default_factory=list)
    no_groups: str = ""
    files: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ImportFailed:
    """A handler could not be imported; the zygote exits after it. files: see Ready."""

    spec: str
    traceback: str
    files: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Started:
    run: int
    pid: int


@dataclass(frozen=True, slots=True)
class StartFailed:
    """Nothing was forked, e.g. for want of processes or memory. No Exited follows.

    cause  an outcome.Cause value: "lost_claim" where the deadline had passed, "no_process" where the node is out of
           something, neither of which is the task's doing
    """

    run: int
    error: str
    cause: str = "start_failed"


@dataclass(frozen=True, slots=True)
class Exited:
    """A run's leader is reaped and nothing is left of its tree. Exactly one per Started.

    killed_for  cause of the zygote's own kill, None: it died by itself
    max_rss, cpu_s   of the whole tree, as far as it was seen
    note   where in the kernel it hung, if it was killed and wrote no stack; what else is known of its end
    """

    run: int
    exit_code: int | None
    signal: int | None
    killed_for: str | None = None
    cpu_s: float = 0.0
    max_rss: int = 0
    note: str = ""


@dataclass(frozen=True, slots=True)
class Usages:
    """Sent every few seconds while children run: rows of [run, cpu_s, rss, processes]."""

    rows: list[list[float]]


@dataclass(frozen=True, slots=True)
class Pong:
    number: int


@dataclass(frozen=True, slots=True)
class Notice:
    """Something for the supervisor's log. level is a logging name: "info", "warning", "error"."""

    level: str
    text: str


# -- supervisor to child ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Stop:
    """Leave: `verb` (a model.state.Verb value) is the transition that is asked for, `until` with sleep.

    The stop flag in shared memory is set before this frame is sent; the frame wakes ctx.wait and carries the reason.
    within_s is how long the child has before it is killed.
    """

    verb: str
    until: float | None
    reason: str
    within_s: float


@dataclass(frozen=True, slots=True)
class WantCheckpoint:
    """A checkpoint message came: ctx.checkpoint_wanted turns true."""


@dataclass(frozen=True, slots=True)
class Call:
    """The first frame to a child of a pool, with descriptors in CALL_FDS order.

    main_path, main_module   of the script whose objects the call names, as HandlerSpec has them; None: it names none
    path   sys.path, where it has changed since the zygote was started
    authkey   of the program's multiprocessing, in hexadecimal, where the call has proxies of its managers
    """

    main_path: str | None = None
    main_module: str | None = None
    path: list[str] | None = None
    authkey: str | None = None


# -- child to supervisor ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Save:
    """ctx.save: there is a new checkpoint in the run's file (run_file.py). Not sent again before the supervisor has
    looked there."""


@dataclass(frozen=True, slots=True)
class Returned:
    """The handler returned a result, as JSON text. The last frame of a child, as the two below."""

    result_json: str


@dataclass(frozen=True, slots=True)
class ReturnedMessage:
    """The handler returned a transition."""

    verb: str
    until: float | None = None
    checkpoint_json: str | None = None
    result_json: str = "null"


@dataclass(frozen=True, slots=True)
class Failed:
    """The handler raised (or could not be set up: at_start). All texts are bounded by the child.

    kinds  the names of the exception's class and of its bases, nearest first
    of_node  the handler was not called: the node is out of processes, descriptors or memory
    """

    text: str
    traceback: str
    kind: str
    at_start: bool = False
    kinds: list[str] = field(default_factory=list)
    of_node: bool = False


Frame = (
    Fork | Kill | Look | Deadline | Will | Sibling | Ping | Bye
    | Ready | ImportFailed | Started | StartFailed | Exited | Usages | Pong | Notice
    | Stop | WantCheckpoint | Call | Save | Returned | ReturnedMessage | Failed
)  # fmt: skip

_CLASSES: dict[str, Any] = {
    cls.__name__: cls
    for cls in (
        Fork, Kill, Look, Deadline, Will, Sibling, Ping, Bye,
        Ready, ImportFailed, Started, StartFailed, Exited, Usages, Pong, Notice,
        Stop, WantCheckpoint, Call, Save, Returned, ReturnedMessage, Failed,
    )
}  # fmt: skip
_FIELDS = {name: tuple(f.name for f in dataclasses.fields(cls)) for name, cls in _CLASSES.items()}


#: fields of a frame that are objects of their own
_PARTS = {cls: tuple(f.name for f in dataclasses.fields(cls)) for cls in (RunSpec, RunLimits, Given)}
#: (text, where to begin) -> (value, where it ends). Frames are parsed between forks
_scan: Callable[[str, int], tuple[Any, int]] = JSONDecoder().scan_once  # type: ignore[attr-defined]


def format_frame(frame: Frame) -> bytes:
    """The bytes of one frame. Raises FrameError if it would be longer than MAX_FRAME, or JSON does not hold its
    fields."""
    name = type(frame).__name__
    try:
        fields = [f'"{key}":{_format_field(getattr(frame, key))}' for key in _FIELDS[name]]
    except (ValueError, TypeError, RecursionError) as error:
        raise FrameError(f"a {name} frame that cannot be written: {error}") from error
    body = ",".join([f'{{"frame":"{name}"', *fields]).encode() + b"}"
    if len(body) > MAX_FRAME:
        raise FrameError(f"a {name} frame of {len(body)} bytes: the limit is {MAX_FRAME}")
    return _LENGTH.pack(len(body)) + body


def _format_field(value: Any) -> str:
    """JSON of a field. Most are plain, and their text is there without an encoder: to make one costs a child that says
    one frame in its life a good part of what it costs at all."""
    if value is None:
        return "null"
    if type(value) is str:
        return encode_basestring_ascii(value)
    if type(value) is int or (type(value) is float and isfinite(value)):
        return repr(value)
    fields = _PARTS.get(type(value))
    if fields is not None:
        return "{" + ",".join([f'"{key}":{_format_field(getattr(value, key))}' for key in fields]) + "}"
    return json.dumps(value, separators=(",", ":"))


def parse_frame(body: bytes) -> Frame:
    """One frame of its JSON bytes, without the length. Raises FrameError."""
    try:
        text = body.decode()
        values, end = _scan(text, 0)
        if end != len(text):
            raise ValueError("there is text behind its end")
        cls = _CLASSES[values.pop("frame")]
        if cls is Fork:
            values["spec"] = _spec(**values["spec"])
        frame: Frame = cls(**values)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, StopIteration) as error:
        raise FrameError(f"not a frame: {body[:80]!r} ({str(error)[:200]})") from error
    return frame


def _spec(limits: dict[str, Any], given: dict[str, Any] | None = None, **fields: Any) -> RunSpec:
    return RunSpec(**fields, limits=RunLimits(**limits), given=None if given is None else Given(**given))


class Decoder:
    """Bytes of a stream in, whole frames out. An unfinished frame at the end of the stream is simply never returned.

    limit  the longest frame that is accepted, and so the most that is held
    """

    def __init__(self, limit: int = MAX_FRAME) -> None:
        self._buffer = bytearray()
        self._limit = limit
        self._error: FrameError | None = None

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that `data` completes, in order. Raises FrameError where a stream goes wrong; it is then of no
        further use. Frames that came whole before that place are returned first; the next call raises the error."""
        self.check()
        self._buffer += data
        frames: list[Frame] = []
        start = 0
        while (end := self._end_of_frame(start)) is not None:
            try:
                frames.append(parse_frame(bytes(self._buffer[start + _LENGTH.size : end])))
            except FrameError as error:
                self._error = error
                break
            start = end
        del self._buffer[:start]
        if not frames:
            self.check()
        return frames

    def check(self) -> None:
        """Raises FrameError if the stream has gone wrong."""
        if self._error is not None:
            raise self._error

    def _end_of_frame(self, start: int) -> int | None:
        if len(self._buffer) - start < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._buffer, start)
        if length > self._limit:
            self._error = FrameError(f"a frame of {length} bytes: the limit is {self._limit}")
            return None
        end: int = start + _LENGTH.size + length
        return end if end <= len(self._buffer) else None
