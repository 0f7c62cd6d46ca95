"""The hooks of threading, logging and random at a fork: a child has no use of them, and its own children have."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from zygote_harness import node

from mpfora.model.outcome import Cause

PROGRAM = """
import json, os, sys
from mpfora.child.run import fork_hooks
fork_hooks.hold_back()
import logging, random, threading
held = len(fork_hooks._held)
{what}
fork_hooks.settle()
print(json.dumps([held, len(fork_hooks._held), os.register_at_fork.__module__]))
"""


def hooks(what: str = "") -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", PROGRAM.format(what=what)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, env=environment, check=True)
    return done.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    ("what", "kept"),
    [
        ("", 3),
        ("threading.Thread(target=__import__('time').sleep, args=(1,), daemon=True).start()", 0),
        ("os.getpid = lambda: 7; os.fork() or os._exit(0)", 0),
    ],
    ids=["alone", "a thread of a module's", "a module that forks, after the guard has"],
)
def test_the_zygote_forks_without_them_where_it_has_one_thread_and_nobody_else_forks(what: str, kept: int) -> None:
    assert hooks(what) == f'[3, {kept}, "posix"]'


async def test_a_child_that_forks_itself_has_them() -> None:
    async with node("forks_itself") as n:
        results = []
        for _ in range(2):
            outcome = await n.run("forks_itself")
            assert outcome.cause is Cause.COMPLETED
            assert outcome.message is not None
            results.append(outcome.message.result)
    said = [text for result in results for text in result["found"]]
    assert all(result["native"] for result in results)
    assert all(len(text.split()) == 2 for text in said), said
    assert len({word for text in said for word in text.split()}) == 12, "no two of them draw the same numbers"
