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
from pathlib import Path
from typing import Any

print("the zoo is imported")

if os.environ.get("ZOO_STARTS_THINGS"):
    HELPER = subprocess.Popen(["sleep", "60"])
    threading.Thread(target=time.sleep, args=(60,), name="zookeeper", daemon=True).start()

if ends := os.environ.get("ZOO_ENDS_AT_FORKS"):
    os.register_at_fork(**{ends: lambda: os.kill(os.getpid(), signal.SIGKILL)})

if seconds := os.environ.get("ZOO_SETS_ALARM"):
    # it ends the zygote where that waits for something to do
    signal.signal(signal.SIGALRM, lambda _, frame: frame and frame.f_code.co_name == "_wait" and os._exit(9))
    signal.setitimer(signal.ITIMER_REAL, float(seconds), 0.05)

if place := os.environ.get("ZOO_IS_BLIND"):
    import failing_calls

    failing_calls.fail_while_there(place)

#: the name of the memory that slots are in
SLOTS = "mpfora-slots"
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


def saves_in_a_loop(task: Any, ctx: Any) -> Any:
    """Until it is to stop; returns how often it saved."""
    number = 0
    while not ctx.stopping:
        number += 1
        ctx.save(number)
    return number


def floods_with_frames(task: Any, ctx: Any) -> None:
    """Writes frames that tell of a save as fast as it can, past ctx."""
    from mpfora.ipc import frames

    while not ctx.stopping:
        ctx._requests._channel.send(frames.Save(), 30.0)


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


def says(task: Any, ctx: Any) -> None:
    """These texts as frames on its control socket, and no more."""
    control = socket.socket(fileno=os.dup(ctx._requests._channel.fd))
    control.setblocking(True)
    for text in task.props["frames"]:
        body = text.encode("utf-8", "surrogatepass")
        try:
            control.sendall(len(body).to_bytes(4, "big") + body)
        except BrokenPipeError:
            break  # nobody listens any more
    os._exit(0)


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


def half_dead(task: Any, ctx: Any) -> None:
    """Leaves a process in a session of its own whose main thread has ended while another goes on."""
    program = (
        "import ctypes, threading, time\n"
        "threading.Thread(target=time.sleep, args=(600,)).start()\n"
        "print('ready', flush=True)\n"
        "ctypes.CDLL(None).pthread_exit(None)"
    )
    left = subprocess.Popen([sys.executable, "-c", program], start_new_session=True, stdout=subprocess.PIPE)
    assert left.stdout is not None
    left.stdout.readline()
    while b") Z " not in Path(f"/proc/{left.pid}/stat").read_bytes():
        time.sleep(0.001)
    print("half dead", left.pid, flush=True)


def bare_daemon(task: Any, ctx: Any) -> None:
    """Starts a process in a session of its own, without any environment, that no longer has a parent in the task."""
    line = subprocess.check_output(["sh", "-c", "setsid env -i sleep 600 >/dev/null 2>&1 & echo $!"])
    print("bare", int(line), flush=True)
    time.sleep(60)


def traced(task: Any, ctx: Any) -> None:
    """A process in a session of its own traces the task: that cannot be reaped while the tracer lives."""
    reader, writer = os.pipe()
    leader = os.getpid()
    pid = os.fork()
    if pid == 0:
        os.setsid()
        libc = ctypes.CDLL(None, use_errno=True)
        result = libc.ptrace(0x4206, leader, None, None)  # PTRACE_SEIZE
        os.write(writer, b"traced" if result == 0 else os.strerror(ctypes.get_errno()).encode())
        time.sleep(600)
    print(os.read(reader, 100).decode(), pid, flush=True)
    time.sleep(60)


def other_user(task: Any, ctx: Any) -> None:
    """Leaves a process of another user in a session of its own."""
    left = subprocess.Popen(["sleep", "600"], user=65534, start_new_session=True)
    print("left", left.pid, flush=True)
    ctx.wait(60)


def becomes_another(task: Any, ctx: Any) -> None:
    """The kernel forgets the death signal of a process that changes its user."""
    os.setgid(65534)
    os.setuid(65534)
    print("sleeping", flush=True)
    time.sleep(60)


