"""Reports: the lines of a node's log on conditions that last, such as a store that does not answer. Pure.

Each condition has a name. Its first line comes at once, further ones at growing distances, and the last when it ends.
"""

from __future__ import annotations

from mpfora.model.lasting_condition import FORGOTTEN_S, LastingCondition, format_span
from mpfora.supervisor import actions as do

#: so many conditions are remembered at once, the latest to begin
REMEMBERED = 1000


class Reports:
    """One per core. Holds a condition for each name that is on, or was lately."""

    def __init__(self) -> None:
        self._conditions: dict[str, LastingCondition] = {}
        self._ended: dict[str, float] = {}

    def lasting(self, name: str, level: str, text: str, now_s: float, task_id: str = "") -> list[do.Action]:
        """The condition holds now. Returns the line about it, if one is due."""
        condition = self._conditions.get(name)
        if condition is None:
            self._forget_old(now_s)
            condition = self._conditions[name] = LastingCondition()
            if len(self._conditions) > REMEMBERED:
                self.forget(next(iter(self._conditions)))
        self._ended.pop(name, None)
        report = condition.seen(now_s)
        return [] if report is None else [do.Say(level, f"{text}{report}", task_id)]

    def ended(self, name: str, text: str, now_s: float) -> list[do.Action]:
        """The condition does not hold. Returns the line about its end, if its beginning was reported."""
        condition = self._conditions.get(name)
        if condition is None or not condition.is_on:
            return []
        self._ended[name] = now_s
        lasted_s = condition.over(now_s)
        return [] if lasted_s is None else [do.Say("info", f"{text}, after {format_span(lasted_s)}")]

    def forget(self, name: str) -> None:
        """What the condition is about is gone: nothing more is said of it."""
        self._conditions.pop(name, None)
        self._ended.pop(name, None)

    def _forget_old(self, now_s: float) -> None:
        for name in [name for name, at_s in self._ended.items() if now_s - at_s >= FORGOTTEN_S]:
            del self._ended[name], self._conditions[name]
