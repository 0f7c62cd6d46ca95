"""Deeds that take their own process apart: its descriptors, its interpreter, its memory, what the kernel knows of it.

Imported by zygotes, as deeds.py is. What a deed here does is its own task's trouble, and nobody else's.
"""

from __future__ import annotations

import builtins
import ctypes
import fcntl
import json
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from .deeds import STRANGE, _for_ever, _forked, deed

_libc = ctypes.CDLL(None, use_errno=True)
#: descriptors that a run may have
_OWN = range(3, 100)
_ADD_SEALS, _ALL_SEALS = 1033, 0xF
_PUNCH_HOLE = 3


# -- values whose types lie -------------------------------------------------------------------------------------------


class _Text(str):
    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no eq")

    def __hash__(self) -> int:
        raise RuntimeError("no hash")

    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    def __str__(self) -> str:
        raise RuntimeError("no str")

    def __len__(self) -> int:
        return 10**9


class _Number(int):
    def __repr__(self) -> str:
        return "nonsense"

    __str__ = __repr__

    def __lt__(self, other: object) -> bool:
        raise RuntimeError("no lt")


class _Fraction(float):
    def __repr__(self) -> str:
        return "[1,2"

    def __float__(self) -> float:
        return float("nan")


class _Endless(list[int]):
    def __iter__(self) -> Iterator[int]:
        while True:
            yield 1


class _Growing(dict[str, int]):
    def items(self) -> Any:
        for number in range(5):
            self[f"k{len(self)}"] = number
            yield f"x{number}", number


def _generator() -> Iterator[int]:
    yield 1


async def _coroutine() -> int:
    return 1


STRANGE |= {
    "text_that_lies": lambda: _Text("x"),
    "number_that_lies": lambda: _Number(7),
    "fraction_that_lies": lambda: _Fraction(2.5),
    "endless_list": lambda: _Endless([1]),
    "growing_dict": lambda: _Growing(a=1),
    "generator": _generator,
    "coroutine": _coroutine,
    "lock": threading.Lock,
    "module": lambda: os,
    "not_implemented": lambda: NotImplemented,
    "digits": lambda: 10**5000,
}


# -- descriptors ------------------------------------------------------------------------------------------------------


def _each(act: Callable[[int], object]) -> None:
    """With what it shares with its node; the file of the lines stays as it is."""
    for number in _OWN:
        try:
            if os.readlink(f"/proc/self/fd/{number}").startswith(("socket:", "/memfd:")):
                act(number)
        except OSError:
            continue


def _all_are(path: str) -> None:
    source = os.open(path, os.O_RDWR)
    for number in range(300):
        if number != source:
            os.dup2(source, number)


@deed
def all_are_null(task: Any, ctx: Any) -> None:
    _all_are("/dev/null")


@deed
def all_are_zero(task: Any, ctx: Any) -> None:
    _all_are("/dev/zero")


@deed
def shut_sockets(task: Any, ctx: Any) -> None:
    _each(lambda number: socket.socket(fileno=os.dup(number)).shutdown(socket.SHUT_RDWR))


@deed
def send_descriptors(task: Any, ctx: Any) -> None:
    """To whoever is at the other end of its sockets."""
    _each(lambda number: socket.send_fds(socket.socket(fileno=os.dup(number)), [b"x"], [0] * 200))


@deed
def cut_files(task: Any, ctx: Any) -> None:
    _each(lambda number: os.ftruncate(number, 0))


@deed
def hole_files(task: Any, ctx: Any) -> None:
    _each(lambda number: _libc.fallocate(number, _PUNCH_HOLE, ctypes.c_long(0), ctypes.c_long(1 << 30)))


@deed
def seal_files(task: Any, ctx: Any) -> None:
    _each(lambda number: fcntl.fcntl(number, _ADD_SEALS, _ALL_SEALS))
    ctx.save({"next": 1})


@deed
def print_without_waiting(task: Any, ctx: Any) -> None:
    os.set_blocking(1, False)
    for _ in range(2000):
        try:
            os.write(1, b"y" * 4000 + b"\n")
        except BlockingIOError:
            time.sleep(0.0001)


# -- the interpreter --------------------------------------------------------------------------------------------------


@deed
def shallow_stack(task: Any, ctx: Any) -> None:
    sys.setrecursionlimit(60)


@deed
def bottomless(task: Any, ctx: Any) -> None:
    sys.setrecursionlimit(2**31 - 1)

    def fall() -> None:
        fall()

    fall()


@deed
def hooks_that_raise(task: Any, ctx: Any) -> None:
    def hook(*_: object) -> None:
        raise RuntimeError("a hook")

    sys.addaudithook(hook)
    sys.settrace(hook)  # type: ignore[arg-type]


@deed
def no_json(task: Any, ctx: Any) -> Any:
    json.dumps = json.loads = json.JSONEncoder.encode = json.JSONEncoder.iterencode = None  # type: ignore[method-assign,assignment]
    return {"ok": 1}


@deed
def no_system(task: Any, ctx: Any) -> Any:
    for name in ("write", "read", "close", "getpid", "kill", "_exit"):
        setattr(os, name, None)
    return {"ok": 1}


