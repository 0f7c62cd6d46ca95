"""A flame graph as one page: nothing is loaded from anywhere, and names that stand in it are text and never code."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_PAGE = Path(__file__).with_suffix(".html")


def flame_graph(title: str, stacks: Iterable[tuple[tuple[str, ...], int]]) -> str:
    """stacks: frames, the innermost last, and microseconds."""
    data = json.dumps(_rows(_tree(stacks)), separators=(",", ":"))
    # a name may hold what ends the element that the data stand in
    safe = data.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return _PAGE.read_text().replace("%TITLE%", html.escape(title)).replace("%DATA%", safe)


class _Node:
    __slots__ = ("children", "weight")

    def __init__(self) -> None:
        self.children: dict[str, _Node] = {}
        self.weight = 0


def _tree(stacks: Iterable[tuple[tuple[str, ...], int]]) -> _Node:
    root = _Node()
    for frames, weight in stacks:
        node = root
        node.weight += weight
        for frame in frames:
            node = node.children.setdefault(frame, _Node())
            node.weight += weight
    return root


def _rows(node: _Node, name: str = "all") -> list[Any]:
    """[name, microseconds, children], the heaviest child first."""
    children = sorted(node.children.items(), key=lambda item: -item[1].weight)
    return [name, node.weight, [_rows(child, frame) for frame, child in children]]
