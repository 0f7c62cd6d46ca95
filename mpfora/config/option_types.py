"""The kinds of a node's options whose values are pairs: labels, resources, fields of a retry policy."""

from __future__ import annotations

import re
from typing import Any

import click

from mpfora.model.units import shown


class Label(click.ParamType):  # type: ignore[type-arg]  # generic in newer versions only
    """KEY=VALUE as a pair. The environment may have several, with blanks or commas between."""

    name = "label"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        key, equals, label = value.partition("=")
        if not key.strip() or not equals:
            self.fail(f"{shown(value)}: write KEY=VALUE", param, ctx)
        if (also := label.partition(",")[2].partition("="))[1]:
            self.fail(
                f"{shown(value)}: is {also[0]!r} a second label? Give --label once for each; a value with a comma"
                " stands in a [label] table of --config",
                param,
                ctx,
            )
        return key.strip(), label.strip()

    def split_envvar_value(self, rv: str) -> list[str]:
        return [part for part in re.split(r"[\s,]+", rv) if part]


class Has(click.ParamType):  # type: ignore[type-arg]  # generic in newer versions only
    """RESOURCE=AMOUNT as a pair. The environment may have several, with blanks or commas between."""

    name = "has"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Any]:
        if isinstance(value, tuple):
            return value
        name, equals, amount = value.partition("=")
        if not name.strip() or not equals or not amount.strip():
            self.fail(f"{shown(value)}: write RESOURCE=AMOUNT, like gpus=2, cpus=16 or memory=64GiB", param, ctx)
        return name.strip(), amount.strip()

    def split_envvar_value(self, rv: str) -> list[str]:
        return [part for part in re.split(r"[\s,]+", rv) if part]


class RetryFields(click.ParamType):  # type: ignore[type-arg]  # generic in newer versions only
    """FIELD=VALUE, or a table of the --config file."""

    name = "retry"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value
