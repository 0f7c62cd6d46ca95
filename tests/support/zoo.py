"""The zoo: handlers that do what no handler should, and some good ones. A node runs them as `zoo:deadlock`, with this
folder on sys.path.

Each says in its docstring what it does. Sizes and times come from the task's props, with mild defaults: a test asks for
what its machine can bear. Where a hostile handler has done its deed and still lives, it sleeps in a way that heeds
nothing, unless said otherwise.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import Any, NoReturn

import mpfora
from mpfora import Context, Handler, Message, Task


def _for_ever() -> NoReturn:
    """Sleep, and heed nothing."""
    while True:
        time.sleep(3600)


def _write(path: str | None, text: str) -> None:
    """Leave a word for the test at `path`, if one is given: whole or not at all."""
    if path:
        with open(f"{path}.tmp", "w") as file:
            file.write(text)
        os.rename(f"{path}.tmp", path)


# -- those that hang --------------------------------------------------------------------------------------------------


def deadlock(task: Task, ctx: Context) -> None:
    """Two threads take two locks in opposite order."""
    first, second = threading.Lock(), threading.Lock()
    meet = threading.Barrier(2)

    def other() -> None:
        with second:
            meet.wait()
            with first:
                pass

    threading.Thread(target=other, name="other", daemon=True).start()
    with first:
        meet.wait()
        print("deadlocked", flush=True)
        with second:
            pass


def gil_in_c(task: Task, ctx: Context) -> None:
    """A catastrophic regular expression: C code that holds the GIL for ever; it looks at signals now and then."""
    print("holding", flush=True)
    re.match(r"(a+)+$", "a" * 64 + "b")


def busy_loop(task: Task, ctx: Context) -> None:
    """Computes for ever in Python and never looks at ctx.stopping."""
    print("looping", flush=True)
    n = 0
    while True:
        n += 1


def blocks_signals(task: Task, ctx: Context) -> None:
    """Blocks every signal that can be blocked."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    print("blocked", flush=True)
    _for_ever()


def ignores_signals(task: Task, ctx: Context) -> None:
    """Ignores SIGTERM, SIGINT, SIGHUP and SIGQUIT."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    print("ignoring", flush=True)
    _for_ever()


def takes_sigusr2(task: Task, ctx: Context) -> None:
    """Puts a handler of its own in the place of the one that dumps the stacks."""
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    print("taken", flush=True)
    _for_ever()


def beats_then_stalls(task: Task, ctx: Context) -> None:
    """props: beats (10). Beats that often, a hundredth of a second apart, then never again."""
    for n in range(task.props.get("beats", 10)):
        ctx.beat(n / 100)
        time.sleep(0.01)
    _for_ever()


def beats_for_ever(task: Task, ctx: Context) -> None:
    """Beats, and never looks at ctx.stopping: alive, and disobedient."""
    while True:
        ctx.beat()
        time.sleep(0.01)


def threads_for_ever(task: Task, ctx: Context) -> int:
    """props: threads (3). Starts threads that are no daemons and never end, then returns how many."""
    count: int = task.props.get("threads", 3)
    for _ in range(count):
        threading.Thread(target=_for_ever).start()
    return count


def stop_itself(task: Task, ctx: Context) -> None:
    """SIGSTOP to itself."""
    print("stopping", flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)
    _for_ever()


async def async_deaf(task: Task, ctx: Context) -> None:
    """A coroutine that swallows each cancellation."""
    print("deaf", flush=True)
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(3600)


async def async_deadlock(task: Task, ctx: Context) -> None:
    """Two coroutines that wait for each other."""
    print("waiting", flush=True)
    ready, done = asyncio.Event(), asyncio.Event()

    async def first() -> None:
        await ready.wait()
        done.set()

    async def second() -> None:
        await done.wait()
        ready.set()

    await asyncio.gather(first(), second())


async def async_blocked(task: Task, ctx: Context) -> None:
    """A coroutine that blocks its event loop."""
    print("blocked", flush=True)
    _for_ever()


class DeafHandler(Handler):
    """run() never ends, and stop() never returns."""

    def run(self) -> bool:
        _for_ever()

    def stop(self) -> None:
        print("stop called", flush=True)
        _for_ever()


# -- those that die ---------------------------------------------------------------------------------------------------


def exit_3(task: Task, ctx: Context) -> None:
    """os._exit(3)."""
    os._exit(task.props.get("code", 3))


def sys_exit(task: Task, ctx: Context) -> None:
    """sys.exit; props: code (5), any JSON value."""
    sys.exit(task.props.get("code", 5))


def keyboard_interrupt(task: Task, ctx: Context) -> None:
    """Raises KeyboardInterrupt."""
    raise KeyboardInterrupt


def segfault(task: Task, ctx: Context) -> None:
    """Reads from address 1."""
    ctypes.string_at(1)


def abort(task: Task, ctx: Context) -> None:
    """abort(3)."""
    os.abort()


def kill_itself(task: Task, ctx: Context) -> None:
    """SIGKILL, or props: signal, to itself."""
    os.kill(os.getpid(), task.props.get("signal", signal.SIGKILL))
    _for_ever()


def eat_memory(task: Task, ctx: Context) -> None:
    """props: bytes (128 MiB), step (8 MiB). Takes memory, writes to all of it, keeps it, then sleeps."""
    step = task.props.get("step", 8 << 20)
    kept = []
    for _ in range(0, task.props.get("bytes", 128 << 20), step):
        kept.append(b"x" * step)
        ctx.beat()
        time.sleep(0.005)
    print("full", flush=True)
    _for_ever()


def no_stack_left(task: Task, ctx: Context) -> None:
    """Recursion without end."""
    no_stack_left(task, ctx)


# -- those that start processes ---------------------------------------------------------------------------------------


def fork_bomb(task: Task, ctx: Context) -> None:
    """props: depth (4). Each process forks two more, to that depth; all of them sleep."""
    for _ in range(task.props.get("depth", 4)):
        os.fork()
    _for_ever()


def daemonise(task: Task, ctx: Context) -> None:
    """A double-forked daemon in a session of its own, that ignores signals; then returns. props: path gets its pid."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() != 0:
            os._exit(0)
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        _write(task.props.get("path"), str(os.getpid()))
        print("daemon", flush=True)
        _for_ever()
    os.wait()
    if task.props.get("path"):
        while not os.path.exists(task.props["path"]):
            time.sleep(0.01)


