"""Handlers for tests of the zygote: what good and hostile code does to processes. Imported in the zygote."""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import Any

print("the zoo is imported")

if os.environ.get("ZOO_STARTS_THINGS"):
    HELPER = subprocess.Popen(["sleep", "60"])
    threading.Thread(target=time.sleep, args=(60,), name="zookeeper", daemon=True).start()

#: pages that every child shares with the zygote
SHARED = bytearray(os.urandom(1024)) * (60 * 1024)


def ok(task: Any, ctx: Any) -> Any:
    return {"props": dict(task.props)}


def raises(task: Any, ctx: Any) -> None:
    raise ValueError("no such luck")


def exit3(task: Any, ctx: Any) -> None:
    os._exit(3)


def segfault(task: Any, ctx: Any) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def sleep(task: Any, ctx: Any) -> None:
    print("sleeping", flush=True)
    time.sleep(60)


def deadlock(task: Any, ctx: Any) -> None:
    lock = threading.Lock()
    lock.acquire()
    print("locked", flush=True)
    lock.acquire()


def waits(task: Any, ctx: Any) -> Any:
    print("waiting", flush=True)
    ctx.wait(60)
    return ctx.leave(checkpoint={"at": 7})


def saves(task: Any, ctx: Any) -> None:
    for number in range(1000):
        ctx.save({"number": number})


def block_signals(task: Any, ctx: Any) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    print("blocked", flush=True)
    while True:
        time.sleep(1)


def stop_self(task: Any, ctx: Any) -> None:
    print("stopping", flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(60)


def close_all(task: Any, ctx: Any) -> None:
    os.closerange(0, 4096)
    time.sleep(0.05)


def kill_zygote(task: Any, ctx: Any) -> None:
    time.sleep(task.props.get("after", 0))
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(60)


def _daemon() -> int:
    """A process in a session of its own whose parent has gone; it ignores what can be ignored. Its pid."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.setsid()
        pid = os.fork()
        if pid == 0:
            for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)
            os.setsid()
            while True:
                time.sleep(60)
        os.write(writer, str(pid).encode())
        os._exit(0)
    pid = int(os.read(reader, 20))
    os.wait()
    return pid


def daemon(task: Any, ctx: Any) -> None:
    print("daemon", _daemon(), flush=True)
    if task.props.get("stay"):
        time.sleep(60)


def daemon_unleashed(task: Any, ctx: Any) -> None:
    """No longer the one that its orphans come to, nor bound to the zygote's life."""
    libc = ctypes.CDLL(None)
    libc.prctl(36, 0, 0, 0, 0)
    libc.prctl(1, 0, 0, 0, 0)
    print("daemon", _daemon(), flush=True)
    time.sleep(60)


def subprocess_left(task: Any, ctx: Any) -> None:
    process = subprocess.Popen(["sleep", "60"], start_new_session=True)
    print("sleep", process.pid, flush=True)


def bomb(task: Any, ctx: Any) -> None:
    """Forks in every process, each in a session of its own, to a depth that bounds it."""
    for _ in range(task.props["depth"]):
        os.fork()
        os.setsid() if os.getpid() != os.getsid(0) else None
    print("boom", flush=True)
    time.sleep(60)


def starts_threads(task: Any, ctx: Any) -> int:
    """Starts one thread after another until it is asked to stop; some of them live as long as it does."""
    print("starting", flush=True)
    number = 0
    while not ctx.stopping:
        number += 1
        threading.Thread(target=time.sleep, args=(3600 if number % 50 == 0 else 0.1,), daemon=True).start()
        time.sleep(0.002)
    return number


def comet(task: Any, ctx: Any) -> None:
    """A process that is never there: it forks, and goes."""
    if os.fork() == 0:
        until = time.monotonic() + 30
        while time.monotonic() < until:
            if os.fork():
                os._exit(0)
            os.setsid()
        os._exit(0)


def flood(task: Any, ctx: Any) -> None:
    line = b"x" * 99 + b"\n"
    block = line * 1000
    for _ in range(task.props["blocks"]):
        os.write(1, block)
    print("the end", flush=True)


def noisy_stray(task: Any, ctx: Any) -> None:
    """What holds the pipe is another's process: a file of the zygote's own, as far as the supervisor can tell."""
    for number in range(10):
        print("line", number)
    print("no newline at the end", end="", flush=True)


def garbage(task: Any, ctx: Any) -> None:
    for fd in range(3, 2000):
        try:
            channel = socket.socket(fileno=os.dup(fd))
        except OSError:
            continue
        for _ in range(3) if channel.family == socket.AF_UNIX else ():
            try:
                channel.send(task.props["bytes"].encode("latin-1"))
            except BrokenPipeError:
                break  # nobody listens any more
            time.sleep(0.05)
    print("sent", flush=True)
    time.sleep(60)


def memory(task: Any, ctx: Any) -> None:
    held = bytearray(task.props["bytes"])
    held[:: mmap.PAGESIZE] = b"x" * len(held[:: mmap.PAGESIZE])
    print("held", flush=True)
    time.sleep(60)


def memory_below(task: Any, ctx: Any) -> None:
    """The same in a process below."""
    if os.fork() == 0:
        memory(task, ctx)
    time.sleep(60)


def shared_memory(task: Any, ctx: Any) -> None:
    """Many processes with the same pages: the resident ones are counted in each."""
    for _ in range(5):
        if os.fork() == 0:
            sum(SHARED[:: mmap.PAGESIZE])
            time.sleep(60)
    sum(SHARED[:: mmap.PAGESIZE])
    print("shared", flush=True)
    ctx.wait(60)


def beats(task: Any, ctx: Any) -> None:
    for number in range(task.props["number"]):
        ctx.beat(number / task.props["number"], "note")
        time.sleep(0.05)
    print("no more", flush=True)
    time.sleep(60)


def works(task: Any, ctx: Any) -> None:
    """Uses CPU time, in a process below, and never beats."""
    if os.fork() == 0:
        while time.process_time() < task.props["seconds"]:
            sum(range(1000))
        os._exit(0)
    os.wait()
    print("idle", flush=True)
    if task.props.get("hang", True):
        time.sleep(60)


def descriptors(task: Any, ctx: Any) -> Any:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[name] = os.readlink(f"/proc/self/fd/{name}") + f" {fcntl.fcntl(int(name), fcntl.F_GETFD)}"
        except OSError:
            continue
    return found


def helper(task: Any, ctx: Any) -> Any:
    return HELPER.pid


def whoami(task: Any, ctx: Any) -> Any:
    with open("/proc/self/oom_score_adj") as file:
        adjusted = int(file.read())
    return {"pid": os.getpid(), "sid": os.getsid(0), "ppid": os.getppid(), "oom": adjusted, "argv": sys.argv[1:2]}
