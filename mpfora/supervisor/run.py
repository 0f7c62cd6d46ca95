"""One run as the supervisor holds it: the pipes to its child, what the child said on them, and its stacks.

Every byte that comes from a child may be hostile. Nothing here waits, grows without bound, or ends a run: that a run
has ended is the zygote's to say.
"""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import socket
from collections.abc import Callable

from mpfora import wire
from mpfora.outcome import Said, SaidError, SaidMessage, SaidResult
from mpfora.states import InvalidMessage, Message, Verb
from mpfora.supervisor.output_pipe import OutputPipe
from mpfora.supervisor.stacks import read_stacks, stacks_file

log = logging.getLogger(__name__)

#: a child's frames are a checkpoint (512 KiB) and a result (about 1.5 MB) at most, and JSON escapes
CHILD_FRAME = 8 * 1024 * 1024
_READ = 64 * 1024
#: what is still read of the socket when a run has ended
_DRAIN = 16 * 1024 * 1024
#: names of classes that an exception is of
_KINDS = 64
#: frames that a child does not read are kept up to this
_UNSENT = 64 * 1024


class Run:
    """Made with its pipes open; `close` closes them. `said` is the child's last word, None until it has come.

    on_save is called with the JSON text of a checkpoint, at most once per turn of the loop, the latest."""

    def __init__(
        self,
        number: int,
        task_id: str,
        slot: int,
        on_save: Callable[[int, str], None],
        on_output: Callable[[str, str], None],
    ) -> None:
        self.number = number
        self.task_id = task_id
        self.slot = slot
        self.pid: int | None = None
        self.said: Said | None = None
        self._on_save = on_save
        self._loop = asyncio.get_running_loop()
        self._on_output = on_output
        self._decoder = wire.Decoder(CHILD_FRAME)
        self._unsent = bytearray()
        self._saved: str | None = None
        self._is_deaf = False

    def open(self) -> tuple[int, int, int]:
        """Open the pipes and begin to read them. Returns the child's ends in wire.FORK_FDS order; the caller closes
        them when they are sent. Raises OSError, with nothing left open."""
        ours, theirs = socket.socketpair()
        opened = [theirs.detach()]
        self._control = ours
        try:
            reader, output = os.pipe2(os.O_CLOEXEC)
            opened += [reader, output]
            self._stacks = stacks_file()
        except OSError:
            ours.close()
            for fd in opened:
                os.close(fd)
            raise
        ours.setblocking(False)
        self._loop.add_reader(ours.fileno(), self._read_control)
        self._output = OutputPipe(reader, lambda line: self._on_output(self.task_id, line))
        return opened[0], output, os.dup(self._stacks)

    def close(self) -> str:
        """The run has ended: take what is still in its pipes, close them, and return its stacks ("" for none)."""
        left = _DRAIN
        while left > 0 and (count := self._read_control()):
            left -= count
        self._loop.remove_reader(self._control.fileno())
        self._loop.remove_writer(self._control.fileno())
        self._control.close()
        self._output.close()
        self._save()
        stacks = read_stacks(self._stacks)
        os.close(self._stacks)
        return stacks

    def send(self, frame: wire.Frame) -> None:
        """To the child; at once, later, or (if it does not read what was sent long before) not at all."""
        if len(self._unsent) > _UNSENT:
            return
        self._unsent += wire.format_frame(frame)
        self._flush()

    def _flush(self) -> None:
        try:
            while self._unsent:
                del self._unsent[: self._control.send(self._unsent)]
        except BlockingIOError:
            self._loop.add_writer(self._control.fileno(), self._flush)
            return
        except OSError:  # the child closed its end: it has said so by that
            self._unsent.clear()
        self._loop.remove_writer(self._control.fileno())

    # -- control ------------------------------------------------------------------------------------------------------

    def _read_control(self) -> int:
        """Read once; the number of bytes that came, 0 if none did."""
        if self._is_deaf:
            return 0
        try:
            data = self._control.recv(_READ)
        except BlockingIOError:
            return 0
        except OSError:
            data = b""
        if not data:  # every process of the run has closed its end
            self._is_deaf = True
            self._loop.remove_reader(self._control.fileno())
            return 0
        try:
            for frame in self._decoder.feed(data):
                self._take(frame)
            self._decoder.check()
        except (wire.FrameError, InvalidMessage) as error:
            log.warning("task %s: its process wrote what is no frame to its control socket: %s", self.task_id, error)
            self._stop_listening()
        return len(data)

    def _stop_listening(self) -> None:
        """Nothing more is taken from the child. What it writes from now on fails there and cannot block it."""
        self._is_deaf = True
        self._loop.remove_reader(self._control.fileno())
        try:
            self._control.shutdown(socket.SHUT_RD)
        except OSError as error:
            if error.errno != errno.ENOTCONN:
                raise

    def _take(self, frame: wire.Frame) -> None:
        if isinstance(frame, wire.Save):
            if self._saved is None:
                self._loop.call_soon(self._save)
            self._saved = _json_text(frame.checkpoint_json)
        elif self.said is None:
            self.said = _said(frame)

    def _save(self) -> None:
        if self._saved is not None:
            saved, self._saved = self._saved, None
            self._on_save(self.number, saved)


def _said(frame: wire.Frame) -> Said:
    """A child's last word. Raises FrameError for what a child does not say, InvalidMessage for no message."""
    match frame:
        case wire.Returned():
            return SaidResult(_json_value(frame.result_json))
        case wire.ReturnedMessage():
            return SaidMessage(_message(frame))
        case wire.Failed():
            texts = (frame.text, frame.traceback, frame.kind)
            if not all(isinstance(text, str) for text in texts):
                raise wire.FrameError(f"a Failed frame with fields that are no text: {str(texts)[:80]}")
            return SaidError(*texts, at_start=frame.at_start is True, kinds=_kinds(frame.kinds))
    raise wire.FrameError(f"a {type(frame).__name__} frame, which no child sends")


def _kinds(kinds: object) -> tuple[str, ...]:
    if not isinstance(kinds, list) or not all(isinstance(kind, str) for kind in kinds):
        raise wire.FrameError("a Failed frame whose kinds are no list of names")
    return tuple(kinds[:_KINDS])


def _message(frame: wire.ReturnedMessage) -> Message:
    try:
        verb, until = Verb(frame.verb), None if frame.until is None else float(frame.until)
    except (ValueError, TypeError) as error:
        raise wire.FrameError(f"a ReturnedMessage frame with {error}") from error
    checkpoint = None if frame.checkpoint_json is None else _json_text(frame.checkpoint_json)
    return Message(verb, until, checkpoint, _json_value(frame.result_json))


def _json_value(text: object) -> object:
    if not isinstance(text, str):
        raise wire.FrameError(f"{type(text).__name__} where JSON text should be")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise wire.FrameError(f"not JSON: {text[:80]!r} ({error})") from error


def _json_text(text: object) -> str:
    """The text itself, once it is known to be JSON: it goes to the store as it is."""
    _json_value(text)
    assert isinstance(text, str)
    return text
