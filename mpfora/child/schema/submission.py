"""What is declared for a handler's props, turned into the JSON that is submitted: the readers' way back. Pure."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping, Set
from datetime import datetime, timedelta
from enum import Enum
from functools import lru_cache
from pathlib import PurePath
from typing import Any

from mpfora.child.schema import BadProps, Schema, compile_schema
from mpfora.child.schema.pydantic_models import is_pydantic
from mpfora.child.schema.readers import BadSpec, name_of
from mpfora.errors import InvalidTask
from mpfora.model.units import format_time, shown


@lru_cache(maxsize=256)
def _schema(spec: Any) -> Schema:
    return compile_schema(spec)


def checked_props(spec: Any, props: Any) -> dict[str, Any]:
    """The props as JSON values, after the check that the task's process makes. props: what was declared, or a mapping
    that fits. Raises InvalidTask."""
    if isinstance(spec, type) and not isinstance(props, Mapping) and not _is_one(props, spec):
        raise InvalidTask(f"props: {name_of(spec)} is needed, not {shown(props)}")
    try:
        values = to_json(props)
        _schema(spec).build(json.loads(json.dumps(values, allow_nan=False)))
    except (BadProps, BadSpec, TypeError, ValueError, RecursionError) as error:
        raise InvalidTask(f"{error}" if isinstance(error, BadProps) else f"props: {error}") from None
    return dict(values)


def _is_one(props: Any, spec: type) -> bool:
    try:
        return isinstance(props, spec)
    except TypeError:  # a TypedDict, whose values are mappings
        return False


def to_json(value: Any) -> Any:
    """What the readers build the same of again. Raises TypeError for what JSON cannot hold."""
    if value is None or (isinstance(value, bool | int | float | str) and not isinstance(value, Enum)):
        return value
    if isinstance(value, Enum):
        return to_json(value.value)
    if is_pydantic(type(value)):
        return _dumped(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_json(getattr(value, field.name)) for field in dataclasses.fields(value) if field.init}
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise TypeError(f"{value}: a time needs a zone, such as tzinfo=timezone.utc")
        return format_time(value.timestamp())
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, Mapping):
        return {_name(key): to_json(each) for key, each in value.items()}
    if isinstance(value, Set):
        return sorted(map(to_json, value), key=lambda each: (str(type(each)), str(each)))
    if isinstance(value, list | tuple):
        return [to_json(each) for each in value]
    raise TypeError(f"{shown(value)} is not JSON, nor what a declaration of props may have")


def _name(key: Any) -> str:
    if isinstance(key, str):
        return key
    raise TypeError(f"{shown(key)}: the names of a JSON object are texts")


def _dumped(value: Any) -> Any:
    pydantic: Any = sys.modules["pydantic"]
    return pydantic.TypeAdapter(type(value)).dump_python(value, mode="json", by_alias=True)
