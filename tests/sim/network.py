"""The network between one machine and etcd: it delays, loses requests, loses replies, and is cut, one way or both.

A request is applied when it arrives, at most once, whatever its sender believes; it may arrive after the sender has
given up.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mpfora.store.kv import AccessDenied, Unreachable

from .clock import Future, Host, World
from .fake_etcd import FakeEtcd

#: seconds until a connection that was cut carries anything again
RECONNECT_S = 0.3


@dataclass(slots=True)
class Weather:
    """loss     the part of requests, and of replies, that are lost
    refuse   the part of the losses that the client is told of at once
    slow     the part of packets that take up to slow_s, each way; the others take about delay_s
    lag_s    how late a watch is, at most
    stall    the part of a watch's revisions that hold it up for up to stall_s
    """

    delay_s: float = 0.001
    loss: float = 0.0
    slow: float = 0.0
    slow_s: float = 0.0
    refuse: float = 0.3
    lag_s: float = 0.01
    stall: float = 0.0
    stall_s: float = 0.0


class Link:
    """One machine's way to etcd. out, back: whether each direction is open."""

    def __init__(self, world: World, etcd: FakeEtcd, rng: random.Random, machine: str) -> None:
        self.world, self.etcd, self._rng, self.machine = world, etcd, rng, machine
        self.weather = Weather()
        self.out = self.back = True
        #: the member of etcd that its watches are with is behind the others until then
        self.behind_until = 0.0
        #: how often they have changed to another member
        self.member = 0
        #: since when etcd refuses this machine's writes, None: it takes them
        self.refused_since: float | None = None
        #: asked of each request: whether it is lost, or its reply
        self.lose_request: Callable[[str], bool] = lambda _: False
        self.lose_reply: Callable[[str], bool] = lambda _: False

    def cut(self, out: bool, back: bool) -> None:
        self.out, self.back = self.out and not out, self.back and not back

    def heal(self) -> None:
        self.out = self.back = True

    def fall_behind(self, until: float) -> None:
        """From now on the watches are with a member that is behind until then."""
        self.behind_until = max(self.behind_until, until)
        self.member += 1

    def catch_up(self) -> None:
        self.behind_until = 0.0

    def refuse(self) -> None:
        """From now on etcd takes no write of this machine, and grants it no lease."""
        if self.refused_since is None:
            self.refused_since = self.world.now

    def allow(self) -> None:
        self.refused_since = None

    def check_right(self) -> None:
        """Called when a request to write arrives. Raises AccessDenied."""
        if self.refused_since is not None:
            raise AccessDenied("etcdserver: permission denied")

    def call(self, host: Host, what: str, request: Callable[[], Any], timeout_s: float) -> Future:
        """Ask etcd. The answer, what etcd refuses with, or Unreachable after the time-out (or at once)."""
        answer = Future(host)
        if self._is_lost(self.out) or self.lose_request(what):
            if self._rng.random() < self.weather.refuse:
                host.after(self.delay(), self._fail, answer, f"{what}: connection refused", False)
            else:
                host.after(timeout_s, self._fail, answer, f"{what}: no answer within {timeout_s:g} s", True)
            return answer
        self.world.after(self.delay(), self._arrive, host, what, request, answer)
        host.after(timeout_s, self._fail, answer, f"{what}: no answer within {timeout_s:g} s", True)
        return answer

    def delay(self) -> float:
        """One way."""
        weather = self.weather
        if weather.slow and self._rng.random() < weather.slow:
            return self._rng.random() * weather.slow_s
        return weather.delay_s * (0.5 + self._rng.random())

    def watch_lag(self) -> float:
        weather = self.weather
        if weather.stall and self._rng.random() < weather.stall:
            return self._rng.random() * weather.stall_s
        return self._rng.random() * weather.lag_s

    def _arrive(self, host: Host, what: str, request: Callable[[], Any], answer: Future) -> None:
        if not self.etcd.has_leader:
            if self._rng.random() < 0.5:
                self.world.after(self.delay(), host.enter, self._fail, answer, f"{what}: etcd has no leader", False)
            return
        value: Any = None
        error: Exception | None = None
        try:
            value = request()
        except Exception as refused:  # noqa: BLE001 - it is the answer
            error = refused
        if self._is_lost(self.back) or self.lose_reply(what):
            return
        self.world.after(self.delay(), host.enter, self._answer, answer, value, error)

    def _is_lost(self, is_open: bool) -> bool:
        return not is_open or (self.weather.loss > 0 and self._rng.random() < self.weather.loss)

    @staticmethod
    def _answer(answer: Future, value: Any, error: Exception | None) -> None:
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(value)

    @staticmethod
    def _fail(answer: Future, text: str, sent: bool) -> None:
        answer.set_exception(Unreachable(text, sent))
