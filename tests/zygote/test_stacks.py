"""What is kept of the stacks of a killed run."""

from __future__ import annotations

import os
from pathlib import Path

import mpfora
from mpfora.ipc.run_file import STACKS_BYTES, create
from mpfora.supervisor.zygote.stacks import STACKS_KEPT, read_stacks, without_our_frames

CHILD = Path(mpfora.__file__).parent / "child"
OURS = f'''  File "{CHILD}/run/call_handler.py", line 80 in _call
  File "{CHILD}/run/call_handler.py", line 49 in conduct
  File "{CHILD}/run/process.py", line 100 in _run
  File "<string>", line 1 in <module>'''


def test_each_thread_ends_where_the_handler_was_called() -> None:
    theirs = """Thread 0x00007f01 (most recent call first):
  File "/usr/lib/python3.11/threading.py", line 1002 in _bootstrap

Current thread 0x00007f02 (most recent call first):
  File "/srv/jobs.py", line 7 in inner
  File "/srv/jobs.py", line 3 in handler"""
    assert without_our_frames(f"{theirs}\n{OURS}") == theirs
    assert without_our_frames(theirs) == theirs


def test_both_of_two_threads_below_the_call_are_cut() -> None:
    one = 'Thread 0x01 (most recent call first):\n  File "/srv/jobs.py", line 7 in inner'
    assert without_our_frames(f"{one}\n{OURS}\n\n{one}\n{OURS}") == f"{one}\n\n{one}"


def test_a_thread_that_is_in_our_own_code_keeps_a_frame() -> None:
    lines = f"Thread 0x01 (most recent call first):\n{OURS}".splitlines()
    assert without_our_frames("\n".join(lines)).splitlines() == lines[:2]


def test_a_handler_may_have_modules_of_the_same_name() -> None:
    theirs = 'Thread 0x1 (most recent call first):\n  File "/f", line 1 in f\n  File "/srv/child/run.py", line 9 in g'
    assert without_our_frames(theirs) == theirs


def test_of_long_stacks_both_ends_are_kept() -> None:
    fd = create()
    frames = "".join(f'  File "/srv/jobs.py", line {n} in recursive\n' for n in range(1200))
    os.write(fd, f"Current thread 0x01 (most recent call first):\n{frames}{OURS}\n".encode())
    text = read_stacks(fd)
    os.close(fd)
    assert text.startswith("Current thread")
    assert text.endswith("line 1199 in recursive")
    assert "bytes left out" in text
    assert len(text) < STACKS_KEPT + 100 < STACKS_BYTES


def test_nothing_written_is_no_text() -> None:
    fd = create()
    assert read_stacks(fd) == ""
    os.close(fd)