def daemonise_itself(task: Task, ctx: Context) -> None:
    """Becomes a daemon as daemons do: the task's process ends, and its grandchild goes on in a session of its own."""
    if os.fork() != 0:
        os._exit(0)
    os.setsid()
    if os.fork() != 0:
        os._exit(0)
    _write(task.props.get("path"), str(os.getpid()))
    _for_ever()


def leave_subprocess(task: Task, ctx: Context) -> int:
    """Starts a program, does not wait for it, and returns its pid."""
    return subprocess.Popen(["sleep", "3600"], start_new_session=bool(task.props.get("new_session"))).pid


def return_in_both(task: Task, ctx: Context) -> str:
    """Forks, and returns in both processes."""
    return "child" if os.fork() == 0 else "parent"


def raise_in_both(task: Task, ctx: Context) -> None:
    """Forks, and raises in both processes."""
    pid = os.fork()
    raise RuntimeError("child" if pid == 0 else "parent")


def session_games(task: Task, ctx: Context) -> str:
    """Tries setsid, joins and leaves process groups, and has a helper that moves to one of its own."""
    tried = []
    for game in (os.setsid, lambda: os.setpgid(0, 0), lambda: os.setpgid(0, os.getpgid(os.getppid()))):
        try:
            game()
            tried.append("done")
        except OSError as error:
            tried.append(type(error).__name__)
    if os.fork() == 0:
        os.setpgid(0, 0)
        _for_ever()
    return ",".join(tried)


def kill_parent(task: Task, ctx: Context) -> None:
    """SIGKILL to its parent, the zygote. props: signal (9)."""
    os.kill(os.getppid(), task.props.get("signal", signal.SIGKILL))
    _for_ever()


def stop_parent(task: Task, ctx: Context) -> None:
    """SIGSTOP to its parent, the zygote."""
    os.kill(os.getppid(), signal.SIGSTOP)
    _for_ever()


# -- those that spoil their process -----------------------------------------------------------------------------------


def close_all(task: Task, ctx: Context) -> str:
    """Closes all descriptors, and returns as if nothing had happened. props: reopen (false): then opens files in their
    place."""
    os.closerange(0, 4096)
    for _ in range(20 if task.props.get("reopen") else 0):
        os.open("/dev/null", os.O_RDWR)
    return "fine"


def change_everything(task: Task, ctx: Context) -> dict[str, Any]:
    """Changes directory, umask, nice value, environment, sys.path and the standard streams."""
    os.chdir("/")
    os.umask(0o777)
    os.nice(5)
    os.environ.clear()
    os.environ["LANG"] = "C"
    sys.path.clear()
    sys.stdout = None
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    return {"cwd": os.getcwd(), "environment": dict(os.environ)}


def write_garbage(task: Task, ctx: Context) -> str:
    """Writes what is no frame to every socket that it finds open: to its control socket, that is."""
    for name in os.listdir("/proc/self/fd"):
        try:
            with socket.socket(fileno=os.dup(int(name))) as found:
                found.send(b"\xff\xff\xff\xff{garbage")
        except OSError:
            continue
    return "written"


# -- those that say too much ------------------------------------------------------------------------------------------


