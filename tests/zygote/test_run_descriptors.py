"""Where one of the descriptors of a run, or of a zygote, cannot be had, those before it are closed."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from unittest import mock

import pytest

from mpfora.ipc import run_file, slots
from mpfora.model.run_spec import RunLimits, RunSpec
from mpfora.supervisor.zygote.command_line import Program
from mpfora.supervisor.zygote.output_pipe import OutputPipe
from mpfora.supervisor.zygote.process import ZygoteProcess
from mpfora.supervisor.zygote.run import Run


def open_fds() -> dict[str, str]:
    links = {}
    for fd in os.listdir("/proc/self/fd"):
        try:
            links[fd] = os.readlink(f"/proc/self/fd/{fd}")
        except FileNotFoundError:  # that of the listing itself
            continue
    return links


def refusing() -> mock.Mock:
    return mock.Mock(side_effect=OSError(errno.EMFILE, "Too many open files"))


@pytest.mark.parametrize(
    "call", ["socketpair", "pipe2", "memfd_create", "ftruncate", "dup", "first reader", "second reader"]
)
async def test_a_run(call: str) -> None:
    loop = asyncio.get_running_loop()
    run = Run(
        1,
        RunSpec("t1", "ok", "{}", 1, 1, None, RunLimits(5.0)),
        0,
        lambda number, text: None,
        lambda fd, spec: OutputPipe(fd, lambda line: None),
    )
    before = open_fds()
    if "reader" in call:
        real, left = loop.add_reader, ["first reader", "second reader"].index(call)

        def add_reader(*arguments: object) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise OSError(errno.ENOSPC, "no more watches")
            real(*arguments)  # type: ignore[arg-type]

        patch = mock.patch.object(loop, "add_reader", add_reader)
    else:
        patch = mock.patch.object(socket if call == "socketpair" else os, call, refusing())
    with patch, pytest.raises(OSError, match=r"Too many|no more"):
        run.open()
    assert open_fds() == before
    fds = run.open()
    assert len(open_fds()) == len(before) + 6
    for fd in fds:
        os.close(fd)
    run.close()
    run.close_output(lambda said: None)
    assert open_fds() == before


def test_tables_and_files() -> None:
    before = open_fds()
    with mock.patch.object(os, "ftruncate", refusing()):
        with pytest.raises(OSError, match=r"Too many|no more"):
            run_file.create()
        with pytest.raises(OSError, match=r"Too many|no more"):
            slots.SlotTable.create()
    with mock.patch("mmap.mmap", refusing()), pytest.raises(OSError, match=r"Too many|no more"):
        slots.SlotTable.create()
    assert open_fds() == before


async def test_a_zygote() -> None:
    before = open_fds()
    process = ZygoteProcess(lambda frame: None, lambda reason: None)
    with mock.patch.object(os, "pidfd_open", refusing()), pytest.raises(OSError, match=r"Too many|no more"):
        process.execute(Program([], "n1"), os.open(os.devnull, os.O_RDWR), os.open(os.devnull, os.O_RDWR), 5.0, 256)
    kept = open_fds()
    assert sorted(set(kept.values()) - set(before.values())) in ([], [os.devnull])
    assert len(kept) == len(before) + 2  # those that it was given
    for fd in kept.keys() - before.keys():
        os.close(int(fd))
