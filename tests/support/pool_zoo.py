"""What the tests of pools have called: well and badly behaved functions, importable by a pool's processes."""

from __future__ import annotations

import asyncio
import ctypes
import os
import re
import signal
import subprocess
import sys
import threading
import time
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NoReturn

import mpfora


def double(x: int) -> int:
    return 2 * x


def give_back(*args: Any, **kwargs: Any) -> tuple[Any, ...]:
    return (*args, kwargs)


def animal(name: str, props: dict[str, Any]) -> Any:
    """One of the zoo's, which are handlers."""
    import zoo

    return getattr(zoo, name)(SimpleNamespace(props=props), mpfora.current())


def echo(value: Any) -> Any:
    return value


def pid() -> int:
    return os.getpid()


class Oops(Exception):
    """Its pickle cannot be made again: __init__ wants two arguments, and one is kept."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__(f"{a} and {b}")


class Unpicklable(Exception):
    def __init__(self) -> None:
        super().__init__("holds a lock")
        self.lock = threading.Lock()


class Bomb:
    """Cannot be unpickled in the process that has the pool; can be in the child."""

    def __init__(self, parent: int) -> None:
        self.parent = parent

    def __setstate__(self, state: dict[str, int]) -> None:
        self.__dict__ = state
        if os.getpid() == self.parent:
            raise RuntimeError("not here")


class Counter:
    def __init__(self, start: int) -> None:
        self.start = start

    def add(self, x: int) -> int:
        return self.start + x


def fail(error: BaseException) -> NoReturn:
    raise error


def fail_oops() -> NoReturn:
    raise Oops(1, 2)


def fail_unpicklable() -> NoReturn:
    raise Unpicklable


def fail_by_a_class_of_its_own() -> NoReturn:
    """Of a module that nobody else can import, though the child can."""
    module = ModuleType("made_up")
    module.Odd = type("Odd", (Exception,), {"__module__": "made_up"})  # type: ignore[attr-defined]
    sys.modules["made_up"] = module
    raise module.Odd("odd")


async def cancel_itself() -> NoReturn:
    raise asyncio.CancelledError


def make_bomb(parent: int) -> Bomb:
    return Bomb(parent)


def die(number: int = signal.SIGKILL) -> None:
    os.kill(os.getpid(), number)
    time.sleep(60)


def crash() -> None:
    ctypes.string_at(0)


def leave(code: int) -> None:
    os._exit(code)


def exit_(code: Any) -> None:
    sys.exit(code)


def spin() -> None:
    while True:
        pass


def sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def interval(seconds: float) -> tuple[float, float]:
    began = time.monotonic()
    time.sleep(seconds)
    return began, time.monotonic()


def hold_the_lock() -> None:
    """For years in C code that holds the interpreter's lock."""
    re.match("(a+)+$", "a" * 64 + "b")


def with_grandchild(path: str) -> None:
    """Start a process in a session of its own, write its pid, and hang."""
    child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    write(path, child.pid)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(1000)


def write(path: str, what: Any) -> None:
    with open(f"{path}.new", "w") as file:
        file.write(str(what))
    os.rename(f"{path}.new", path)


def say(*lines: str) -> None:
    for line in lines:
        print(line)


def say_and_die(line: str) -> None:
    print(line)
    os._exit(3)


def beat(path: str) -> None:
    ctx = mpfora.current()
    assert ctx is not None
    ctx.beat(0.25, "a quarter")
    write(path, "")
    ctx.wait(60)


def beat_for(path: str, seconds: float) -> str:
    ctx = mpfora.current()
    assert ctx is not None
    write(path, "")
    ctx.wait(seconds)
    return "done"


def listen(path: str, answer: str) -> str:
    """Wait until it is to stop, and write the reason."""
    ctx = mpfora.current()
    assert ctx is not None
    write(answer, "listens")
    ctx.wait(60)
    write(path, ctx.reason)
    return "stopped"


def never_stop(path: str) -> None:
    assert mpfora.current() is not None
    write(path, "")
    time.sleep(1000)


def eat_memory() -> None:
    eaten = []
    while True:
        eaten.append(bytearray(1 << 20))
        eaten[-1][::4096] = b"x" * 256
        time.sleep(0.001)


def fail_until(path: str, times: int) -> int:
    """Fail so often, and count in a file."""
    count = int(Path(path).read_text()) if os.path.exists(path) else 0
    write(path, count + 1)
    if count < times:
        raise ConnectionError(f"failure {count + 1}")
    return count


def put(shared: Any, key: str, value: Any) -> None:
    shared[key] = value


def make_shared_memory(size: int) -> str:
    memory = SharedMemory(create=True, size=size)
    memory.close()
    return memory.name


def current_is_there() -> bool:
    return mpfora.current() is not None


async def later(x: int) -> int:
    await asyncio.sleep(0.01)
    return x


def nested(x: int) -> int:
    with mpfora.Pool(1) as pool:
        return pool.submit(double, x).result()


def kill_zygote() -> None:
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(1000)


def fork_and_return() -> int:
    """Both processes return; one of them is the call."""
    return os.fork()


def touch(array: Any) -> int:
    """Bytes of memory that is neither shared nor a file's, after every page was read and given on."""
    array.sum()
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.findall(r"RssAnon:\s+(\d+)", status)[0])


def sum_of(array: Any) -> int:
    return int(array.sum())


def ones(size: int) -> Any:
    import numpy

    return numpy.ones(size, dtype=numpy.uint8)


def inner() -> Any:
    return lambda x: x + 1
