"""The options of `python -m mpfora.supervisor`: flags win, then the environment, then --config, then the default."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from typing import Any

import click

from mpfora.config.config_file import ConfigFileError, read_config_file
from mpfora.config.listen_address import ListenAddress, parse_listen_address
from mpfora.config.option_types import Has, Label, RetryFields
from mpfora.config.resources import parse_has
from mpfora.config.settings import Settings, SettingsError
from mpfora.linux.machine_resources import visible_gpus
from mpfora.model.needs import GPUS, amount_of
from mpfora.model.units import parse_duration, parse_size
from mpfora.retry import METAFORA, Retry, parse_retry

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


def listen_address(value: str | int | ListenAddress) -> ListenAddress:
    """A click type: [HOST:]PORT."""
    try:
        return value if isinstance(value, ListenAddress) else parse_listen_address(str(value))
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def read_config(ctx: click.Context, param: click.Parameter, path: str | None) -> None:
    """Make the --config file click's default map. Raises click.UsageError, which names the file and what is wrong in
    it."""
    if path is None:
        return
    names = frozenset(name for p in ctx.command.params if (name := p.name) not in (None, "config", "version", "help"))
    try:
        ctx.default_map = {**(ctx.default_map or {}), **read_config_file(path, names)}
    except ConfigFileError as error:
        raise click.UsageError(f"--config {error}") from error
    ctx.meta[CONFIG_PATH] = path


def place_of(error: SettingsError) -> str:
    """Where a setting that cannot hold was given, if that was not on the command line: the --config file or the
    environment's variable. Called inside of the click command."""
    ctx = click.get_current_context(silent=True)
    name = error.option.lstrip("-").replace("-", "_")
    param = next((p for p in ctx.command.params if p.name == name), None) if ctx is not None else None
    if ctx is None or param is None:
        return ""
    source = ctx.get_parameter_source(name)
    if source is click.core.ParameterSource.DEFAULT_MAP:
        return f"--config {ctx.meta[CONFIG_PATH]}: "
    return f"{param.envvar}: " if source is click.core.ParameterSource.ENVIRONMENT else ""


def explain(error: click.ClickException) -> str:
    """The message of a usage error. It names the file if the value stands there, and --help."""
    if isinstance(error, click.NoSuchOption):
        return f"{error.format_message().removesuffix('.')}; see python -m mpfora.supervisor --help"
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


