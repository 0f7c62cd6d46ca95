"""Click types for durations, times, labels and props. Their errors say what would be right."""

from __future__ import annotations

import codecs
from pathlib import Path
from typing import Any

import click

from mpfora.config.option_types import Label
from mpfora.model.units import parse_duration, parse_time
from mpfora.store.json_format import parse_object


class _Duration(click.ParamType):  # type: ignore[type-arg]  # generic in newer versions only
    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            return parse_duration(value, "duration")
        except ValueError:
            self.fail(f"{value!r} is not a duration: use seconds or a text like '90s', '10m', '4h'", param, ctx)


class _Time(click.ParamType):  # type: ignore[type-arg]  # generic in newer versions only
    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        try:
            return parse_time(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class _Props(click.ParamType):  # type: ignore[type-arg]  # generic in newer versions only
    name = "props"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, Any]:
        if isinstance(value, dict):
            return value
        try:
            text = Path(value[1:]).read_bytes().removeprefix(codecs.BOM_UTF8) if value.startswith("@") else value
            return parse_object(text, "props")
        except OSError as error:
            self.fail(f"{value[1:]}: {error.strerror}", param, ctx)
        except ValueError as error:
            self.fail(str(error), param, ctx)


DURATION = _Duration()
LABEL = Label()
TIME = _Time()
PROPS = _Props()
