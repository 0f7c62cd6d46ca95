"""Python's garbage collector, set for a process that may know a million tasks.

What events and answers leave behind is almost never in cycles: to look for these after every few hundred objects, as
Python does, costs a busy supervisor a tenth of its time. And it looks at all objects that live long again and again,
a million tasks among them, in one turn of the loop.

So what has outlived a collection of the oldest generation is never looked at again. Each object is looked at three
times at most, and one collection looks at no more than `MOST` objects. The price: a cycle that outlives one and ends
later is kept for ever. Such are few: those of what was under way at that moment.
"""

from __future__ import annotations

import gc
from typing import Any

#: so many objects more than were let go of begin a collection of the young; where there were more than so many since,
#: it is one of those that have outlived one collection too, and so on
YOUNG, OLDER = 10_000, 1
#: so many objects one collection looks at, at the most
MOST = YOUNG * ((OLDER + 2) * (OLDER + 1) + 1)


def calm() -> None:
    """Called once by the supervisor's program, when its modules are imported. They are never looked at again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, OLDER, OLDER)
    gc.callbacks.append(_keep_survivors)


def _keep_survivors(phase: str, info: dict[str, Any]) -> None:
    if phase == "stop" and info["generation"] == 2:
        gc.freeze()