def print_much(task: Task, ctx: Context) -> int:
    """props: bytes (1 GB), line (1000): 0 is one line without an end. Prints so much, and returns how much."""
    wanted = task.props.get("bytes", 10**9)
    width = task.props.get("line", 1000)
    chunk = ("x" * (width - 1) + "\n") * (65_536 // width) if width else "x" * 65_536
    printed = 0
    while printed < wanted:
        sys.stdout.write(chunk)
        printed += len(chunk)
    return printed


def print_binary(task: Task, ctx: Context) -> None:
    """Writes bytes that are not text, terminal escapes and lone surrogates to stdout and stderr."""
    os.write(1, bytes(range(256)) * 4 + b"\n")
    print("\x1b[2J\x1b]0;title\x07 \udcff end", file=sys.stderr)


def return_non_json(task: Task, ctx: Context) -> Any:
    """Returns what is not JSON, deep inside; props: kind."""
    kinds: dict[str, Any] = {
        "object": object(),
        "set": {1, 2},
        "bytes": b"x",
        "nan": float("nan"),
        "key": {1: "one"},
        "function": return_non_json,
    }
    return {"a": [1, 2, 3, kinds[task.props.get("kind", "object")]]}


def return_huge(task: Task, ctx: Context) -> str:
    """props: bytes (10 MB). Returns a string of so many."""
    return "x" * int(task.props.get("bytes", 10**7))


def raise_huge(task: Task, ctx: Context) -> None:
    """props: bytes (10 MB). Raises an exception with so long a text."""
    raise ValueError("x" * task.props.get("bytes", 10**7))


class Unspeakable(Exception):
    """An exception that cannot be pickled, printed, nor asked for its attributes."""

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def __str__(self) -> str:
        raise RuntimeError("no words")

    __repr__ = __str__

    def __reduce__(self) -> NoReturn:
        raise TypeError("cannot be pickled")


def raise_unspeakable(task: Task, ctx: Context) -> None:
    """Raises an exception that cannot be pickled and whose __str__ raises."""
    raise Unspeakable


def raise_group(task: Task, ctx: Context) -> None:
    """Raises an exception group of groups; props: width (100)."""
    width = task.props.get("width", 100)
    raise ExceptionGroup("all went wrong", [ExceptionGroup("these", [ValueError(f"no {n}") for n in range(width)])] * 3)


def flood_saves(task: Task, ctx: Context) -> int:
    """props: saves (1000), bytes (1000). Saves as often as it can."""
    count: int = task.props.get("saves", 1000)
    for n in range(count):
        ctx.save({"n": n, "filling": "x" * task.props.get("bytes", 1000)})
    return count


def echo_size(task: Task, ctx: Context) -> int:
    """Returns how many characters props["filling"] has: for tasks with props of a megabyte."""
    return len(task.props["filling"])


# -- good ones --------------------------------------------------------------------------------------------------------


def count_primes(task: Task, ctx: Context) -> Message | dict[str, int]:
    """props: below. Counts primes, beats, saves where it was when it is to stop, and goes on from there."""
    below = task.props["below"]
    at = ctx.checkpoint or {"next": 2, "found": 0}
    found = at["found"]
    for n in range(at["next"], below):
        ctx.beat(n / below)
        if ctx.stopping:
            return ctx.leave(checkpoint={"next": n, "found": found})
        if ctx.checkpoint_wanted:
            ctx.save({"next": n, "found": found})
        found += all(n % d for d in range(2, int(n**0.5) + 1))
    return {"found": found}


def sleep(task: Task, ctx: Context) -> Message | str:
    """props: seconds (for ever). Sleeps so long, and leaves when it is asked to."""
    print("sleeping", flush=True)
    return ctx.leave() if ctx.wait(task.props.get("seconds")) else "slept"


async def async_sleep(task: Task, ctx: Context) -> str:
    """props: seconds (an hour). Sleeps so long in an event loop."""
    print("sleeping", flush=True)
    await asyncio.sleep(task.props.get("seconds", 3600))
    return "slept"


class Sleeper(Handler):
    """Metafora's form. props: seconds (for ever), done (true: what run() answers when its time is over)."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self._asked = threading.Event()

    def run(self) -> bool:
        print("sleeping", flush=True)
        if self._asked.wait(self.task.props.get("seconds")):
            return False
        return bool(self.task.props.get("done", True))

    def stop(self) -> None:
        self._asked.set()


@mpfora.handler(stall_timeout="500ms", stop_timeout=1)
def stalls_by_declaration(task: Task, ctx: Context) -> None:
    """Declares a short stall_timeout, and stalls after one beat."""
    ctx.beat()
    _for_ever()


def result(task: Task, ctx: Context) -> Any:
    """Returns props["value"]."""
    return task.props.get("value")


def ask(task: Task, ctx: Context) -> Message:
    """Asks for the transition in props: verb ("pause"), seconds (for sleep)."""
    verb = task.props.get("verb", "pause")
    if verb == "sleep":
        return Message.sleep(time.time() + task.props.get("seconds", 1))
    return {"pause": Message.pause, "release": Message.release, "kill": Message.kill, "run": Message.run}[verb]()


def fail_times(task: Task, ctx: Context) -> int:
    """props: times (1). Raises until so many runs were made before, then returns the attempt."""
    if ctx.attempt <= task.props.get("times", 1):
        raise RuntimeError(f"attempt {ctx.attempt}")
    return ctx.attempt
