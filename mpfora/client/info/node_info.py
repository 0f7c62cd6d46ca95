"""NodeInfo: what users see of one node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from mpfora.model.task import Trouble
from mpfora.store.node_records import format_code

if TYPE_CHECKING:
    from mpfora.model.code import Code


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """One live node. `started` is RFC 3339, as the node wrote it; capacity None: no limit; pid 0: it does not tell.

    why       in short why it takes no tasks; "": it does
    cgroups   what the control groups of its runs do: "kill", and the controllers that limit them; (): it has none
    balancer  by which it moves tasks; "": it does not tell
    share     how many tasks it should hold beside the others; None: it takes no part in that, or has another balancer
              than `fair` (`cost` is as that as long as nobody has measured anything)
    cost      what its tasks that need a process cost, in average tasks; None: no node measures that (balancer `cost`)
    cost_share  what they would if it were spread by weight; None: it takes no part in that
    counts  what it did for the balance since it started: "attempts", "won", "lost", "late", "was_missed", "moves",
            "suspects"; and "longest_turn_ms", how long one turn of its event loop took at most; None: not asked, or not
            told
    trouble  what keeps it from starting processes; None: nothing
    code     which generations of its code run, and its last reload; None: the first, and none was ever reloaded
    has      the resources that its tasks share;  free: what is left of them, None: nobody knows
    reserves  a waiting task for which it keeps what comes free; "": there is none
    active   how many of its tasks need a process, and so take room: the others sleep or are paused"""

    name: str
    host: str
    pid: int
    tasks: int
    capacity: int | None
    frozen: bool
    draining: bool
    labels: Mapping[str, str]
    started: str
    handlers: tuple[str, ...]
    share: int | None = None
    why: str = ""
    cost: float | None = None
    cost_share: float | None = None
    balancer: str = ""
    cgroups: tuple[str, ...] = ()
    counts: Mapping[str, int] | None = None
    trouble: Trouble | None = None
    active: int = 0
    code: Code | None = None
    has: Mapping[str, Any] = field(default_factory=dict)
    free: Mapping[str, Any] | None = None
    reserves: str = ""

    def to_json(self) -> dict[str, Any]:
        values: dict[str, Any] = {name: getattr(self, name) for name in self.__slots__}
        trouble = None if self.trouble is None else asdict(self.trouble)
        code = None if self.code is None else format_code(self.code)
        lists = {"handlers": list(self.handlers), "cgroups": list(self.cgroups)}
        return values | {"labels": dict(self.labels), "trouble": trouble, "code": code} | lists
