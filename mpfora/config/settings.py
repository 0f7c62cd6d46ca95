"""Settings of a node, frozen, and the relations between them. Pure: others read flags, environment and files."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field

from mpfora.config.listen_address import ListenAddress
from mpfora.errors import MpforaError
from mpfora.model.needs import CPUS, GPUS, NOTHING, Needs, amount_of, format_amount
from mpfora.model.task import MOST_WEIGHT, InvalidName, check_name
from mpfora.model.units import MOST_BYTES, MOST_S, shown
from mpfora.retry import Retry
from mpfora.store.keys import clean_namespace

#: variables of a node's environment that neither its tasks nor its other processes may have
SECRETS = ("MPFORA_ETCD_PASSWORD",)

#: the longest lease: a dead node keeps its tasks for as long
MOST_TTL_S = 86_400.0
#: the largest --max-tasks and --moves-per-minute
MOST_COUNT = 1_000_000


#: how long states, results and histories of finished tasks are kept by default
KEEP_FINISHED_S = 7 * 86_400.0


class SettingsError(MpforaError, ValueError):
    """A setting that cannot hold; `option` is its name as the user types it, e.g. "--lease-ttl"."""

    def __init__(self, option: str, text: str) -> None:
        super().__init__(f"{option}: {text}")
        self.option = option


def check_namespace(name: str, what: str) -> str:
    """The name of a namespace, checked. Raises ValueError naming `what`, also for a newline or a blank at an end: these
    come by accident, and would name another namespace."""
    if not name.strip("/ \t\r\n"):
        raise ValueError(f"{what}: must not be empty")
    if name != name.strip() or not name.isprintable():
        raise ValueError(f"{what}: {shown(name)}: leave out the blanks around it, and newlines and control characters")
    try:
        clean_namespace(name)
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from None
    return name


#: what is kept of a run's output at least
LEAST_LOG = 64 * 1024


@dataclass(frozen=True, slots=True)
class EtcdSettings:
    """How to reach etcd. endpoints are "host:port"; the paths are of PEM files; user and password go together. quota:
    how many bytes an etcd may have that does not tell it (before 3.6); None: its default."""

    endpoints: tuple[str, ...] = ()
    cacert: str | None = None
    cert: str | None = None
    key: str | None = None
    user: str | None = None
    password: str | None = None
    quota: int | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything a node is told. Durations in seconds, sizes in bytes.

    handlers   as typed: "primes:count" or "train=jobs.train:run";  max_tasks  0: no limit
    keep_finished_s how long states, results and histories of finished tasks are kept; None: for ever
    save_every_s    between two writes of a running task's checkpoint at least; what is saved more often waits, and the
               last is always written
    claim_grace_s   how long a claim that vanished uncleanly is left alone, since its process may be dying
    weight     its share of the tasks beside other nodes'; None: by max_tasks
    moves_per_minute   the most tasks that are given to other nodes for the balance within a minute
    rejoin_grace_s  a node that comes back within this time is restarted with others, one after another: the balance
               waits so long for the next
    retry      the policy where a handler has none
    on_etcd_loss
               "fence": what runs is dead before its claim can pass to another; "run": it goes on while etcd cannot be
               reached, and ends when etcd says that its claim is another's. For tasks that may overlap
    log_dir    the folder of what tasks print, below which each namespace and node has its own; None: of the user's
               state; "none": nothing is kept
    log_per_run, log_total  the most bytes that are kept of a run, and of all; log_total None: 2 GiB, or 5 % of the
               disk where that is less
    keep_logs_s     how long what ended runs have printed is kept; None: as long as there is room
    import_timeout_s  how long the zygote may import the handlers;  reload_on_change  it imports anew what has changed
    has        the resources that its tasks share;  has_notes  what is to be said of them when the node starts
    gpus       what CUDA calls the node's GPUs, in their order, where that is not their numbers
    pin        a run that was given whole cores runs on these alone, and no other such run does
    preempt    runs of less urgent tasks are asked to leave where a more urgent one finds no room
    http       where /livez, /readyz and /metrics are served; None: nowhere
    """

    handlers: tuple[str, ...] = ()
    name: str = field(default_factory=socket.gethostname)
    namespace: str = "mpfora"
    max_tasks: int = field(default_factory=lambda: os.cpu_count() or 1)
    lease_ttl_s: float = 15.0
    stop_timeout_s: float = 10.0
    stall_timeout_s: float | None = None
    stall_by: str = "beats"
    memory_limit: int | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    keep_finished_s: float | None = KEEP_FINISHED_S
    save_every_s: float = 1.0
    claim_grace_s: float = 1.0
    weight: float | None = None
    moves_per_minute: int = 600
    rejoin_grace_s: float = 20.0
    on_etcd_loss: str = "fence"
    import_timeout_s: float = 600.0
    reload_on_change: bool = False
    log_dir: str | None = None
    log_per_run: int = 16 * 1024 * 1024
    log_total: int | None = None
    keep_logs_s: float | None = KEEP_FINISHED_S
    retry: Retry = Retry()
    http: ListenAddress | None = None
    has: Needs = NOTHING
    has_notes: tuple[str, ...] = ()
    gpus: tuple[str, ...] = ()
    pin: bool = False
    preempt: bool = False

    def __post_init__(self) -> None:
        try:
            check_name(self.name, "node name")
        except InvalidName as error:
            raise SettingsError("--name", str(error)) from error
        try:
            check_namespace(self.namespace, "--namespace")
        except ValueError as error:
            raise SettingsError("--namespace", str(error).removeprefix("--namespace: ")) from None
        self._check_durations()
        _check_counts(self)
        _check_resources(self)
        _check_lease(self)
        if self.stop_timeout_s <= 0:
            raise SettingsError("--stop-timeout", f"{self.stop_timeout_s:g} s: must be over 0")
        if self.stall_timeout_s is not None and self.stall_timeout_s <= 0:
            raise SettingsError("--stall-timeout", f"{self.stall_timeout_s:g} s: must be over 0")
        if self.import_timeout_s <= 0:
            raise SettingsError("--import-timeout", f"{self.import_timeout_s:g} s: must be over 0")
        if self.stall_by not in ("beats", "cpu"):
            raise SettingsError("--stall-by", f"{self.stall_by!r}: use 'beats' or 'cpu'")
        if self.on_etcd_loss not in ("fence", "run"):
            raise SettingsError("--on-etcd-loss", f"{self.on_etcd_loss!r}: use 'fence' or 'run'")
        if self.weight is not None and not 0 < self.weight <= MOST_WEIGHT:
            raise SettingsError("--weight", f"{shown(self.weight)}: over 0 and at most {MOST_WEIGHT:g}")

    def _check_durations(self) -> None:
        """Each duration must be a number of seconds that clocks can hold. Whether it may be 0 is checked later."""
        for option, seconds in (
            ("--lease-ttl", self.lease_ttl_s),
            ("--stop-timeout", self.stop_timeout_s),
            ("--stall-timeout", self.stall_timeout_s),
            ("--save-every", self.save_every_s),
            ("--keep-finished", self.keep_finished_s),
            ("--keep-logs", self.keep_logs_s),
            ("--rejoin-grace", self.rejoin_grace_s),
            ("--import-timeout", self.import_timeout_s),
            ("claim_grace_s", self.claim_grace_s),
        ):
            if seconds is None:
                continue
            if isinstance(seconds, bool) or not isinstance(seconds, int | float) or seconds != seconds:
                raise SettingsError(option, f"{shown(seconds)} is not a number of seconds")
            if abs(seconds) > MOST_S:
                raise SettingsError(
                    option, f"{shown(seconds)} is not a number of seconds up to {MOST_S:.0f} (100 years)"
                )
            if seconds < 0:
                raise SettingsError(option, f"{seconds:g} s: must be 0 or more")

    @property
    def cores(self) -> tuple[int, ...]:
        """Those that runs are pinned to; (): they are not."""
        return tuple(sorted(os.sched_getaffinity(0))) if self.pin else ()

    @property
    def renew_every_s(self) -> float:
        """The time between two renewals of the lease."""
        return self.lease_ttl_s / 5

    @property
    def ask_before_s(self) -> float:
        """How long before the lease's end, without a renewal, handlers are asked to stop and save.

        ttl / 3, but at least half a second more than the margin: with the shortest lease the margin is a third of
        it."""
        return max(self.lease_ttl_s / 3, self.margin_s + 0.5)

    @property
    def margin_s(self) -> float:
        """How long before the lease's end every process is killed."""
        return max(1.0, 0.05 * self.lease_ttl_s)

    @property
    def fences(self) -> bool:
        """Whether processes end with the lease."""
        return self.on_etcd_loss == "fence"

    @property
    def capacity(self) -> int | None:
        return self.max_tasks or None


