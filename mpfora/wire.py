"""Frames between supervisor, zygote and children. Pure.

A frame is a dataclass; on a stream it is a 4-byte big-endian length and that many bytes of UTF-8 JSON:
{"frame": CLASS NAME, field: value, ...}. Between supervisor and zygote runs one Unix stream socket; a Fork frame
carries three descriptors with it (SCM_RIGHTS, in FORK_FDS order). Between supervisor and child runs one socket per
run.

A peer may be a hostile handler: Decoder raises FrameError on what is not a frame, and never holds more than
MAX_FRAME.
"""

from __future__ import annotations

import dataclasses
import json
import struct
from dataclasses import dataclass, field
from json.encoder import encode_basestring_ascii
from typing import Any

#: props are at most about 1.5 MB (etcd's request limit), a checkpoint 512 KiB; JSON escapes may multiply them
MAX_FRAME = 16 * 1024 * 1024
_LENGTH = struct.Struct(">I")

#: what the descriptors of a Fork frame are, in order: the child's end of its control socket, the write end of its
#: output pipe (stdout and stderr), the file that stacks are dumped into
FORK_FDS = ("control", "output", "stacks")


class FrameError(ValueError):
    """The bytes are not a frame of ours."""


# -- supervisor to zygote --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Fork:
    """Start a run.

    run          a number that this supervisor never used before for this zygote
    props_json   JSON text of the task's props, as it stands in etcd (may be malformed: then the run ends in an error)
    checkpoint_json   JSON text of what the last run saved, or None
    slot         index into the shared-memory table
    stop_timeout_s    for the child's ctx.deadline only; the supervisor holds the ladder
    stall_timeout_s   None: not watched; stall_by "beats" or "cpu"
    memory_limit bytes of the whole tree, None: not limited
    """

    run: int
    task: str
    handler: str
    props_json: str
    fence: int
    attempt: int
    checkpoint_json: str | None
    slot: int
    stop_timeout_s: float
    stall_timeout_s: float | None = None
    stall_by: str = "beats"
    memory_limit: int | None = None


@dataclass(frozen=True, slots=True)
class Kill:
    """Kill the tree of a run: dump its stacks first if `dump`, then SIGKILL. A second Kill without dump hastens it.

    cause  an outcome.Cause value, reported back in Exited.killed_for
    """

    run: int
    cause: str
    dump: bool = True


@dataclass(frozen=True, slots=True)
class Deadline:
    """Every child must be dead at boot_ns (CLOCK_BOOTTIME, nanoseconds); None: no deadline. The zygote needs no word
    for it."""

    boot_ns: int | None


@dataclass(frozen=True, slots=True)
class Will:
    """What to execute once, when the supervisor is gone and every child is reaped; None revokes it.

    argv   absolute program and arguments;  stdin  text that it gets (secrets travel here and not in argv)
    """

    argv: list[str] | None
    stdin: str = ""


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
    running, e.g. "openblas 3"."""

    pid: int
    handlers: dict[str, dict[str, Any]]
    threads: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ImportFailed:
    """A handler could not be imported; the zygote exits after it."""

    spec: str
    traceback: str


@dataclass(frozen=True, slots=True)
class Started:
    run: int
    pid: int


@dataclass(frozen=True, slots=True)
class StartFailed:
    """Nothing was forked, e.g. for want of processes or memory. No Exited follows.

    cause  an outcome.Cause value: "lost_claim" where the deadline had passed, which is not the task's doing
    """

    run: int
    error: str
    cause: str = "start_failed"


@dataclass(frozen=True, slots=True)
class Exited:
    """A run's leader is reaped and nothing is left of its tree. Exactly one per Started.

    killed_for  cause of the zygote's own kill, None: it died by itself
    max_rss, cpu_s   of the whole tree, as far as it was seen
    note   where in the kernel it hung, if it was killed and wrote no stack
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
    """Leave: `verb` (a states.Verb value) is the transition that is asked for, `until` with sleep.

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


# -- child to supervisor ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Save:
    """ctx.save: keep this JSON text as the task's checkpoint."""

    checkpoint_json: str


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
    """

    text: str
    traceback: str
    kind: str
    at_start: bool = False
    kinds: list[str] = field(default_factory=list)


Frame = (
    Fork | Kill | Deadline | Will | Ping | Bye
    | Ready | ImportFailed | Started | StartFailed | Exited | Usages | Pong | Notice
    | Stop | WantCheckpoint | Save | Returned | ReturnedMessage | Failed
)  # fmt: skip

_CLASSES: dict[str, Any] = {
    cls.__name__: cls
    for cls in (
        Fork, Kill, Deadline, Will, Ping, Bye,
        Ready, ImportFailed, Started, StartFailed, Exited, Usages, Pong, Notice,
        Stop, WantCheckpoint, Save, Returned, ReturnedMessage, Failed,
    )
}  # fmt: skip
_FIELDS = {name: tuple(f.name for f in dataclasses.fields(cls)) for name, cls in _CLASSES.items()}


def format_frame(frame: Frame) -> bytes:
    """The bytes of one frame. Raises FrameError if it would be longer than MAX_FRAME."""
    name = type(frame).__name__
    fields = [f'"{key}":{_format_field(getattr(frame, key))}' for key in _FIELDS[name]]
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
    return str(value) if type(value) is int else json.dumps(value, separators=(",", ":"))


def parse_frame(body: bytes) -> Frame:
    """One frame of its JSON bytes, without the length. Raises FrameError."""
    try:
        values = json.loads(body)
        cls = _CLASSES[values.pop("frame")]
        frame: Frame = cls(**values)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise FrameError(f"not a frame: {body[:80]!r} ({error})") from error
    return frame


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
