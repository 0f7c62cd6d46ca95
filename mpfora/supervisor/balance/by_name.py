"""Balancers by name, as `--balancer` gives them: NAME or module:attribute, with parameters after commas.

fair
cost
resource,of=memory,claim_below=0.8,release_above=0.9
mine:ByData,strict=true
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from mpfora.config.settings import SettingsError
from mpfora.store.json_format import parse_json
from mpfora.supervisor.balance.balancer import Balancer, CostBalancer, FairBalancer, NoBalancer
from mpfora.supervisor.balance.resource import ResourceBalancer


class SleepBalancer(NoBalancer):
    """Metafora's by this name: the node with the least load claims first, and nothing ever moves. There each node
    sleeps before a claim, the longer the more it has; here every claim goes to the least loaded anyway."""

    name = "sleep"


BALANCERS: Mapping[str, Callable[..., Balancer]] = {
    "fair": FairBalancer,
    "cost": CostBalancer,
    "resource": ResourceBalancer,
    "sleep": SleepBalancer,
    "none": NoBalancer,
}


def make_balancer(text: str) -> Balancer:
    """The balancer that `text` asks for. Raises SettingsError, naming what is wrong and what would be right."""
    name, *parameters = text.split(",")
    arguments = dict(_parameter(text, parameter) for parameter in parameters)
    maker = BALANCERS.get(name) or _found(text, name)
    if isinstance(maker, Balancer):
        if arguments:
            raise SettingsError("--balancer", f"{text!r}: {name} is a balancer, made already: it takes no parameters")
        return maker
    try:
        balancer = maker(**arguments)
    except Exception as error:
        raise SettingsError("--balancer", f"{text!r}: {type(error).__name__}: {error}") from error
    if not isinstance(balancer, Balancer):
        raise SettingsError("--balancer", f"{text!r} gives {type(balancer).__name__}, which is not an mpfora.Balancer")
    return balancer


def _parameter(text: str, parameter: str) -> tuple[str, Any]:
    """NAME=VALUE; a value that is JSON (a number, true) is that, any other is a text."""
    name, equals, value = parameter.partition("=")
    name = name.strip().replace("-", "_")
    if not equals or not name.isidentifier():
        raise SettingsError("--balancer", f"{text!r}: parameters are NAME=VALUE, with commas between")
    try:
        return name, parse_json(value, name)
    except ValueError:
        return name, value


def _found(text: str, name: str) -> Any:
    module, colon, attribute = name.partition(":")
    if not colon:
        raise SettingsError("--balancer", f"{text!r}: use {', '.join(BALANCERS)} or module:attribute")
    with suppress(OSError):  # the folder is gone: the module may stand elsewhere
        if (folder := os.getcwd()) not in sys.path:
            sys.path.insert(0, folder)
    try:
        return getattr(importlib.import_module(module), attribute)
    except Exception as error:
        raise SettingsError("--balancer", f"{text!r}: {type(error).__name__}: {error}") from error
