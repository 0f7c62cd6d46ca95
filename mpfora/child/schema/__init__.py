"""What a handler declares of its props, and the check of a task's props against it. Pure; standard library only.

A spec is a dataclass, a TypedDict or a pydantic model. `compile_schema` reads it once, in the zygote, and refuses what
JSON cannot hold or what is not understood here; `Schema.build` makes of the props of one task, in its child, the object
that the handler finds as `task.config`.

A field that the spec does not have is an error, for it may be a typing error; the names that are mpfora's own in every
task's props (task_settings.OWN_NAMES) are passed over where the spec has them not.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections import abc
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from mpfora.child.schema.pydantic_models import is_pydantic, pydantic_reader
from mpfora.child.schema.readers import (
    ANY,
    LISTS,
    MAPPINGS,
    SCALARS,
    BadSpec,
    Field,
    Problems,
    Reader,
    enum,
    list_of,
    literal,
    mapping_of,
    name_of,
    object_of,
    one_of,
    tuple_of,
)

#: so many problems of one task's props are reported
_TOLD = 5


class BadProps(ValueError):
    """A task's props are not what its handler needs. The text names each field, what was found and what is needed. The
    props of a task do not change, so that the task fails at once (mpfora.retry)."""


@dataclass(frozen=True, slots=True)
class Schema:
    """A compiled spec."""

    reader: Reader

    def build(self, props: Mapping[str, Any]) -> Any:
        """What the spec makes of a task's props. Raises BadProps, and whatever code of the spec's own (__post_init__)
        raises but for ValueError and TypeError."""
        problems: Problems = []
        try:
            built = self.reader.read(props, "props", problems)
        except RecursionError:
            raise BadProps("props: nested too deep") from None
        if problems:
            more = f"; and {len(problems) - _TOLD} more" if len(problems) > _TOLD else ""
            raise BadProps("; ".join(problems[:_TOLD]) + more)
        return built


def compile_schema(spec: Any) -> Schema:
    """Raises BadSpec."""
    compiler = _Compiler()
    if is_pydantic(spec):
        return Schema(pydantic_reader(spec, at_top=True))
    if isinstance(spec, type) and dataclasses.is_dataclass(spec):
        return Schema(compiler.dataclass(spec, at_top=True))
    if typing.is_typeddict(spec):
        return Schema(compiler.typed_dict(spec, at_top=True))
    raise BadSpec(f"{name_of(spec)} is not a spec of props: use a dataclass, a TypedDict or a pydantic model")


# -- compiling specs ---------------------------------------------------------------------------------------------------


class _Compiler:
    """Makes readers of types. A spec that holds itself is met while it is being made, and found among `_made`."""

    def __init__(self) -> None:
        self._made: dict[Any, Reader] = {}

    def dataclass(self, spec: Any, at_top: bool = False) -> Reader:
        if not at_top and spec in self._made:
            return self._made[spec]
        fields: dict[str, Field] = {}
        reader = Reader(f"an object ({spec.__name__})", object_of(fields, at_top, lambda values: spec(**values)))
        if not at_top:
            self._made[spec] = reader
        hints = _hints(spec)
        if initial := [name for name, hint in hints.items() if isinstance(hint, dataclasses.InitVar)]:
            raise BadSpec(f"{spec.__name__}.{initial[0]}: InitVar is not a type of props: make it a field")
        for field in dataclasses.fields(spec):
            if field.init:
                required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
                fields[field.name] = Field(self._field(spec, field.name, hints[field.name]), required)
        return reader

    def typed_dict(self, spec: Any, at_top: bool = False) -> Reader:
        if not at_top and spec in self._made:
            return self._made[spec]
        fields: dict[str, Field] = {}
        reader = Reader(f"an object ({spec.__name__})", object_of(fields, at_top, dict))
        if not at_top:
            self._made[spec] = reader
        for name, hint in _hints(spec).items():
            fields[name] = Field(self._field(spec, name, hint), _is_required(spec, name, hint))
        return reader

    def _field(self, spec: Any, name: str, hint: Any) -> Reader:
        try:
            return self.of(hint)
        except BadSpec as error:
            raise BadSpec(f"{spec.__name__}.{name}: {error}") from None

    def of(self, hint: Any) -> Reader:
        """The reader of a type. Raises BadSpec."""
        hint = _bare(hint)
        if isinstance(hint, abc.Hashable) and hint in SCALARS:
            return SCALARS[hint]
        origin, arguments = typing.get_origin(hint), typing.get_args(hint)
        if origin is typing.Literal:
            return literal(arguments)
        if origin in (typing.Union, types.UnionType):
            return one_of([self.of(argument) for argument in arguments])
        if is_pydantic(hint):
            return pydantic_reader(hint, at_top=False)
        if isinstance(hint, type) and origin is None:
            return self._of_class(hint)
        if typing.is_typeddict(hint):
            return self.typed_dict(hint)
        return self._of_container(hint, origin, arguments)

    def _of_class(self, hint: type) -> Reader:
        if dataclasses.is_dataclass(hint):
            return self.dataclass(hint)
        if typing.is_typeddict(hint):
            return self.typed_dict(hint)
        if issubclass(hint, Enum):
            return enum(hint)
        return self._of_container(hint, hint, ())

    def _of_container(self, hint: Any, origin: Any, arguments: tuple[Any, ...]) -> Reader:
        if origin is tuple and arguments and arguments[-1] is not Ellipsis:
            return tuple_of([self.of(argument) for argument in arguments])
        if origin is tuple:
            return list_of(self.of(arguments[0]) if arguments else ANY, tuple)
        if origin in LISTS:
            return list_of(self.of(arguments[0]) if arguments else ANY, LISTS[origin])
        if origin in MAPPINGS:
            if arguments and _bare(arguments[0]) not in (str, Any):
                raise BadSpec(f"{name_of(hint)}: the keys of a JSON object are texts, write dict[str, ...]")
            return mapping_of(self.of(arguments[1]) if arguments else ANY)
        raise BadSpec(f"{name_of(hint)} is not a type of props{_REMEDIES.get(hint, '') if _hashable(hint) else ''}")


_REMEDIES = {bytes: ": JSON has no bytes, use str (base64 or hex)", complex: ": use two floats"}


def _hashable(hint: Any) -> bool:
    return isinstance(hint, abc.Hashable)


def _bare(hint: Any) -> Any:
    """The type inside of Annotated, Required, NotRequired, ReadOnly, Final, NewType and aliases, which say nothing
    about the value."""
    while True:
        origin = typing.get_origin(hint)
        if origin is typing.Annotated or getattr(origin, "_name", "") in (
            "Required",
            "NotRequired",
            "ReadOnly",
            "Final",
        ):
            hint = typing.get_args(hint)[0]
        elif isinstance(hint, typing.NewType):
            hint = hint.__supertype__
        elif type(hint).__name__ == "TypeAliasType":
            hint = hint.__value__
        else:
            return hint


def _is_required(spec: Any, name: str, hint: Any) -> bool:
    """A TypedDict whose module has annotations as texts did not see Required and NotRequired in them."""
    while (origin := typing.get_origin(hint)) is not None:
        if origin in (typing.Required, typing.NotRequired):
            return origin is typing.Required
        if origin is not typing.Annotated and getattr(origin, "_name", "") != "ReadOnly":
            break
        hint = typing.get_args(hint)[0]
    return name in spec.__required_keys__


def _hints(spec: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(spec, include_extras=True)
    except Exception as error:  # noqa: BLE001 - annotations are code of the handler's
        raise BadSpec(f"{spec.__name__}: its annotations cannot be resolved: {error}") from None
