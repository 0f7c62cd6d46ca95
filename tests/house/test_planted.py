"""Planted faults replace functions by name. Each name must exist, and what is planted must fit: else a renaming would
leave a plant without effect, or let it fail by itself, and its test would prove nothing."""

from __future__ import annotations

import ast
import inspect
import json
import math
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from functools import _lru_cache_wrapper, cache
from pathlib import Path
from types import FunctionType
from typing import Any, NamedTuple
from unittest import mock

import planted_values
import pytest
from places import ROOT

from tests.faults import plants as of_the_nemesis
from tests.hostile import plants as of_the_hostile
from tests.sim import planted as of_the_simulation

MODULES = (of_the_simulation, of_the_nemesis, of_the_hostile, planted_values)


class Row(NamedTuple):
    """A plant puts `value` in the place of `name` in a module or class."""

    plant: str
    where: Any
    name: str
    value: Any


@cache
def rows() -> tuple[Row, ...]:
    """Of all plants that there are."""
    return tuple(_rows())


def _rows() -> Iterator[Row]:
    for fault, (make, _, _) in of_the_simulation.FAULTS.items():
        yield from (Row(fault, *patch) for patch in make())
    for guard, make in planted_values.GUARDS.items():
        yield from (Row(guard, *patch) for patch in make())
    for module in (of_the_nemesis, of_the_hostile):
        for name, plant in module.PLANTS.items():
            with mock.patch.object(module, "replace_in") as seen:
                plant.in_supervisor()
                plant.in_zygote()
            yield from (Row(name, *call.args) for call in seen.call_args_list)


def label(row: Row) -> str:
    return f"{row.plant}-{row.where.__name__}.{row.name}"


def test_all_kinds_of_plants_are_looked_at() -> None:
    plants = {row.plant for row in rows()}
    assert {"late_deadline", "times_of_any_size", "grace", "orphans"} <= plants
    assert len(plants) > 60


@pytest.mark.parametrize("row", rows(), ids=label)
def test_what_is_replaced_is_there(row: Row) -> None:
    assert row.name in vars(row.where), f"{row.where.__name__} has no {row.name} of its own"


@pytest.mark.parametrize("row", rows(), ids=label)
def test_what_is_planted_takes_what_the_real_one_takes(row: Row) -> None:
    real = vars(row.where).get(row.name)
    if not (isinstance(real, FunctionType) and isinstance(row.value, FunctionType)):
        return
    given = inspect.signature(real).parameters.values()
    positional = [one.name for one in given if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    keywords = {one.name: None for one in given if one.kind is one.KEYWORD_ONLY}
    inspect.signature(row.value).bind(*positional, **keywords)


@cache
def defined() -> frozenset[str]:
    """Every name that the package, the simulation and the plants' kin define or assign."""
    found: set[str] = set()
    for path in [*ROOT.glob("mpfora/**/*.py"), *ROOT.glob("tests/sim/*.py"), *ROOT.glob("tests/support/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                    found.add(name)
                case ast.Attribute(attr=name, ctx=ast.Store()) | ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name):
                    found.add(name)
                case ast.alias(name=name, asname=other):
                    found.add(other or name.rpartition(".")[2])
    return frozenset(found)


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_the_attributes_that_plants_use_are_somebody_s(module: Any) -> None:
    """A plant that asks for what nothing has any more fails by itself, and is seen for another reason than its own."""
    used = {node.attr for node in ast.walk(ast.parse(inspect.getsource(module))) if isinstance(node, ast.Attribute)}
    of_python = (dict, str, list, Path, sys, time, datetime, math, json, property, _lru_cache_wrapper, Row)
    assert {name for name in used - defined() if not any(hasattr(one, name) for one in of_python)} == set()
