"""A node's settings, frozen, and the relations between them. Pure: whoever reads flags, environment and files builds
these."""

from __future__ import annotations

import math
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field

from mpfora.model import InvalidName, check_name
from mpfora.retry import Retry

#: the most that a node may weigh
MOST_WEIGHT = 1e9


class SettingsError(ValueError):
    """A setting that cannot hold; `option` is its name as the user types it, e.g. "--lease-ttl"."""

    def __init__(self, option: str, text: str) -> None:
        super().__init__(f"{option}: {text}")
        self.option = option


@dataclass(frozen=True, slots=True)
class EtcdSettings:
    """How to reach etcd. endpoints are "host:port"; the paths are of PEM files; user and password go together."""

    endpoints: tuple[str, ...] = ()
    cacert: str | None = None
    cert: str | None = None
    key: str | None = None
    user: str | None = None
    password: str | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything a node is told. Durations in seconds, sizes in bytes.

    handlers   as typed: "primes:count" or "train=jobs.train:run"
    max_tasks  0: no limit
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
    keep_finished_s: float | None = 7 * 86_400.0
    save_every_s: float = 1.0
    claim_grace_s: float = 1.0
    weight: float | None = None
    moves_per_minute: int = 600
    rejoin_grace_s: float = 20.0
    on_etcd_loss: str = "fence"
    retry: Retry = Retry()

    def __post_init__(self) -> None:
        try:
            check_name(self.name, "node name")
        except InvalidName as error:
            raise SettingsError("--name", str(error)) from error
        if not self.namespace.strip("/ "):
            raise SettingsError("--namespace", "must not be empty")
        for option, seconds in (
            ("--lease-ttl", self.lease_ttl_s),
            ("--stop-timeout", self.stop_timeout_s),
            ("--stall-timeout", self.stall_timeout_s),
            ("--save-every", self.save_every_s),
            ("--keep-finished", self.keep_finished_s),
        ):
            if seconds is not None and not math.isfinite(seconds):
                raise SettingsError(option, f"{seconds} is no number of seconds")
        if self.lease_ttl_s < 3:
            raise SettingsError(
                "--lease-ttl",
                f"{self.lease_ttl_s:g} s: at least 3 s: it holds two renewals, then the asking to stop"
                f" ({self.ask_before_s:g} s before its end), then the killing ({self.margin_s:g} s before)",
            )
        if self.max_tasks < 0:
            raise SettingsError("--max-tasks", f"{self.max_tasks}: 0 (no limit) or more")
        if self.stop_timeout_s <= 0:
            raise SettingsError("--stop-timeout", f"{self.stop_timeout_s:g} s: must be over 0")
        if self.stall_timeout_s is not None and self.stall_timeout_s <= 0:
            raise SettingsError("--stall-timeout", f"{self.stall_timeout_s:g} s: must be over 0")
        if self.stall_by not in ("beats", "cpu"):
            raise SettingsError("--stall-by", f"{self.stall_by!r}: use 'beats' or 'cpu'")
        if self.on_etcd_loss not in ("fence", "run"):
            raise SettingsError("--on-etcd-loss", f"{self.on_etcd_loss!r}: use 'fence' or 'run'")
        if self.weight is not None and not 0 < self.weight <= MOST_WEIGHT:
            raise SettingsError("--weight", f"{self.weight:g}: over 0 and at most {MOST_WEIGHT:g}")
        if self.moves_per_minute <= 0:
            raise SettingsError("--moves-per-minute", f"{self.moves_per_minute}: must be over 0")
        if not 0 <= self.rejoin_grace_s < math.inf:
            raise SettingsError("--rejoin-grace", f"{self.rejoin_grace_s:g} s: must be 0 or more")
        if self.memory_limit is not None and self.memory_limit <= 0:
            raise SettingsError("--memory-limit", f"{self.memory_limit}: must be over 0")

    @property
    def renew_every_s(self) -> float:
        """Between two renewals of the lease."""
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
