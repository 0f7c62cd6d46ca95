"""NodeHttp: what --http shows of a node. It joins the meters, the summary and the service."""

from __future__ import annotations

import asyncio
import importlib
import logging
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from mpfora.config.listen_address import ListenAddress
from mpfora.supervisor import actions as do
from mpfora.supervisor import events as ev
from mpfora.supervisor.core import Core
from mpfora.supervisor.http_service import HttpService, Vitals, timed
from mpfora.supervisor.loop import now
from mpfora.supervisor.node.meters import Meters
from mpfora.supervisor.output.node_output import OutputCounts
from mpfora.supervisor.turn_watchdog import Turns
from mpfora.supervisor.zygote.node_zygotes import NodeZygotes
from mpfora.supervisor.zygote.runs import RunUsage

log = logging.getLogger("mpfora.node")

WITHOUT_EXTRA = (
    "/metrics needs prometheus-client, which is not installed here: pip install 'mpfora[metrics]', or leave --http out"
)


class NodeHttp:
    """Made in the node's event loop. `saw` is given all that passes through that."""

    def __init__(
        self,
        address: ListenAddress,
        core: Core,
        zygotes: NodeZygotes,
        turns: Turns,
        output: Callable[[], OutputCounts],
    ) -> None:
        """Raises OSError where it cannot listen there, ImportError (WITHOUT_EXTRA) where there is no
        prometheus-client."""
        try:
            self._forms: Any = importlib.import_module("mpfora.supervisor.metrics")
        except ImportError as error:
            raise ImportError(WITHOUT_EXTRA) from error
        self._core, self._zygotes, self._turns, self._output = core, zygotes, turns, output
        self._meters = Meters(core.settings.name)
        self._before: dict[int, RunUsage] = {}
        self._has_failed = False
        loop = asyncio.get_running_loop()
        self._service = HttpService(
            address, lambda look: _soon(loop, look), self._vitals, turns.present_s, self._metrics
        )

    def start(self, address: ListenAddress) -> None:
        shown = ListenAddress(address.host, self._service.port)
        log.info("serves /livez, /readyz and /metrics at http://%s", shown)
        self._service.start()

    def close(self) -> None:
        self._service.close()

    def saw(self, event: ev.Event, actions: Iterable[do.Action]) -> None:
        """A bug in the counters never ends the node."""
        try:
            self._meters.saw(event, actions, now().boot_s)
        except Exception:
            if not self._has_failed:
                log.exception("the node's metrics miss something: this is a bug in mpfora")
            self._has_failed = True

    def _vitals(self) -> Vitals:
        at, since_s = now(), self._meters.no_zygote_since_s
        return Vitals(self._core.summary(at), None if since_s is None else at.boot_s - since_s)

    def _metrics(self, service: HttpService, accept: str) -> tuple[bytes, str]:
        """In the thread of an asker. Of a node that hangs this tells how long it does, and what its process uses."""
        found, took_s = timed(service, self._families)
        encoded: tuple[bytes, str] = self._forms.encode([self._forms.lag(took_s), *(found or ())], accept)
        return encoded

    def _families(self) -> list[Any]:
        """In the loop."""
        at, core = now(), self._core
        states = Counter(claimed.state.state.value for claimed in core.claimed.by_id.values())
        runs = tuple(
            self._forms.RunNow(run, self._zygotes.usage(run), self._zygotes.progress(run)) for run in self._meters.runs
        )
        for run, usage, _ in runs:
            if usage is not None:
                self._meters.used(run, usage.cpu_s)
        seen = self._forms.Now(
            boot_s=at.boot_s,
            summary=core.summary(at),
            states=states,
            runs=runs,
            balancer=core.status.member().balancer,
            moves=core.counts.moves,
            late_claims=core.counts.late,
            longest_turn_s=self._turns.longest_s,
            lease_ttl_s=core.settings.lease_ttl_s,
            output=self._output(),
        )
        found: list[Any] = self._forms.families(self._meters, seen, self._before)
        return found


def _soon(loop: asyncio.AbstractEventLoop, look: Callable[[], None]) -> None:
    """Raises RuntimeError where the loop has ended."""
    loop.call_soon_threadsafe(look)
