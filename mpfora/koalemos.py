"""Koalemos: a handler that runs any program as a task. Its props say which, and its exit code what became of it.

    python -m mpfora.supervisor run=mpfora.koalemos:run
    mpfora submit nightly --props '{"args": ["rsync", "-a", "/data/", "backup:/data/"], "release_codes": [75]}'

The program is in a process group of its own. When the task is to stop (rebalance, pause, kill, shutdown), the group
gets `stop_signal`, and SIGKILL shortly before the handler's own time is up. What the program leaves running when it
exits is killed, as mpfora does with every task. What it prints goes to the node's log, and the end of it into the
task's result or error.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from dataclasses import dataclass, field
from typing import Any, Literal

from mpfora.child.run.context import Context
from mpfora.handlers import handler
from mpfora.linux import procfs
from mpfora.model.state import Message
from mpfora.model.task import Task

#: of the program's output, in bytes: as JSON it may become six times as large, and a result may be 64 KiB
MOST_TAIL = 8192
#: a longer line is handed on in pieces
_LINE_BYTES = 8192
_READ_BYTES = 65536
#: a program that was ended by SIGTERM or the like: so long its node has to hear of a signal to all processes
_BROADCAST_S = 1.0
#: how soon a request to stop is seen
_LOOK_S = 0.1
#: before the handler's time is up the group is killed, so that there is time to report
_RESERVE_S = 1.0
#: how long the rest of the output is waited for when the program has exited and others hold its end of the pipe
_REST_S = 0.5

Signal = Literal["SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2"]


class ExitError(Exception):
    """The program exited with a code that is an error, or was ended by a signal."""


class GivenUp(ExitError):
    """It exited with one of its `fail_codes`: the task fails, and is not tried again (mpfora.retry)."""


@dataclass(frozen=True)
class Program:
    """The props.

    args       the program, looked for on the PATH, and its arguments; no shell is between (write ["sh", "-c", "..."])
    env        variables over the node's environment; null takes one away. clean_env: nothing of the node's but PATH
    cwd        the folder it is started in; the node's where it is not given
    stdin      a text that it reads; nothing where it is not given
    ok_codes   exit codes that complete the task: [0]
    release_codes  exit codes that give the task back, to be run again, perhaps elsewhere (75, EX_TEMPFAIL, is a custom)
    fail_codes exit codes that fail the task at once; all other codes, and signals, are errors that are tried again
    stop_signal    what asks it to stop;  completes_when_stopped: an exit by an ok code after that completes the task
               (else it is given back, for most programs exit with 0 when they are asked to stop)
    tail_bytes so much of its output's end is kept
    """

    args: list[str]
    env: dict[str, str | None] = field(default_factory=dict)
    clean_env: bool = False
    cwd: str | None = None
    stdin: str | None = None
    ok_codes: list[int] = field(default_factory=lambda: [0])
    release_codes: list[int] = field(default_factory=list)
    fail_codes: list[int] = field(default_factory=list)
    stop_signal: Signal = "SIGTERM"
    completes_when_stopped: bool = False
    tail_bytes: int = 4096

    def __post_init__(self) -> None:
        """Raises ValueError for what no program can be started with."""
        if not self.args or not self.args[0]:
            raise ValueError("args: the program's name is needed, and then its arguments")
        if any("\0" in text for text in (*self.args, *self.env, *filter(None, self.env.values()), self.cwd or "")):
            raise ValueError("args, env and cwd cannot hold a zero byte")
        bad = next((name for name in self.env if not name or "=" in name), None)
        if bad is not None:
            raise ValueError(f"env: {bad!r} is not a name of a variable")
        codes = [*self.ok_codes, *self.release_codes, *self.fail_codes]
        if any(not 0 <= code <= 255 for code in codes):
            raise ValueError("exit codes are from 0 to 255")
        twice = next((code for code in codes if codes.count(code) > 1), None)
        if twice is not None:
            raise ValueError(f"exit code {twice} is in two of ok_codes, release_codes and fail_codes, or twice in one")
        if not 0 <= self.tail_bytes <= MOST_TAIL:
            raise ValueError(f"tail_bytes: from 0 to {MOST_TAIL}")

    def environment(self, task: Task, ctx: Context) -> dict[str, str]:
        """The node's, the task's own MPFORA_ variables, and `env` over both."""
        base = {"PATH": os.environ.get("PATH", os.defpath)} if self.clean_env else dict(os.environ)
        ours = {"MPFORA_TASK": task.id, "MPFORA_FENCE": str(ctx.fence), "MPFORA_ATTEMPT": str(ctx.attempt)}
        named = base | ours | self.env
        return {name: text for name, text in named.items() if text is not None}


@handler(props=Program)
def run(task: Task, ctx: Context) -> Message | dict[str, Any]:
    """Run the program of a task's props. The result: {"exit_code", "seconds", "output"}."""
    program: Program = task.config
    started = time.monotonic()
    process = _start(program, task, ctx)
    output = _Output(program.tail_bytes, ctx)
    was_asked = _attend(process, output, program, ctx)
    code = process.returncode
    if was_asked and not (program.completes_when_stopped and code in program.ok_codes):
        print(f"koalemos: {_ending(code)} when it was asked to stop", flush=True)
        return ctx.leave()
    if code in program.ok_codes:
        return {"exit_code": code, "seconds": round(time.monotonic() - started, 3), "output": output.tail()}
    if code in program.release_codes:
        print(f"koalemos: {_ending(code)}: given back, to be run again", flush=True)
        return Message.release()
    if -code in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP) and ctx.wait(_BROADCAST_S):
        print(f"koalemos: {_ending(code)}, as all processes of the node", flush=True)
        return ctx.leave()
    kind = GivenUp if code in program.fail_codes else ExitError
    raise kind(f"{program.args[0]}: {_ending(code)}; its output ends in:\n{output.tail()}")


