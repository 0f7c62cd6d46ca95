"""A number that a process hands down to all its descendants, whatever these do: the soft limit RLIMIT_LOCKS.

The kernel keeps this limit over fork, exec, setsid, a change of the user and an emptied environment, shows it to
everybody, of zombies too, and has not enforced it since Linux 2.4. Whatever else descends so has an effect
(oom_score_adj, the limits that are enforced), needs root (namespaces), or is dropped by what makes a daemon
(descriptors, environment, session). A process can take its tag off, but only on purpose.
"""

from __future__ import annotations

import resource
from contextlib import suppress

_LOCKS = 10  # include/uapi/asm-generic/resource.h; Python has no name for it
_TITLE = b"Max file locks"


def set_tag(tag: int) -> bool:
    """Tag this process and its descendants to come. `tag` is positive and below 2**63. False: the hard limit is below
    it, and there can be no tag."""
    try:
        resource.setrlimit(_LOCKS, (tag, resource.getrlimit(_LOCKS)[1]))
    except (ValueError, OSError):
        return False
    return True


def tag_of(pid: int) -> int | None:
    """The tag of a process, alive or a zombie; None where it has none or is gone."""
    try:
        soft = resource.prlimit(pid, _LOCKS)[0]
    except PermissionError:  # it has changed its user
        return _read_limit(pid)
    except (ProcessLookupError, ValueError, OSError):
        return None
    return None if soft == resource.RLIM_INFINITY else soft


def _read_limit(pid: int) -> int | None:
    with suppress(OSError, ValueError), open(f"/proc/{pid}/limits", "rb") as file:
        line = next((line for line in file if line.startswith(_TITLE)), b"")
        return int(line.removeprefix(_TITLE).split()[0]) if line else None
    return None
