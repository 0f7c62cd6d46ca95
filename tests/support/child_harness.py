"""Runs one handler in a real forked child, as the zygote would, and collects everything that can be seen of it.

    with Child(handler, props={...}) as child:
        child.stop()
        end = child.end()

The parent plays the supervisor and the zygote: it makes the socket, the pipe and the stack file, forks with all signals
blocked, and reaps. Leaving the `with` block kills what is left, the whole session of the child and what it adopted.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import psutil

from mpfora.child.run.loaded_handler import LoadedHandler
from mpfora.child.run.process import ForkFds, enter
from mpfora.child.zygote.load_handlers import _form_of, _settings_of
from mpfora.config.handler_spec import HandlerSpec
from mpfora.ipc import frames as wire
from mpfora.ipc import run_file
from mpfora.ipc.slots import Beat, SlotTable
from mpfora.linux import syscalls
from mpfora.model.run_spec import RunLimits, RunSpec

#: what anything here may take before the test fails
LIMIT_S = 20.0
_slots: SlotTable | None = None


def slots() -> SlotTable:
    global _slots
    if _slots is None:
        _slots = SlotTable.create()
    return _slots


def loaded(target: Callable[..., Any]) -> LoadedHandler:
    """A handler as load_handlers would give it, of a function or class that a test has at hand."""
    spec = HandlerSpec("test", target.__module__, getattr(target, "__qualname__", "handler"))
    return LoadedHandler(spec.name, target, _settings_of(target), _form_of(spec, target))


@dataclass
class End:
    """What was seen of a run: exactly one of exit_code and signal is set."""

    frames: list[wire.Frame]
    output: str
    stacks: str
    exit_code: int | None
    signal: int | None
    beat: Beat
    left_over: list[int] = field(default_factory=list)
    saved: bytes = b""

    @property
    def report(self) -> wire.Frame | None:
        """The one report. Fails if there are two, or if something follows it."""
        reports = [f for f in self.frames if isinstance(f, wire.Returned | wire.ReturnedMessage | wire.Failed)]
        assert len(reports) <= 1, reports
        assert not reports or self.frames[-1] is reports[0]
        return reports[0] if reports else None

    @property
    def result(self) -> Any:
        assert isinstance(self.report, wire.Returned), (self.report, self.output)
        return json.loads(self.report.result_json)

    @property
    def failed(self) -> wire.Failed:
        assert isinstance(self.report, wire.Failed), (self.report, self.output)
        return self.report

    @property
    def message(self) -> wire.ReturnedMessage:
        assert isinstance(self.report, wire.ReturnedMessage), (self.report, self.output)
        return self.report

    @property
    def saves(self) -> list[Any]:
        """The newest checkpoint, if there is one."""
        return [json.loads(self.saved)] if self.saved else []

    @property
    def notices(self) -> int:
        """How often the supervisor was told of a save."""
        return sum(isinstance(frame, wire.Save) for frame in self.frames)


class Child:
    def __init__(
        self,
        target: Callable[..., Any] | LoadedHandler,
        *,
        props: Any = None,
        props_json: str | None = None,
        checkpoint_json: str | None = None,
        close_fds: Sequence[int] = (),
        reads: bool = True,
        before_start: Callable[[Child], None] | None = None,
        in_child: Callable[[], None] | None = None,
        low_fds: bool = False,
        slot: int = 1,
        task_id: str = "t1",
        fence: int = 7,
        attempt: int = 1,
        **limits: Any,
    ) -> None:
        handler = target if isinstance(target, LoadedHandler) else loaded(target)
        spec = RunSpec(
            task_id,
            handler.name,
            json.dumps(props) if props_json is None else props_json,
            fence,
            attempt,
            checkpoint_json,
            RunLimits(**{"stop_timeout_s": 10.0, **limits}),
        )
        self.order = wire.Fork(1, slot, spec)
        self.frames: list[wire.Frame] = []
        self._output = bytearray()
        self._decoder = wire.Decoder()
        self._reads = reads
        self._status: int | None = None
        slots().clear(slot)
        self.socket, control = socket.socketpair()
        self.pipe, output = os.pipe()
        self.stacks = run_file.create()
        if before_start is not None:
            before_start(self)
        #: what this test process had before (a server of the session) is not one of the child's
        self._before = {p.pid for p in psutil.Process().children(recursive=True)}
        was_subreaper = syscalls.is_child_subreaper()
        syscalls.set_child_subreaper(True)
        self._was_subreaper = was_subreaper
        sys.stdout.flush()
        sys.stderr.flush()
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        gc.freeze()  # as in the zygote: what other tests left is not collected in the child, where gRPC would shut down
        try:
            self.pid = slots().fork(self.order.slot)
        except BaseException:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            raise
        if self.pid == 0:
            try:
                if in_child is not None:
                    in_child()
                fds = ForkFds(control.fileno(), output, self.stacks)
                if low_fds:
                    fds = ForkFds(os.dup2(fds.control, 2), os.dup2(fds.output, 0), os.dup2(fds.stacks, 1))
                enter(self.order, fds, handler, slots(), [self.socket.fileno(), self.pipe, *close_fds])
            except BaseException:  # noqa: BLE001 - nothing may return into the test
                traceback.print_exc()
            finally:
                os._exit(99)
        gc.unfreeze()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        control.close()
        os.close(output)

    # -- the supervisor's part

    def send(self, frame: wire.Frame) -> None:
        self.socket.sendall(wire.format_frame(frame))

    def stop(
        self, verb: str = "release", until: float | None = None, within_s: float = 10.0, why: str = "test"
    ) -> None:
        slots().ask_stop(self.order.slot)
        with suppress(BrokenPipeError):  # the flag alone may have been enough: it has left
            self.send(wire.Stop(verb, until, why, within_s))

    def beat(self) -> Beat:
        return slots().read(self.order.slot)

    def until(self, done: Callable[[Child], Any], limit_s: float = LIMIT_S) -> Any:
        """Collect until `done` says something true, and return that. Fails after limit_s, or if the child ends."""
        end = time.monotonic() + limit_s
        while not (answer := done(self)):
            assert time.monotonic() < end, f"nothing came of it in {limit_s} s: {self.frames} {self.output!r}"
            assert not self._ended(), f"the child ended: {self._status} {self.frames} {self.output!r}"
            self._collect(0.02)
        return answer

    def until_printed(self, text: str) -> None:
        self.until(lambda child: text in child.output)

    @property
    def output(self) -> str:
        return self._output.decode(errors="replace")

    # -- the zygote's part

    def kill(self, number: int = signal.SIGKILL) -> None:
        os.kill(self.pid, number)

    def end(self, limit_s: float = LIMIT_S) -> End:
        """Wait for the leader's end and collect what was seen. What it left running is named, then killed."""
        end = time.monotonic() + limit_s
        while not self._ended():
            assert time.monotonic() < end, (
                f"alive after {limit_s} s: {self.frames} {self.output[-2000:]!r}\n{self.dump()}"
            )
            self._collect(0.02)
        left_over = self._kill_the_rest()
        self._reads = True
        while self._collect(0):
            pass
        assert self._status is not None
        code = os.waitstatus_to_exitcode(self._status)
        stacks = run_file.stacks(self.stacks).decode(errors="replace")
        newest = run_file.newest(self.stacks, 0)
        return End(
            self.frames,
            self.output,
            stacks,
            code if code >= 0 else None,
            -code if code < 0 else None,
            self.beat(),
            left_over,
            newest[1] if newest else b"",
        )

    def dump(self) -> str:
        """All Python stacks, by the way that the zygote uses."""
        before = os.lseek(self.stacks, 0, os.SEEK_CUR)
        self.kill(signal.SIGUSR2)
        end = time.monotonic() + 5
        while time.monotonic() < end:
            text = os.pread(self.stacks, 1_000_000, before).rstrip(b"\0").decode(errors="replace")
            if "most recent call first" in text:
                time.sleep(0.05)  # the other threads' follow at once
                return os.pread(self.stacks, 1_000_000, before).rstrip(b"\0").decode(errors="replace")
            time.sleep(0.01)
        return ""

    def _ended(self) -> bool:
        if self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._status = status
        return self._status is not None

    def _collect(self, timeout_s: float) -> bool:
        """Read what there is. Returns whether there was anything."""
        if not self._reads:
            time.sleep(timeout_s)
            return False
        sources: list[Any] = [self.socket, self.pipe]
        ready, _, _ = select.select(sources, [], [], timeout_s)
        got = False
        for source in ready:
            if source is self.socket:
                data = b""
                with suppress(ConnectionResetError):
                    data = self.socket.recv(1 << 20)
                self.frames += self._decoder.feed(data)
            else:
                data = os.read(self.pipe, 1 << 20)
                self._output += data
            got = got or bool(data)
        if ready and not got:
            time.sleep(timeout_s)
        return got

    def _kill_the_rest(self) -> list[int]:
        """Kill every process that the child left, until none is left; we are its foster parent. Returns their pids."""
        found: list[int] = []
        end = time.monotonic() + 10
        while rest := self._descendants():
            assert time.monotonic() < end, f"cannot be killed: {rest}"
            found += [p.pid for p in rest if p.pid not in found]
            for process in rest:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            for process in rest:
                with suppress(ChildProcessError):
                    os.waitpid(process.pid, 0)
        return found

    def _descendants(self) -> list[psutil.Process]:
        found = psutil.Process().children(recursive=True)
        return [p for p in found if p.pid != self.pid and p.pid not in self._before]

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *args: object) -> None:
        if not self._ended():
            self.kill()
            _, self._status = os.waitpid(self.pid, 0)
        self._kill_the_rest()
        syscalls.set_child_subreaper(self._was_subreaper)
        self.socket.close()
        os.close(self.pipe)
        os.close(self.stacks)


def run(target: Callable[..., Any] | LoadedHandler, **options: Any) -> End:
    """Run a handler to its end."""
    with Child(target, **options) as child:
        return child.end()
