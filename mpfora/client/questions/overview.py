"""Asking a node what it knows of all nodes: it has counted all tasks already."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from mpfora.client.questions.questions import ask
from mpfora.cluster.overview import Overview, parse_overview
from mpfora.errors import NodeSilent
from mpfora.model.task import Member
from mpfora.store.keys import Layout
from mpfora.store.kv import AccessDenied, OutOfSpace, Store
from mpfora.store.question_records import CLUSTER, Question

#: a node that is well answers at once; how many are asked, one after the other
_WITHIN_S, _ASKED = 0.7, 2
#: a node that did not answer, or not with what was asked for, is not asked for so long
_SILENT_S = 60.0


class Overviews:
    """Asks for one reader. A node that did not answer is not asked again for a while."""

    def __init__(self, store: Store, layout: Layout) -> None:
        self._store, self._layout = store, layout
        self._silent: dict[str, float] = {}

    async def ask(self, members: Mapping[str, Member], task_ids: Sequence[str] = ()) -> Overview | None:
        """None: there is none to be had, since no node answers, knows the question, or may be asked; or not all that
        runs is known to nodes, as where Go nodes are. Where there are no nodes at all, there is nothing to know."""
        if not members:
            return Overview()
        if any(member.is_go for member in members.values()):
            return None
        now_s = time.monotonic()
        able = [one for one in members.values() if self._silent.get(one.name, 0.0) <= now_s]
        able.sort(key=lambda one: (one.draining, one.trouble is not None, one.created))
        question = Question(CLUSTER, ",".join(task_ids))
        for member in able[:_ASKED]:
            try:
                return parse_overview(await ask(self._store, self._layout, member.name, question, _WITHIN_S))
            except (AccessDenied, OutOfSpace):
                return None
            except (NodeSilent, ValueError):
                self._silent[member.name] = now_s + _SILENT_S
        return None