@deed
def no_builtins(task: Any, ctx: Any) -> None:
    for name in ("isinstance", "len", "str", "type", "getattr", "BaseException", "OSError", "min"):
        setattr(builtins, name, None)


@deed
def threads_that_go_on(task: Any, ctx: Any) -> Any:
    def go_on() -> None:
        while True:
            try:
                ctx.beat()
                ctx.save({"late": 1})
                time.sleep(0.001)
            except Exception:  # noqa: BLE001 - it goes on
                continue

    for _ in range(5):
        threading.Thread(target=go_on).start()
    return {"ok": 1}


@deed
def late_alarms(task: Any, ctx: Any) -> Any:
    def alarm(*_: object) -> None:
        raise RuntimeError("an alarm")

    signal.signal(signal.SIGALRM, alarm)
    signal.setitimer(signal.ITIMER_REAL, 0.02, 0.0005)
    return {"ok": 1}


# -- memory -----------------------------------------------------------------------------------------------------------


@deed
def break_none(task: Any, ctx: Any) -> Any:
    ctypes.c_ssize_t.from_address(id(None)).value = 1
    return [None] * 3


@deed
def break_streams(task: Any, ctx: Any) -> Any:
    ctypes.memset(ctypes.c_void_p.in_dll(_libc, "stdout").value or 0, 0x41, 200)
    return {"ok": 1}


@deed
def free_what_is_used(task: Any, ctx: Any) -> None:
    _libc.free(ctypes.c_void_p(id(ctx)))


@deed
def no_access(task: Any, ctx: Any) -> None:
    """To what it shares with its node."""
    with open("/proc/self/maps") as maps:
        shared = [line.split()[0].split("-") for line in maps if "memfd:" in line]
    for begin, end in shared:
        start = int(begin, 16)
        _libc.mprotect(ctypes.c_void_p(start), ctypes.c_size_t(int(end, 16) - start), 0)
    ctx.beat(0.5)


@deed
def let_go_of_the_interpreter(task: Any, ctx: Any) -> None:
    ctypes.pythonapi.PyEval_SaveThread()


# -- what the kernel knows of it --------------------------------------------------------------------------------------


def _filter(call: int, answer: int) -> None:
    """This system call has this answer of seccomp from now on."""
    words = ((0x20, 0, 0, 0), (0x15, 0, 1, call), (0x06, 0, 0, answer), (0x06, 0, 0, 0x7FFF0000))
    code = b"".join(struct.pack("<HBBI", *word) for word in words)
    program = ctypes.create_string_buffer(code, len(code))
    header = (ctypes.c_uint64 * 2)(len(words), ctypes.addressof(program))
    _libc.prctl(38, 1, 0, 0, 0)
    _libc.prctl(22, 2, header, 0, 0)


@deed
def may_not_send(task: Any, ctx: Any) -> Any:
    _filter(44, 0x50001)
    return {"ok": 1}


@deed
def may_not_exit(task: Any, ctx: Any) -> Any:
    _filter(231, 0x50001)
    return {"ok": 1}


@deed
def main_thread_goes(task: Any, ctx: Any) -> None:
    threading.Thread(target=_for_ever).start()
    _libc.syscall(60, 0)


@deed
def bears_another_name(task: Any, ctx: Any) -> None:
    """As its zygote is called, with the brackets that /proc/PID/stat has around names."""
    _libc.prctl(15, b") Z 1 1 (", 0, 0, 0)
    subprocess.Popen(["sleep", "1000"])


@deed
def becomes_a_program(task: Any, ctx: Any) -> None:
    os.execvp("sleep", ["sleep", "1000"])


@deed
def another_root(task: Any, ctx: Any) -> None:
    os.chroot("/usr/share")


@deed
def cannot_be_looked_into(task: Any, ctx: Any) -> None:
    _libc.prctl(4, 0, 0, 0, 0)
    threading.Lock().acquire()
    _for_ever()


@deed
def few_of_everything(task: Any, ctx: Any) -> Any:
    for what in (resource.RLIMIT_FSIZE, resource.RLIMIT_STACK, resource.RLIMIT_SIGPENDING):
        resource.setrlimit(what, (0, 0))
    ctx.save({"next": 1})
    return {"ok": 1}


@deed
def many_sessions(task: Any, ctx: Any) -> None:
    def child() -> None:
        os.setsid()
        _forked(_deaf_session)

    for _ in range(20):
        _forked(child)


def _deaf_session() -> None:
    os.setsid()
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    _for_ever()


@deed
def takes_in_orphans(task: Any, ctx: Any) -> None:
    """A process of its own is a subreaper, whose children the zygote never gets."""

    def child() -> None:
        _libc.prctl(36, 1)
        os.setsid()
        for _ in range(5):
            _forked(lambda: _forked(_for_ever))
        _for_ever()

    _forked(child)


@deed
def names_of_pids(task: Any, ctx: Any) -> None:
    """Its children are in a namespace of pids of their own."""
    if _libc.unshare(0x20000000) == 0:
        for _ in range(2):
            _forked(_for_ever)