def parse_retry_option(given: tuple[str | Mapping[str, Any], ...]) -> Retry:
    """FIELD=VALUE pairs over the default policy, or the name "metafora" first; or a table of the --config file. Raises
    SettingsError."""
    policy, fields, budgets = Retry(), dict[str, Any](), dict[str, Any]()
    for text in given:
        if isinstance(text, Mapping):
            fields |= text
            continue
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
    """The number of a text. A text that is not a number is refused where it is used."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def make_labels(pairs: tuple[tuple[str, str], ...]) -> dict[str, str]:
    """Raises SettingsError where a label is given twice, with two values."""
    labels: dict[str, str] = {}
    for key, value in pairs:
        if labels.setdefault(key, value) != value:
            raise SettingsError("--label", f"{key!r} is given twice, as {labels[key]!r} and {value!r}: give it once")
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
        help="How many tasks run at once; 0: no limit.",
    ),
    _option(
        "--lease-ttl",
        type=duration,
        default=15.0,
        show_default="15s",
        help="How long a dead machine keeps its tasks, and a node without etcd runs its own; at least 3 s.",
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
        "--log-dir",
        metavar="DIR",
        default=None,
        show_default="~/.local/state/mpfora/log",
        help="The folder that keeps what tasks print, for `mpfora logs`; none: nothing is kept.",
    ),
    _option(
        "--log-per-run",
        type=size,
        default=16 * 1024 * 1024,
        show_default="16MiB",
        help="The most that is kept of one run: its beginning and its end.",
    ),
    _option(
        "--log-total",
        type=size,
        default=None,
        show_default="2GiB, or 5 % of the disk",
        help="The most that is kept of all runs; the oldest that have ended go first.",
    ),
    _option(
        "--keep-logs",
        type=str,
        default=None,
        show_default="as --keep-finished",
        help="How long what ended runs have printed is kept; forever: as long as there is room.",
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
        "--import-timeout",
        type=duration,
        default=600.0,
        show_default="10m",
        help="How long importing the handlers may take, before the node gives up and says where it hangs.",
    ),
    _option(
        "--reload-on-change",
        is_flag=True,
        default=False,
        show_default=False,
        help="For development: import the handlers anew for new runs when one of their files has changed.",
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
        help="When a node comes back within this time, the balance waits as long for the next node to come back.",
    ),
    _option(
        "--label",
        type=Label(),
        metavar="K=V",
        multiple=True,
        help="A label of this node: tasks may ask for it. Repeatable.",
    ),
    _option(
        "--has",
        type=Has(),
        metavar="RESOURCE=AMOUNT",
        multiple=True,
        help="What tasks may need: gpus=2, cpus=16, memory=64GiB, or any name with a whole number. gpus, cpus and"
        " memory may be auto. Repeatable.",
    ),
    _option(
        "--pin",
        is_flag=True,
        default=False,
        show_default=False,
        help="Give each run that needs whole cores (--has cpus) cores that no other such run has.",
    ),
    _option(
        "--preempt",
        is_flag=True,
        default=False,
        show_default=False,
        help="Where a task of higher priority finds no room, the least urgent runs are asked to save and leave.",
    ),
    _option(
        "--retry",
        type=RetryFields(),
        metavar="FIELD=VALUE",
        multiple=True,
        help="The retry policy where neither task nor handler has one: max_errors, within, delay, factor, max_delay,"
        " jitter, budgets.CAUSE, retry_on, fail_on; or metafora. Repeatable; a [retry] table in --config.",
    ),
    _option(
        "--http",
        type=listen_address,
        metavar="[HOST:]PORT",
        default=None,
        show_default="off",
        help="Serve /livez, /readyz and /metrics there; without a host, to this machine alone. Needs mpfora[metrics].",
    ),
    _option("--log-format", type=click.Choice(["text", "json"]), default="text", help="The format of lines on stderr."),
    _option(
        "--log-level",
        type=click.Choice(["debug", "info", "warning", "error"], case_sensitive=False),
        default="info",
        help="The lowest level that is written.",
    ),
)


def _kept_for(text: str, option: str = "--keep-finished") -> float | None:
    """A duration, or the word "forever". Raises SettingsError."""
    try:
        return None if text == "forever" else parse_duration(text, option)
    except ValueError as error:
        raise SettingsError(option, f"{str(error).partition(': ')[2]}, or forever") from None


def make_settings(namespace: str, handlers: tuple[str, ...], options: Mapping[str, Any]) -> Settings:
    """Settings of parsed options. Raises SettingsError."""
    has, has_notes = parse_has(options["has"])
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
        log_dir=options["log_dir"],
        log_per_run=options["log_per_run"],
        log_total=options["log_total"],
        keep_logs_s=_kept_for(options["keep_logs"] or options["keep_finished"], "--keep-logs"),
        labels=make_labels(options["label"]),
        weight=options["weight"],
        http=options["http"],
        moves_per_minute=options["moves_per_minute"],
        rejoin_grace_s=options["rejoin_grace"],
        retry=parse_retry_option(options["retry"]),
        on_etcd_loss=options["on_etcd_loss"],
        import_timeout_s=options["import_timeout"],
        reload_on_change=options["reload_on_change"],
        has=has,
        has_notes=has_notes,
        gpus=(visible_gpus() or ()) if amount_of(has, GPUS) else (),
        pin=options["pin"],
        preempt=options["preempt"],
    )
