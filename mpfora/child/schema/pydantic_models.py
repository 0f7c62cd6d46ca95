"""Pydantic models as specs of props. Pydantic is not imported here: a handler's module that has a model has done so."""

from __future__ import annotations

import json
import sys
import typing
from collections.abc import Mapping
from typing import Any

from mpfora.child.schema.readers import BAD, BadSpec, Problems, Reader, below, shown
from mpfora.config.props import OWN_NAMES


def is_pydantic(spec: Any) -> bool:
    """A model or a dataclass of pydantic's; which is never imported here, since the handler's module has done so."""
    pydantic = sys.modules.get("pydantic")
    if pydantic is None or not isinstance(spec, type) or typing.get_origin(spec) is not None:
        return False
    return issubclass(spec, pydantic.BaseModel) or "__pydantic_validator__" in vars(spec)


def pydantic_reader(spec: Any, at_top: bool) -> Reader:
    """It validates in JSON mode, by its own rules; whether unknown fields are errors is the model's to say."""
    pydantic: Any = sys.modules["pydantic"]
    try:
        adapter = pydantic.TypeAdapter(spec)
        own = _pydantic_names(spec)
    except Exception as error:  # noqa: BLE001 - pydantic's own errors, and those of the model's annotations
        raise BadSpec(f"{spec.__name__}: pydantic refuses it: {error}") from None

    def read(value: Any, path: str, problems: Problems) -> Any:
        if at_top and isinstance(value, dict):
            value = {key: each for key, each in value.items() if key in own or key not in OWN_NAMES}
        try:
            return adapter.validate_json(json.dumps(value))
        except pydantic.ValidationError as error:
            problems.extend(_pydantic_problem(path, told) for told in error.errors(include_url=False))
            return BAD

    return Reader(f"an object ({spec.__name__})", read)


def _pydantic_names(spec: Any) -> set[str]:
    """The names under which a model's fields may stand in JSON."""
    names: set[str] = set()
    for name, field in getattr(spec, "__pydantic_fields__", {}).items():
        aliases = getattr(field, "alias", None), getattr(field, "validation_alias", None)
        names |= {name, *(alias for alias in aliases if isinstance(alias, str))}
    return names


def _pydantic_problem(path: str, told: Mapping[str, Any]) -> str:
    for step in told["loc"]:
        path = f"{path}[{step}]" if isinstance(step, int) else below(path, str(step))
    found = "" if told["type"] == "missing" else f", not {shown(told['input'])}"
    return f"{path}: {told['msg']}{found}"
