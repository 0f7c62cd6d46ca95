"""GuardedBalancer: the balancer as the core asks it. Its exceptions and its nonsense become lines of the log. Pure, if
the balancer is."""

from __future__ import annotations

import traceback

from mpfora.supervisor.balance.balancer import Balancer, Move, OpenTask, View

#: how a line of the log begins that tells of a balancer's exception
FAILED = "the balancer's "


class GuardedBalancer:
    """A balancer that fails gives no advice: what is assigned to the node is claimed, and nothing is given up."""

    def __init__(self, balancer: Balancer) -> None:
        self._balancer = balancer
        self._complaints: dict[str, None] = {}

    @property
    def name(self) -> str:
        """What others are told that this node balances by."""
        made_by = type(self._balancer)
        return vars(made_by).get("name") or f"{made_by.__module__}:{made_by.__qualname__}"

    @property
    def every_s(self) -> float | None:
        return self._balancer.every_s

    @property
    def measures(self) -> bool:
        return self._balancer.measures

    @property
    def cooldown_s(self) -> float:
        return self._balancer.cooldown_s

    def takes_more(self, view: View) -> bool:
        """Whether the balancer takes further tasks."""
        try:
            return bool(self._balancer.takes_more(view))
        except Exception as error:  # noqa: BLE001 - as below
            self._complain("takes_more", error)
            return True

    def may_claim(self, view: View, task: OpenTask) -> bool:
        """Whether the balancer takes the task."""
        try:
            return bool(self._balancer.may_claim(view, task))
        except Exception as error:  # noqa: BLE001 - users write balancers, and a node must survive them
            self._complain("may_claim", error)
            return True

    def releases(self, view: View) -> list[Move]:
        """What the balancer wants moved, each of this node's tasks once."""
        mine = {task.id for task in view.mine}
        chosen: dict[str, Move] = {}
        try:
            for item in self._balancer.choose_releases(view):
                move = item if isinstance(item, Move) else Move(str(item), None, "its balancer gives it up")
                if move.task_id in mine:
                    chosen.setdefault(move.task_id, move)
        except Exception as error:  # noqa: BLE001 - as above
            self._complain("choose_releases", error)
            return []
        return list(chosen.values())

    def take_errors(self) -> list[str]:
        """What went wrong since this was last asked, each thing once."""
        complaints, self._complaints = self._complaints, {}
        return list(complaints)

    def _complain(self, method: str, error: Exception) -> None:
        where = traceback.extract_tb(error.__traceback__)[-1]
        text = f"{FAILED}{method} failed: {type(error).__name__}: {error} ({where.filename}:{where.lineno})"
        self._complaints[text] = None
