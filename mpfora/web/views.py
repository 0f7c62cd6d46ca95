"""What each page shows, as JSON: alike for one look and for the live stream. Reads the mirror, and no etcd."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mpfora.client.filters.filter import Filter, having, parse_filter
from mpfora.client.info.node_info import NodeInfo
from mpfora.client.info.task_info import TaskInfo
from mpfora.client.mirror.cluster_mirror import ClusterMirror
from mpfora.errors import BadValue, NodeNotFound
from mpfora.model.units import shown
from mpfora.web.overview import nodes_summary, overview
from mpfora.web.page_data import PageData
from mpfora.web.redaction import redacted
from mpfora.web.settings import WebSettings

PAGE_ROWS, MOST_PAGE_ROWS = 50, 1_000
#: groups of one page
_MOST_GROUPS = 1_000
_MOST_SCHEDULES = 1_000

Params = Mapping[str, str]


class Views:
    """`show(name, parameters)`: what the page of that name shows now."""

    def __init__(self, data: PageData, settings: WebSettings) -> None:
        self._data, self._settings = data, settings
        self._makers: dict[str, Callable[[Params], dict[str, Any]]] = {
            "overview": lambda _: overview(data),
            "tasks": self._tasks,
            "task": self._task,
            "nodes": self._nodes,
            "node": self._node,
            "groups": self._groups,
            "schedules": self._schedules,
            "events": lambda params: {"events": data.events.last(params.get("q", ""))},
            "actions": lambda _: {"actions": data.audit.last()},
        }

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._makers)

    @property
    def _mirror(self) -> ClusterMirror:
        return self._data.mirror

    def show(self, name: str, params: Params) -> dict[str, Any]:
        """Raises BadValue, TaskNotFound, NodeNotFound."""
        if name not in self._makers:
            raise BadValue(f"view: must be one of {', '.join(self._makers)}, not {shown(name)}")
        key = name, *sorted(params.items())
        made: dict[str, Any] = self._data.cached(key, lambda: self._makers[name](params))
        trouble = self._mirror.trouble
        return {**made, "revision": self._mirror.revision, "trouble": trouble, "namespace": self._data.namespace}

    def task_json(self, task: TaskInfo) -> dict[str, Any]:
        """As `mpfora task --json`, without what nobody is to see."""
        values = task.to_json()
        return values | {"result": redacted(values["result"], self._settings.redact)}

    def _tasks(self, params: Params) -> dict[str, Any]:
        limit = _count(params.get("limit"))
        which = self.check_filter(params.get("q", ""))
        page = self._mirror.page(which, limit, params.get("after") or None, params.get("sort") or "id")
        return {"tasks": [self.task_json(task) for task in page], "total": page.total, "next": page.next}

    def check_filter(self, text: str) -> Filter:
        """The filter of a text. Raises BadValue, also for one by which what is hidden could be found out letter by
        letter."""
        which = parse_filter(text)
        for term in which.terms:
            if term.field == "props" and any(self._settings.redact.search(part) for part in term.path):
                raise BadValue(f"filter: {'.'.join(('props', *term.path))} is hidden here, and cannot be searched")
        return which

    def _task(self, params: Params) -> dict[str, Any]:
        return {"task": self.task_json(self._mirror.task(params.get("id", "")))}

    def _nodes(self, _: Params) -> dict[str, Any]:
        nodes = self._mirror.nodes()
        return {"nodes": [node.to_json() for node in nodes], "summary": nodes_summary(nodes)}

    def _node(self, params: Params) -> dict[str, Any]:
        node = self.node(params.get("name", ""))
        which = parse_filter(str(having("node", node.name)) + " -state:completed,failed,killed")
        page = self._mirror.page(which, PAGE_ROWS, sort=params.get("sort") or "id")
        return {"node": node.to_json(), "tasks": [self.task_json(task) for task in page], "total": page.total}

    def node(self, name: str) -> NodeInfo:
        nodes = self._mirror.nodes()
        for node in nodes:
            if node.name == name:
                return node
        raise NodeNotFound(name, [node.name for node in nodes])

    def _schedules(self, _: Params) -> dict[str, Any]:
        hide = self._settings.redact
        found = [info.to_json() for info in self._mirror.schedules()]
        rows = [row | {"props": redacted(row["props"], hide)} for row in found[:_MOST_SCHEDULES]]
        return {"schedules": rows, "total": len(found)}

    def _groups(self, _: Params) -> dict[str, Any]:
        groups = self._mirror.groups()
        shown_groups = [{"group": name, "states": states} for name, states in list(groups.items())[:_MOST_GROUPS]]
        return {"groups": shown_groups, "total": len(groups)}


def _count(text: str | None) -> int:
    if not text:
        return PAGE_ROWS
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MOST_PAGE_ROWS:
        raise BadValue(f"limit: must be a whole number from 1 to {MOST_PAGE_ROWS:,}, not {shown(text)}")
    return int(text)