def _start(program: Program, task: Task, ctx: Context) -> subprocess.Popen[bytes]:
    """Raises OSError that names what is missing: the program, or the folder."""
    environment = program.environment(task, ctx)
    stdin = subprocess.DEVNULL if program.stdin is None else _file_of(program.stdin)
    try:
        return subprocess.Popen(
            program.args,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=program.cwd,
            env=environment,
            process_group=0,
            bufsize=0,
        )
    except OSError as error:
        what = f"cwd {program.cwd!r}" if program.cwd and error.filename == program.cwd else repr(program.args[0])
        raise type(error)(error.errno, f"cannot start {what}: {error.strerror}") from None
    finally:
        if stdin >= 0:
            os.close(stdin)


def _file_of(text: str) -> int:
    """A file in memory, at its beginning: a pipe would have to be fed while the program runs."""
    fd = os.memfd_create("stdin")
    with open(os.dup(fd), "wb") as file:
        file.write(text.encode())
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _ending(code: int) -> str:
    """Of Popen's return code."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"ended by signal {-code}"


# -- while it runs ----------------------------------------------------------------------------------------------------


def _attend(process: subprocess.Popen[bytes], output: _Output, program: Program, ctx: Context) -> bool:
    """Until the program has exited and its output is read. Returns whether it was asked to stop."""
    assert process.stdout is not None
    stopper = _Stopper(process, getattr(signal, program.stop_signal), ctx)
    pidfd = os.pidfd_open(process.pid)
    try:
        with process.stdout:
            os.set_blocking(process.stdout.fileno(), False)
            poller = select.poll()
            poller.register(pidfd, select.POLLIN)
            poller.register(process.stdout, select.POLLIN)
            has_exited = False
            while not has_exited or stopper.waits_for_others():
                ready = dict(poller.poll(_LOOK_S * 1000))
                if pidfd in ready:
                    has_exited = True
                    poller.unregister(pidfd)
                if process.stdout.fileno() in ready and not output.take(process.stdout):
                    poller.unregister(process.stdout)  # it has closed its output and goes on
                stopper.look()
            _end(process)
            output.take_rest(process.stdout)
    finally:
        os.close(pidfd)
        _end(process)
    return stopper.was_asked


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill what is left of the group, and reap the leader: in this order, since its number is another's after that."""
    if process.returncode is None:
        _kill_group(process.pid, signal.SIGKILL)
        process.wait()


