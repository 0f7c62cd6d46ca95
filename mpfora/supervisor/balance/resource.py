"""The balancer `resource`: takes tasks while this machine has enough of something, gives some up when it runs short.

It reads the machine, so it is not a pure function; the reading is a parameter, and all else is decided from it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence

import psutil

from mpfora.supervisor.balance.balancer import Balancer, Move, OpenTask, View, cheapest_first

Reporter = Callable[[], float]


def memory() -> float:
    """The part of the machine's memory that is in use, 0 to 1."""
    return float(psutil.virtual_memory().percent) / 100


def cpu() -> float:
    """The part of the machine's CPU time that was used since the last call, 0 to 1."""
    return float(psutil.cpu_percent(None)) / 100


REPORTERS: dict[str, Reporter] = {"memory": memory, "cpu": cpu}


class ResourceBalancer(Balancer):
    """Claims while less than claim_below is in use; above release_above gives up one task at each look, the one that
    loses least by it, as long as another node takes tasks. In between nothing happens: without that gap a task that
    leaves would make room for its own return.

    of       "memory", "cpu", a function that returns what is in use (0 to 1), or module:attribute of one
    every_s  between two looks at the machine
    smooth   how much of the last smoothed value is kept in the next: 0 takes each reading as it is
    """

    name = "resource"

    def __init__(
        self,
        of: str | Reporter = "memory",
        claim_below: float = 0.8,
        release_above: float = 0.9,
        every_s: float = 5.0,
        smooth: float = 0.5,
    ) -> None:
        if not 0 < claim_below <= release_above <= 1:
            raise ValueError(
                f"claim_below={claim_below:g}, release_above={release_above:g}: 0 < claim_below <= release_above <= 1"
            )
        if every_s <= 0 or not 0 <= smooth < 1:
            raise ValueError(f"every_s={every_s:g} must be over 0, smooth={smooth:g} at least 0 and under 1")
        self._report = of if callable(of) else _reporter(of)
        self._claim_below, self._release_above, self._smooth = claim_below, release_above, smooth
        self.every_s = every_s
        self._used = self._report()

    def takes_more(self, view: View) -> bool:
        self._used = self._smooth * self._used + (1 - self._smooth) * self._report()
        return self._used < self._claim_below

    def may_claim(self, view: View, task: OpenTask) -> bool:
        return True

    def choose_releases(self, view: View) -> Sequence[str | Move]:
        others = [node for node in view.nodes.values() if node.live and node.name != view.me]
        active = [task for task in cheapest_first(view.mine) if not task.resting]
        if self._used <= self._release_above or not others or not active:
            return ()
        why = f"{self._used:.0%} is in use here, more than {self._release_above:.0%}"
        return [Move(active[0].id, None, why)]


def _reporter(name: str) -> Reporter:
    if name in REPORTERS:
        return REPORTERS[name]
    module, colon, attribute = name.partition(":")
    if not colon:
        raise ValueError(f"of={name}: use {', '.join(REPORTERS)} or module:attribute of a function")
    found = getattr(importlib.import_module(module), attribute)
    if not callable(found):
        raise ValueError(f"of={name}: that is {type(found).__name__}, not a function")
    report: Reporter = found
    return report
