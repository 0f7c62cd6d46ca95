"""Tasks of handlers that declare their props: what is declared becomes the props that are submitted."""

from __future__ import annotations

from typing import Any

from mpfora.errors import BadValue
from mpfora.handlers import DeclaredSubmit
from mpfora.model.units import shown


def declaration_of(handler: Any) -> DeclaredSubmit:
    """Of a handler that declares its props. Raises BadValue."""
    submit = getattr(handler, "submit", None)
    if isinstance(submit, DeclaredSubmit):
        return submit
    raise BadValue(
        f"handler: its name is needed, or a handler that declares its props (@mpfora.handler(props=...)), not"
        f" {shown(handler)}"
    )


def handler_name(declared: DeclaredSubmit) -> str:
    """What nodes call it that were started with the handler's own name, "jobs:train". Raises HandlerSpecError."""
    from mpfora.config.handler_spec import spec_of

    return spec_of(declared.target).name


def props_of(declared: DeclaredSubmit, props: Any) -> dict[str, Any]:
    """The props as JSON values, after the check that the task's process makes. Raises InvalidTask."""
    from mpfora.child.schema.submission import checked_props  # who submits plain props needs none of it

    return checked_props(declared.spec, props)
