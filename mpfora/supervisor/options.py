"""The options of `python -m mpfora.supervisor`: flags win, then the environment, then --config, then the default."""

from __future__ import annotations

import os
import socket
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from mpfora.config import Settings, SettingsError
from mpfora.retry import METAFORA, Retry, parse_retry
from mpfora.units import parse_duration, parse_size

#: where click's context keeps the path of the --config file that was read
CONFIG_PATH = "mpfora.config"


def duration(value: float | str) -> float:
    """A click type: seconds, or a text like 90s, 10m, 4h."""
    try:
        return parse_duration(value, "")
    except ValueError as error:
        raise click.BadParameter(str(error).removeprefix(": ")) from error


def size(value: int | str) -> int:
    """A click type: bytes, or a text like 512MiB, 2GiB."""
    try:
        return parse_size(value, "")
    except ValueError as error:
        raise click.BadParameter(str(error).removeprefix(": ")) from error


def read_config(ctx: click.Context, param: click.Parameter, path: str | None) -> None:
    """The --config file becomes click's default map. Raises click.UsageError naming the file and what is wrong in
    it."""
    if path is None:
        return
    try:
        values = tomllib.loads(Path(path).read_text())
    except OSError as error:
        raise click.UsageError(f"--config {path}: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise click.UsageError(f"--config {path}: not TOML: {error}") from error
    known = {name: p for p in ctx.command.params if (name := p.name) is not None and name not in ("config", "version")}
    defaults: dict[str, Any] = {}
    for key, value in values.items():
        name = key.replace("-", "_")
        if name not in known:
            choices = ", ".join(sorted(n.replace("_", "-") for n in known))
            raise click.UsageError(f"--config {path}: unknown setting {key!r}; there are: {choices}")
        defaults[name] = _texts(value) if known[name].multiple or known[name].nargs == -1 else _text(value)
        if defaults[name] is None:
            raise click.UsageError(
                f"--config {path}: --{name.replace('_', '-')}: {value!r} is none of the values that it takes"
            )
    ctx.default_map = {**(ctx.default_map or {}), **defaults}
    ctx.meta[CONFIG_PATH] = path


def _text(value: object) -> str | int | float | None:
    """A value of the file as its flag takes it; None if it cannot."""
    return value if isinstance(value, str | int | float) and not isinstance(value, bool) else None


def _texts(value: object) -> list[str] | None:
    """As `_text`, for a flag that is repeatable."""
    texts = _pairs(value) if isinstance(value, Mapping) else [value] if isinstance(value, str) else value
    return texts if isinstance(texts, list) and all(isinstance(text, str) for text in texts) else None


def explain(error: click.ClickException) -> str:
    """Its message, which names the file where the value stands there, and --help."""
    if isinstance(error, click.NoSuchOption):
        return f"{error.format_message().removesuffix('.')} (see python -m mpfora.supervisor --help)"
    if isinstance(error, click.BadParameter) and (place := _place_in_file(error)):
        return f"{place}: {error.message}"
    return error.format_message()


def _place_in_file(error: click.BadParameter) -> str:
    """The file and the setting in it, if that is where the value comes from."""
    name = error.param.name if error.param is not None else None
    if error.ctx is None or name is None or CONFIG_PATH not in error.ctx.meta:
        return ""
    is_there = error.ctx.get_parameter_source(name) is click.core.ParameterSource.DEFAULT_MAP
    return f"--config {error.ctx.meta[CONFIG_PATH]}: --{name.replace('_', '-')}" if is_there else ""


def _pairs(table: Mapping[str, Any], prefix: str = "") -> list[str]:
    """A TOML table as the KEY=VALUE texts that the flag of its name takes."""
    pairs: list[str] = []
    for key, value in table.items():
        if isinstance(value, Mapping):
            pairs += _pairs(value, f"{prefix}{key}.")
        else:
            pairs.append(f"{prefix}{key}={','.join(map(str, value)) if isinstance(value, list) else value}")
    return pairs


def parse_retry_option(texts: tuple[str, ...]) -> Retry:
    """FIELD=VALUE pairs over the default policy, or the name "metafora" first. Raises SettingsError."""
    policy, fields, budgets = Retry(), dict[str, Any](), dict[str, Any]()
    for text in texts:
        key, equals, value = text.partition("=")
        field = key.strip().replace("-", "_")
        if text == "metafora":
            policy = METAFORA
        elif not equals:
            raise SettingsError("--retry", f"{text!r}: write FIELD=VALUE, or metafora")
        elif field.startswith("budgets."):
            budgets[field.removeprefix("budgets.")] = _number(value)
        elif field in ("retry_on", "fail_on"):
            fields[field] = [name.strip() for name in value.split(",") if name.strip()]
        else:
            fields[field] = value if field in ("within", "delay", "max_delay") else _number(value)
    try:
        return parse_retry(fields | ({"budgets": budgets} if budgets else {}), policy, "retry")
    except ValueError as error:
        raise SettingsError("--retry", str(error).removeprefix("retry.")) from None


def _number(text: str) -> int | float | str:
    """A number where the text is one; what is none is refused where it is used."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def parse_labels(texts: tuple[str, ...]) -> dict[str, str]:
    """K=V pairs. Raises SettingsError."""
    labels: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise SettingsError("--label", f"{text!r}: write KEY=VALUE")
        labels[key] = value
    return labels


def node_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the node's own options to a click command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def _option(flag: str, **kwargs: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    variable = "MPFORA_" + flag.lstrip("-").replace("-", "_").upper()
    kwargs.setdefault("show_default", "default" in kwargs)
    return click.option(flag, envvar=variable, show_envvar=True, **kwargs)


_OPTIONS = (
    click.option(
        "--config",
        metavar="FILE",
        envvar="MPFORA_CONFIG",
        is_eager=True,
        expose_value=False,
        callback=read_config,
        show_envvar=True,
        help="The same names in TOML (handlers = [...], max-tasks = 4, ...); flags and environment win.",
    ),
    _option(
        "--name", metavar="NODE", default=socket.gethostname, show_default="host name", help="Unique in the namespace."
    ),
    _option(
        "--max-tasks",
        type=int,
        default=lambda: os.cpu_count() or 1,
        show_default="number of CPUs",
        help="Tasks run at once; 0: no limit.",
    ),
    _option(
        "--lease-ttl",
        type=duration,
        default=15.0,
        show_default="15s",
        help="How long a dead machine keeps its tasks, and etcd may be away before they are stopped; at least 3 s.",
    ),
    _option(
        "--stop-timeout",
        type=duration,
        default=10.0,
        show_default="10s",
        help="A task that was asked to stop is killed after this.",
    ),
    _option(
        "--stall-timeout",
        type=duration,
        default=None,
        show_default="off",
        help="A task without a sign of life for so long is killed.",
    ),
    _option(
        "--stall-by",
        type=click.Choice(["beats", "cpu"]),
        default="beats",
        help="What counts as life for --stall-timeout: beats, or any CPU time of the task's process tree.",
    ),
    _option(
        "--keep-finished",
        type=str,
        default="7d",
        show_default="7d",
        help="How long states, results and histories of finished tasks are kept; forever: until they are purged.",
    ),
    _option(
        "--save-every",
        type=duration,
        default=1.0,
        show_default="1s",
        help="Checkpoints that a running task saves more often than that are written together: the last of them.",
    ),
    _option(
        "--memory-limit",
        type=size,
        default=None,
        show_default="off",
        help="A task whose process tree uses more is killed; e.g. 2GiB.",
    ),
    _option(
        "--on-etcd-loss",
        type=click.Choice(["fence", "run"]),
        default="fence",
        help="When etcd cannot be reached: tasks are dead before others may run them; or go on, and may overlap.",
    ),
    _option(
        "--balancer",
        metavar="NAME",
        default="fair",
        help="fair, cost, resource, sleep, none, or module:attribute; parameters after commas, as in resource,of=cpu.",
    ),
    _option(
        "--weight",
        type=float,
        default=None,
        show_default="by --max-tasks",
        help="This node's share of the tasks beside other nodes': with 2 it gets twice as many as with 1.",
    ),
    _option(
        "--moves-per-minute",
        type=int,
        default=600,
        help="The most tasks that this node gives to others for the balance within a minute.",
    ),
    _option(
        "--rejoin-grace",
        type=duration,
        default=20.0,
        show_default="20s",
        help="After a node came back that was away no longer than this, the balance waits so long for the next one.",
    ),
    _option("--label", metavar="K=V", multiple=True, help="Published with the node; tasks may ask for it. Repeatable."),
    _option(
        "--retry",
        metavar="FIELD=VALUE",
        multiple=True,
        help="The retry policy where neither task nor handler has one: max_errors, within, delay, factor, max_delay,"
        " jitter, budgets.CAUSE, retry_on, fail_on; or metafora. Repeatable; a [retry] table in --config.",
    ),
    _option("--log-format", type=click.Choice(["text", "json"]), default="text", help="Of the lines on stderr."),
    _option(
        "--log-level",
        type=click.Choice(["debug", "info", "warning", "error"], case_sensitive=False),
        default="info",
        help="The least level that is written.",
    ),
)


def _kept_for(text: str) -> float | None:
    """A duration, or the word "forever". Raises SettingsError."""
    try:
        return None if text == "forever" else parse_duration(text, "--keep-finished")
    except ValueError as error:
        raise SettingsError("--keep-finished", f"{str(error).partition(': ')[2]}, or forever") from None


def make_settings(namespace: str, handlers: tuple[str, ...], options: Mapping[str, Any]) -> Settings:
    """Settings of parsed options. Raises SettingsError."""
    return Settings(
        handlers=handlers,
        name=options["name"],
        namespace=namespace,
        max_tasks=options["max_tasks"],
        lease_ttl_s=options["lease_ttl"],
        stop_timeout_s=options["stop_timeout"],
        stall_timeout_s=options["stall_timeout"],
        stall_by=options["stall_by"],
        memory_limit=options["memory_limit"],
        save_every_s=options["save_every"],
        keep_finished_s=_kept_for(options["keep_finished"]),
        labels=parse_labels(options["label"]),
        weight=options["weight"],
        moves_per_minute=options["moves_per_minute"],
        rejoin_grace_s=options["rejoin_grace"],
        retry=parse_retry_option(options["retry"]),
        on_etcd_loss=options["on_etcd_loss"],
    )