class _Stopper:
    """Hands the request to stop on to the group, once; and kills it when the time is nearly up."""

    def __init__(self, process: subprocess.Popen[bytes], number: signal.Signals, ctx: Context) -> None:
        self._process, self._number, self._ctx = process, number, ctx
        self._kill_at: float | None = None
        self.was_asked = False

    def look(self) -> None:
        now = time.monotonic()
        if not self.was_asked and self._ctx.stopping:
            self.was_asked = True
            left = max(0.0, (self._ctx.deadline or now) - now)
            self._kill_at = now + left - min(_RESERVE_S, left / 4)
            print(f"koalemos: asked to stop ({self._ctx.reason}): {self._number.name} to the program", flush=True)
            _kill_group(self._process.pid, self._number)
            _kill_group(self._process.pid, signal.SIGCONT)  # a stopped program could not obey
        if self._kill_at is not None and now >= self._kill_at:
            self._kill_at = None
            _kill_group(self._process.pid, signal.SIGKILL)

    def waits_for_others(self) -> bool:
        """The leader has exited. A shell may have died of the signal at once: those that it had started have the rest
        of the time to end in order."""
        return self._kill_at is not None and _others_live(self._process.pid)


def _kill_group(leader: int, number: int) -> None:
    """The leader must not be reaped yet."""
    try:
        os.killpg(leader, number)
    except (ProcessLookupError, PermissionError):  # nobody is left, or one that has become another user's
        return


def _others_live(leader: int) -> bool:
    """Whether the group has a member that lives, besides its leader, which has exited and is not reaped."""
    return any(stat.pgid == leader and stat.pid != leader and not stat.is_zombie for stat in procfs.processes())


class _Output:
    """What the program prints: handed on to the node's log by lines, told as life, and its end kept."""

    def __init__(self, tail_bytes: int, ctx: Context) -> None:
        self._tail_bytes, self._ctx = tail_bytes, ctx
        self._tail = b""
        self._line = b""

    def take(self, stream: Any) -> bool:
        """Read what is there. False: nothing more can come."""
        data: bytes | None = stream.read(_READ_BYTES)
        if data:
            self._add(data)
        return data != b""

    def take_rest(self, stream: Any) -> None:
        """The program has exited. What was in its group is dead; something that has left it may hold the pipe open."""
        poller = select.poll()
        poller.register(stream, select.POLLIN)
        ends = time.monotonic() + _REST_S
        while (left := ends - time.monotonic()) > 0 and poller.poll(left * 1000) and self.take(stream):
            pass
        if self._line:
            _hand_on([self._line])

    def tail(self) -> str:
        return self._tail.decode(errors="replace")

    def _add(self, data: bytes) -> None:
        self._tail = (self._tail + data)[-self._tail_bytes :] if self._tail_bytes else b""
        *lines, self._line = (self._line + data).split(b"\n")
        while len(self._line) > _LINE_BYTES:
            lines.append(self._line[:_LINE_BYTES])
            self._line = self._line[_LINE_BYTES:]
        if lines:
            _hand_on(lines)
        last = next((line for line in reversed(lines) if line.strip()), None)
        self._ctx.beat(note=None if last is None else last.decode(errors="replace").strip())


def _hand_on(lines: list[bytes]) -> None:
    """To the node's log, many at a time: a program may print faster than one call for each."""
    print(b"\n".join(lines).decode(errors="replace"), flush=True)