def double_forks(task: Any, ctx: Any) -> Any:
    """Starts processes that leave it at once, and then waits as any program does. What it finds of children."""
    for _ in range(20):
        subprocess.run(["sh", "-c", "(sleep 0.05 &)"], check=True)
    time.sleep(0.2)
    try:
        found = os.wait()[0]
    except ChildProcessError:
        found = 0
    return {"waited": found, "children": Path(f"/proc/self/task/{os.getpid()}/children").read_text()}


def bare_program(task: Any, ctx: Any) -> None:
    """Runs `code` in a process that is no descendant of the task's any more: in a session of its own, without any
    environment, as a daemon is. untagged: it takes off its tag as well."""
    untag = "import resource; resource.setrlimit(10, (resource.getrlimit(10)[1],) * 2)\n"
    code = (untag if task.props.get("untagged") else "") + task.props["code"]
    command = ["sh", "-c", 'setsid env -i "$0" -c "$1" & echo $!', sys.executable, f"print('runs', flush=True)\n{code}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        pid = int(program.stdout.readline())
        program.stdout.readline()
        print("bare", pid, flush=True)
        program.wait()
        ctx.wait(task.props.get("stay", 60))


def forks_itself(task: Any, ctx: Any) -> Any:
    """Forks while another thread holds the lock of logging; what its two children say of threads and chance."""
    import logging
    import random

    holds = threading.Event()

    def hold() -> None:
        with logging._lock:  # type: ignore[attr-defined]
            holds.set()
            time.sleep(0.2)

    found = [f"{random.random()} {random.gauss(0, 1)}"]
    threading.Thread(target=hold).start()
    holds.wait()
    for _ in range(2):
        reader, writer = os.pipe()
        if os.fork() == 0:
            signal.alarm(10)  # of a lock that nobody gives back
            logging.getLogger("of a copy").handlers.append(logging.NullHandler())
            said = f"{random.random()} {random.gauss(0, 1)}"
            os.write(writer, said.encode() if threading.active_count() == 1 else b"more than one thread")
            os._exit(0)
        os.close(writer)
        found.append(os.read(reader, 100).decode())
        os.wait()
    native = sys.version_info < (3, 13) or threading.main_thread().native_id == os.getpid()
    return {"found": found, "native": native}


def own_group(task: Any, ctx: Any) -> Any:
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    return next(line for line in lines if line.startswith("0::"))


def crowd(task: Any, ctx: Any) -> None:
    """With the main thread: one more than it is told."""
    for _ in range(task.props["threads"]):
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    for _ in range(task.props["processes"]):
        subprocess.Popen(["sleep", "60"])
    print("crowd", flush=True)
    time.sleep(60)


def computes(task: Any, ctx: Any) -> Any:
    """Computes until it is to stop, in many ways, and says how often what came out was wrong."""
    print("computing", flush=True)
    rounds, wrong = 0, 0
    while not ctx.stopping:
        rounds += 1
        wrong += computation() != COMPUTED
        ctx.beat()
    return {"wrong": wrong, "rounds": rounds}


def computation() -> list[Any]:
    """Recursion, generators, exceptions, sorting, threads, files, processes and sleeps; the same each time."""
    return [_fibonacci(14), _primes(400), _caught(), _of_threads(), _through_a_file(), _of_a_process(), _slept()]


def _fibonacci(n: int) -> int:
    return n if n < 2 else _fibonacci(n - 1) + _fibonacci(n - 2)


def _primes(below: int) -> int:
    return sum(n for n in range(2, below) if all(n % d for d in range(2, n)))


def _caught() -> int:
    caught = 0
    for n in range(200):
        try:
            {}[n]
        except KeyError as error:
            caught += error.args[0]
    return caught


def _of_threads() -> int:
    sums: list[int] = []
    threads = [threading.Thread(target=lambda n=n: sums.append(sum(range(n * 1000)))) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(sums)


def _through_a_file() -> int:
    reader, writer = os.pipe()
    with os.fdopen(writer, "wb") as file:
        file.write(bytes(range(256)) * 16)
    with os.fdopen(reader, "rb") as file:
        return sum(file.read())


def _of_a_process() -> int:
    pid = os.fork()
    if pid == 0:
        os._exit(7)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _slept() -> bool:
    began = time.monotonic()
    time.sleep(0.01)
    return time.monotonic() - began >= 0.01


COMPUTED = computation()


def forked_and_waits(task: Any, ctx: Any) -> None:
    """Waits for a process that waits."""
    pid = os.fork()
    if pid == 0:
        time.sleep(600)
        os._exit(0)
    print("forked", pid, flush=True)
    os.waitpid(pid, 0)


def becomes_a_program(task: Any, ctx: Any) -> None:
    """Is a Python task no more."""
    print("executing", flush=True)
    os.execv("/bin/sleep", ["sleep", "600"])


def raised_into(task: Any, ctx: Any) -> Any:
    """A timer whose handler raises, again and again, while the task computes; says how often it was caught."""
    print("computing", flush=True)

    class Alarm(Exception):
        pass

    rung = 0

    def ring(*_: Any) -> None:
        nonlocal rung
        rung += 1
        raise Alarm

    signal.signal(signal.SIGALRM, ring)
    caught = 0
    while not ctx.stopping:
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.0005)
            while True:
                sum(range(10))
        except Alarm:
            caught += 1
    return {"rung": rung, "caught": caught}


def deep(task: Any, ctx: Any) -> None:
    """Waits at the bottom of a recursion of `depth`."""
    sys.setrecursionlimit(task.props["depth"] + 200)

    def down(left: int) -> None:
        if left:
            down(left - 1)
        else:
            print("deep", flush=True)
            time.sleep(600)

    down(task.props["depth"])


def many_threads(task: Any, ctx: Any) -> None:
    """So many threads that wait, each with a stack of its own."""

    def wait(left: int) -> None:
        if left:
            wait(left - 1)
        time.sleep(600)

    for number in range(task.props["threads"]):
        threading.Thread(target=wait, args=(20,), name=f"waiter-{number}", daemon=True).start()
    print("many", flush=True)
    time.sleep(600)


async def async_waits(task: Any, ctx: Any) -> None:
    """Two coroutines that wait for each other, and a blocking call in a thread of the loop's."""
    import asyncio

    first, second = asyncio.Event(), asyncio.Event()

    async def one() -> None:
        await second.wait()
        first.set()

    async def other() -> None:
        await first.wait()
        second.set()

    print("waiting", flush=True)
    waiting = asyncio.to_thread(time.sleep, 600)
    await asyncio.gather(one(), other(), waiting)


def runs_a_loop(task: Any, ctx: Any) -> None:
    """A plain handler with an event loop of its own, in a thread of its own."""
    import asyncio

    async def lonely() -> None:
        print("lonely", flush=True)
        await asyncio.Event().wait()

    thread = threading.Thread(target=lambda: asyncio.run(lonely()), name="looper", daemon=True)
    thread.start()
    thread.join()


def gil_in_c(task: Any, ctx: Any) -> None:
    """C code that holds the GIL for ever, and never looks whether a signal has come."""
    import collections
    import itertools

    print("holding", flush=True)
    collections.deque(itertools.repeat(0), maxlen=0)


def takes_sigurg(task: Any, ctx: Any) -> None:
    signal.signal(signal.SIGURG, signal.SIG_IGN)
    print("taken", flush=True)
    time.sleep(600)


def two_thirds(task: Any, ctx: Any) -> None:
    """Spends twice as long in one function as in the other."""
    print("computing", flush=True)
    ends = time.monotonic() + task.props["seconds"]
    while time.monotonic() < ends:
        long_part()
        short_part()


def long_part() -> None:
    ends = time.thread_time() + 0.02
    while time.thread_time() < ends:
        pass


def short_part() -> None:
    ends = time.thread_time() + 0.01
    while time.thread_time() < ends:
        pass


def one_of_two(task: Any, ctx: Any) -> None:
    """The main thread waits for one that computes."""

    def spin() -> None:
        while True:
            pass

    thread = threading.Thread(target=spin, name="busy", daemon=True)
    thread.start()
    print("computing", flush=True)
    thread.join()


def counts_its_threads(task: Any, ctx: Any) -> None:
    print("counting", flush=True)
    most = 1
    while True:
        count = len(os.listdir("/proc/self/task"))
        if count > most:
            print("threads", count, flush=True)
            most = count
        elif most > 1 and count == 1:
            print("again 1", flush=True)
            most = 1
        time.sleep(0.01)


def stalls_in_two_places(task: Any, ctx: Any) -> None:
    """Beats, and then does not any more, in one function and later in another."""
    ctx.beat()
    print("no more", flush=True)
    silent_at_first(task.props["first_s"])
    silent_later()


def silent_at_first(seconds: float) -> None:
    time.sleep(seconds)


def silent_later() -> None:
    while True:
        time.sleep(60)


def crashes_when_dumped(task: Any, ctx: Any) -> None:
    """SIGUSR2 ends in SIGSEGV, as a dump of a busy process does now and then."""
    libc = ctypes.CDLL(None)
    libc.signal.argtypes = ctypes.c_int, ctypes.c_void_p
    libc.signal(int(signal.SIGUSR2), 8)
    print("armed", flush=True)
    while True:
        time.sleep(60)


def beats_after_a_silence(task: Any, ctx: Any) -> None:
    ctx.beat()
    time.sleep(2)
    print("again", flush=True)
    while True:
        ctx.beat()
        time.sleep(0.05)


LIBC = ctypes.CDLL(None, use_errno=True)


def traced_by_zygote(task: Any, ctx: Any) -> Any:
    """props: how. The zygote is its tracer from now on, and hears of each of its signals before it does."""
    LIBC.ptrace(0, 0, None, None)
    how = task.props["how"]
    if how == "signal":
        signal.signal(signal.SIGUSR1, lambda *_: print("heard", flush=True))
        os.kill(os.getpid(), signal.SIGUSR1)
    elif how == "exec":
        os.execvp("sh", ["sh", "-c", "exit 6"])
    elif how == "dies":
        os.kill(os.getpid(), signal.SIGTERM)
    elif how == "thread":
        thread = threading.Thread(target=lambda: (LIBC.ptrace(0, 0, None, None), os.kill(os.getpid(), signal.SIGURG)))
        thread.start()
        thread.join()
    return how


def quiet_sibling(task: Any, ctx: Any) -> Any:
    """A child of the zygote's that ends without a signal to it (clone with CLONE_PARENT and no exit signal)."""
    pid = LIBC.syscall(56, 0x8000, 0, 0, 0, 0)
    if pid == 0:
        if not task.props.get("ends"):
            while True:
                time.sleep(60)
        os._exit(0)
    return pid


def tells_its_parents(task: Any, ctx: Any) -> Any:
    """Sends zygote and guard each signal that ends a process that does not expect it."""
    with open(f"/proc/{os.getppid()}/stat") as stat:
        guard = int(stat.read().rpartition(")")[2].split()[1])
    for pid in (os.getppid(), guard):
        for number in (*range(1, 16), *range(16, 32), *range(signal.SIGRTMIN + 1, signal.SIGRTMAX + 1)):
            if number not in (signal.SIGKILL, signal.SIGSTOP, 4, 5, 6, 7, 8, 11, 31):
                os.kill(pid, number)
    return "told"


def own_slots(task: Any, ctx: Any) -> Any:
    """What this process can reach of the table of slots: pages that are mapped, and descriptors."""
    maps = [line.split()[0].split("-") for line in Path("/proc/self/maps").read_text().splitlines() if SLOTS in line]
    links = [
        os.readlink(f"/proc/self/fd/{fd}")
        for fd in os.listdir("/proc/self/fd")
        if os.path.exists(f"/proc/self/fd/{fd}")
    ]
    pages = sum(int(end, 16) - int(start, 16) for start, end in maps) // mmap.PAGESIZE
    return {"pages": pages, "files": sum(SLOTS in link for link in links)}


def limits_its_parent(task: Any, ctx: Any) -> None:
    """Lets the zygote have hardly a file, and none that is larger than nothing."""
    import resource

    for kind, limit in ((resource.RLIMIT_NOFILE, 64), (resource.RLIMIT_FSIZE, 0)):
        _, hard = resource.prlimit(os.getppid(), kind)
        resource.prlimit(os.getppid(), kind, (limit, hard))


def has_no_exit(task: Any, ctx: Any) -> str:
    """Puts something in the place of os._exit, as a test's mock does, that returns."""
    os._exit = lambda code: None  # type: ignore[assignment,misc]
    return "done"
