"""Handlers that do what any Python program does, and modules that do at their import what many do. Imported in the
zygote; the environment says what this import is to do."""

from __future__ import annotations

import argparse
import atexit
import gzip
import mmap
import multiprocessing
import os
import resource
import socket
import sqlite3
import subprocess
import sys
import time
from multiprocessing.shared_memory import SharedMemory
from typing import Any

from mpfora.child.zygote import memory_watch

IMPORTED_WITH = {"argv": list(sys.argv), "nofile": resource.getrlimit(resource.RLIMIT_NOFILE)[0]}

ROWS = open(os.environ.get("PLAIN_ROWS", os.devnull), "a")  # noqa: SIM115 - as people do
PACKED = gzip.open(os.environ["PLAIN_PACKED"], "wt") if "PLAIN_PACKED" in os.environ else None  # noqa: SIM115
if "PLAIN_ROWS" in os.environ:
    ROWS.write("header\n")
if "PLAIN_PORT" in os.environ:
    CONNECTION = socket.create_connection(("127.0.0.1", int(os.environ["PLAIN_PORT"])))
    DATABASE = sqlite3.connect(os.environ["PLAIN_DATABASE"])
    DATABASE.execute("create table if not exists t (x)")
time.sleep(float(os.environ.get("PLAIN_IMPORT_S", "0")))
LATE: Any = None
if "PLAIN_TRACKER" in os.environ:
    MADE_AT_IMPORT = SharedMemory(create=True, size=4096)
    print(f"made {MADE_AT_IMPORT.name} at import", flush=True)


def arguments(task: Any, ctx: Any) -> Any:
    parser = argparse.ArgumentParser()
    parser.add_argument("--level", type=int, default=3)
    return [parser.parse_args().level, sys.argv, "--fd" in sys.orig_argv, IMPORTED_WITH["argv"]]


def limits(task: Any, ctx: Any) -> Any:
    return [resource.getrlimit(resource.RLIMIT_NOFILE)[0], IMPORTED_WITH["nofile"]]


def flags(task: Any, ctx: Any) -> Any:
    return [sys.flags.optimize, sys.flags.dev_mode, sys.warnoptions, __debug__]


def rows(task: Any, ctx: Any) -> None:
    ROWS.write(f"row of {task.id}\n")
    if PACKED is not None:
        PACKED.write("packed\n")


def late_rows(task: Any, ctx: Any) -> None:
    global LATE
    LATE = [open(task.props["path"], "w"), gzip.open(task.props["packed"], "wt")]  # noqa: SIM115
    for file in LATE:
        file.write("late\n")


def stops_for_a_debugger(task: Any, ctx: Any) -> None:
    breakpoint()
    print("on")


def nothing(task: Any, ctx: Any) -> None: ...


atexit.register(print, "the end of the zygote is nobody's")

if "PLAIN_INLINE" in os.environ:  # in the zygote
    memory_watch._INLINE = int(os.environ["PLAIN_INLINE"])
#: memory that every child has from the zygote
LOADED = bytearray(os.urandom(4096)) * (int(os.environ.get("PLAIN_LOADED_MIB", "0")) * 256)


def dirty(mib: int) -> bytearray:
    held = bytearray(mib << 20)
    held[::4096] = b"x" * len(held[::4096])
    return held


def hold(task: Any, ctx: Any) -> None:
    """Own memory of each kind, then word, then rest."""
    props = task.props
    kept: list[Any] = [dirty(props.get("mib", 0)), sum(LOADED[::4096])]
    if props.get("touch"):
        LOADED[: props["touch"] << 20 : 4096] = b"y" * (props["touch"] << 8)
    if props.get("shm"):
        shared = SharedMemory(create=True, size=props["shm"] << 20)
        shared.buf[:] = b"z" * len(shared.buf)
        shared.unlink()
        kept.append(shared)
    for _ in range(props.get("pool", 0)):
        if os.fork() == 0:
            sum(kept[0][::4096])
            sum(LOADED[::4096])
            if props.get("shm"):
                sum(kept[2].buf[::4096])
            time.sleep(600)
    if props.get("mapped"):
        file = open(props["mapped"], "r+b")  # noqa: SIM115
        mapped = mmap.mmap(file.fileno(), 0)
        kept.append(sum(mapped[::4096]))
        if props.get("write_mapped"):
            mapped[::4096] = b"w" * len(mapped[::4096])
        kept.append(mapped)
    if props.get("then"):
        ctx.wait(0.7)
        kept.append(dirty(props["then"]))
    print("held", flush=True)
    ctx.wait(600)


def spawn_pool(task: Any, ctx: Any) -> None:
    """Workers that are executed anew, each with the same shared memory."""
    shared = SharedMemory(create=True, size=task.props["shm"] << 20)
    shared.buf[:] = b"z" * len(shared.buf)
    code = (
        "import sys, time; from multiprocessing import shared_memory, resource_tracker as t;"
        "s = shared_memory.SharedMemory(sys.argv[1]); t.unregister(s._name, 'shared_memory');"
        "sum(s.buf[::4096]); print('mapped', flush=True); time.sleep(600)"
    )
    for _ in range(task.props["pool"]):
        worker = subprocess.Popen([sys.executable, "-c", code, shared.name], stdout=subprocess.PIPE)
        assert worker.stdout is not None
        worker.stdout.readline()
    shared.unlink()
    print("held", flush=True)
    ctx.wait(600)


def bars(task: Any, ctx: Any) -> None:
    """As tqdm writes: to stderr, each state over the one before."""
    for percent in (10, 20, 30):
        sys.stderr.write(f"\r{percent}%|###   |")
        sys.stderr.flush()
    ctx.wait(600)


def leaves_shared_memory(task: Any, ctx: Any) -> Any:
    """Makes what multiprocessing's resource tracker removes in a plain program."""
    shared = SharedMemory(create=True, size=1 << 20)
    lock = multiprocessing.get_context("spawn").Lock()
    workers = [multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,)) for _ in range(2)]
    for worker in workers:
        worker.start()
    print(f"made {shared.name}", flush=True)
    if task.props.get("waits"):
        ctx.wait(600)
    if task.props.get("aborts"):
        os.abort()
    return [shared.name, lock._semlock.name]
