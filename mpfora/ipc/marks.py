"""The marks of a node's processes. They show which run an orphan belongs to.

MPFORA_ZYGOTE  in the environment: the zygote that the process descends from, a random name
the tag        (linux/tag.py) that and the number of the run as one number: in every process of a task, also where it
               has emptied its environment
MPFORA_RUN     in the environment, where there can be no tag: the zygote's name, a dot, and the number of the run
"""

from __future__ import annotations

import signal

#: the signal that tells a guard to kill its zygote
KILL_ZYGOTE = signal.SIGRTMIN

ZYGOTE_MARK = "MPFORA_ZYGOTE"
RUN_MARK = "MPFORA_RUN"

#: a tag: a bit that no limit of a person's has, 30 bits of the zygote's name, 32 bits of the run's number
_TAGGED = 1 << 62
_RUN_BITS = 32
_ZYGOTE_MASK = (1 << 30) - 1
_RUN_MASK = (1 << _RUN_BITS) - 1


def run_name(zygote: str, run: int) -> str:
    """The value of RUN_MARK."""
    return f"{zygote}.{run}"


def as_found(name: str, value: str) -> bytes:
    """An environment variable as /proc/PID/environ shows it."""
    return f"{name}={value}".encode()


def zygote_tag(zygote: str) -> int:
    """The tag of a zygote's runs without the run's number, which is to be added. zygote: the value of ZYGOTE_MARK."""
    return _TAGGED | (_hashed(zygote.encode()) & _ZYGOTE_MASK) << _RUN_BITS


def _hashed(data: bytes) -> int:
    """FNV-1a, of 32 bits: alike in every process, and of no library that each child would have to map."""
    found = 2_166_136_261
    for byte in data:
        found = (found ^ byte) * 16_777_619 & 0xFFFF_FFFF
    return found ^ found >> 30


def tagged_run(zygote_tag: int, tag: int | None) -> int | None:
    """The run that a process with this tag belongs to; None: it has no tag, or that of another zygote's runs."""
    return tag & _RUN_MASK if tag is not None and tag & ~_RUN_MASK == zygote_tag else None
