"""How large a module, a class and a function may be: what does not fit into one look is cut."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from statistics import median

import pytest
from test_imports import modules

MODULE_LINES, CLASS_LINES, FUNCTION_LINES, MEDIAN_LINES = 400, 150, 45, 8

#: classes that may be larger, up to so many lines: each is a table, and reads as one
TABLES = {
    # which event goes to whom, in which order it is decided, and when to wake
    ("supervisor.core", "Core"): 290,
    # how each action is carried out, by a method of a few lines
    ("supervisor.effects", "Effects"): 260,
    # what a client can do, each in one call
    ("client.sync_client", "Client"): 290,
}
Size = tuple[str, str, int]


@cache
def classes() -> tuple[Size, ...]:
    """(module, name, lines)."""
    return tuple(_sizes(ast.ClassDef))


@cache
def functions() -> tuple[Size, ...]:
    return tuple(_sizes(ast.FunctionDef, ast.AsyncFunctionDef))


def _sizes(*kinds: type[ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]) -> Iterator[Size]:
    for module, path in modules().items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, kinds):
                yield module, node.name, (node.end_lineno or 0) - node.lineno + 1


@pytest.mark.parametrize("module", sorted(modules()))
def test_a_module_is_short(module: str) -> None:
    lines = len(modules()[module].read_text().splitlines())
    assert lines <= MODULE_LINES, f"{module} has {lines} lines: give a noun of it its own"


def test_classes_are_short() -> None:
    assert [size for size in classes() if size[2] > TABLES.get(size[:2], CLASS_LINES)] == []


def test_functions_are_short() -> None:
    assert [size for size in functions() if size[2] > FUNCTION_LINES] == []
    assert median(size[2] for size in functions()) < MEDIAN_LINES


def test_what_is_called_a_table_is_larger_than_a_class_may_be() -> None:
    large = {size[:2] for size in classes() if size[2] > CLASS_LINES}
    assert TABLES.keys() - large == set()
