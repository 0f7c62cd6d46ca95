"""A balancer with a bug: it never returns once a task called `hang` is put to it: `hanging_balancer:Hanging`."""

from __future__ import annotations

from mpfora.supervisor.balance.balancer import FairBalancer, OpenTask, View


class Hanging(FairBalancer):
    def may_claim(self, view: View, task: OpenTask) -> bool:
        while task.id == "hang":
            pass
        return super().may_claim(view, task)