def _check_lease(settings: Settings) -> None:
    if settings.lease_ttl_s < 3:
        raise SettingsError(
            "--lease-ttl",
            f"{settings.lease_ttl_s:g} s: at least 3 s: it holds two renewals, then the asking to stop"
            f" ({settings.ask_before_s:g} s before its end), then the killing ({settings.margin_s:g} s before)",
        )
    if settings.lease_ttl_s > MOST_TTL_S:
        raise SettingsError(
            "--lease-ttl",
            f"{settings.lease_ttl_s:g} s: at most {MOST_TTL_S / 3600:.0f}h: so long a dead machine keeps its tasks",
        )


def _check_counts(settings: Settings) -> None:
    for option, count, least, most in (
        ("--max-tasks", settings.max_tasks, 0, MOST_COUNT),
        ("--moves-per-minute", settings.moves_per_minute, 1, MOST_COUNT),
        ("--memory-limit", settings.memory_limit, 1, MOST_BYTES),
        ("--log-per-run", settings.log_per_run, LEAST_LOG, MOST_BYTES),
        ("--log-total", settings.log_total, LEAST_LOG, MOST_BYTES),
    ):
        if count is None and option in ("--memory-limit", "--log-total"):
            continue
        if isinstance(count, bool) or not isinstance(count, int) or not least <= count <= most:
            what = "0 (no limit) or more" if least == 0 else "must be over 0" if least == 1 else f"{least} or more"
            raise SettingsError(option, f"{shown(count)}: a whole number, {what}, and at most {most}")


def _check_resources(settings: Settings) -> None:
    count = amount_of(settings.has, GPUS)
    if settings.gpus and count > len(settings.gpus):
        raise SettingsError(
            "--has",
            f"gpus={count}, but the environment lets this node use {len(settings.gpus)}: {', '.join(settings.gpus)}",
        )
    if settings.pin and not amount_of(settings.has, CPUS):
        raise SettingsError("--pin", "there are no cores to give to runs: say --has cpus=N as well")
    cores = len(os.sched_getaffinity(0))
    if settings.pin and amount_of(settings.has, CPUS) > 1000 * cores:
        text = format_amount(CPUS, amount_of(settings.has, CPUS))
        raise SettingsError("--pin", f"--has cpus={text} are more cores than the {cores} that this node may run on")
