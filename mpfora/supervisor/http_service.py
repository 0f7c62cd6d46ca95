"""The node's --http: /livez, /readyz and /metrics, served by threads of their own, so that a hung loop shows.

A thread asks the node's event loop, and says what it hears, or that it hears nothing. While nobody asks, the thread
waits in the kernel for a connection, and nothing is done.
"""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, TypeVar

from mpfora.config.listen_address import ListenAddress
from mpfora.supervisor.node.summary import NodeSummary

log = logging.getLogger("mpfora.node")

T = TypeVar("T")

#: the loop has so long for a turn before the node counts as hung, and so long to answer for its metrics
LIVE_WITHIN_S, METRICS_WITHIN_S = 5.0, 2.0
#: a node that has lost its zygote for so long counts as dead
ZYGOTE_WITHIN_S = 60.0
#: an asker that is slower is left; so many are answered at once
_SLOW_S, _AT_ONCE = 5.0, 16


class Vitals(NamedTuple):
    """How the node is. no_zygote_s: how long it has had no zygote, although there was one; None: it has one, or imports
    its handlers for the first time."""

    summary: NodeSummary
    no_zygote_s: float | None


class Answer(NamedTuple):
    status: int
    body: bytes
    content_type: str = "application/json"


class HttpService:
    """in_loop: calls a function soon in the node's event loop, from any thread; vitals: looks, in the loop;
    turn_s: how long the present turn of the loop has lasted, from any thread; metrics: makes the text of the metrics,
    given how it can look in the loop, and what the asker accepts."""

    def __init__(
        self,
        address: ListenAddress,
        in_loop: Callable[[Callable[[], None]], None],
        vitals: Callable[[], Vitals],
        turn_s: Callable[[], float],
        metrics: Callable[[HttpService, str], tuple[bytes, str]],
    ) -> None:
        """Listens from here on. Raises OSError where it cannot."""
        self._in_loop, self._vitals, self._turn_s, self._metrics = in_loop, vitals, turn_s, metrics
        self._server = _Server(address, self)
        self._thread = threading.Thread(target=self._server.answer_for_ever, name="mpfora-http", daemon=True)

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Safe to call again."""
        self._server.close()
        if self._thread.is_alive():
            self._thread.join(_SLOW_S)

    def answer(self, path: str, accept: str) -> Answer:
        """Called by the threads of askers."""
        match path.partition("?")[0].rstrip("/"):
            case "/livez":
                return _judged(self._why_dead())
            case "/readyz":
                return _judged(self._why_not_ready())
            case "/metrics":
                return Answer(HTTPStatus.OK, *self._metrics(self, accept))
        told = {"error": "there are /livez, /readyz and /metrics"}
        return Answer(HTTPStatus.NOT_FOUND, json.dumps(told).encode() + b"\n")

    def ask_loop(self, look: Callable[[], T], within_s: float) -> T | None:
        """What `look` returns, called in the loop. None: the loop did not call it in time."""
        found: list[T] = []
        done = threading.Event()

        def looked() -> None:
            try:
                found.append(look())
            except Exception:
                log.exception("cannot tell how the node is: this is a bug in mpfora")
            finally:
                done.set()

        try:
            self._in_loop(looked)
        except RuntimeError:
            return None  # the loop has ended
        done.wait(within_s)
        return found[0] if found else None

    def _why_dead(self) -> list[str]:
        """etcd is never the reason."""
        vitals = self.ask_loop(self._vitals, max(0.0, LIVE_WITHIN_S - self._turn_s()))
        if vitals is None:
            return [self._hung()]
        if (vitals.no_zygote_s or 0.0) > ZYGOTE_WITHIN_S:
            return [f"the zygote is lost for {vitals.no_zygote_s:.0f} s, and no other could be started"]
        return []

    def _hung(self) -> str:
        return f"the event loop has been in one turn for {self._turn_s():.1f} s: the log says where"

    def _why_not_ready(self) -> list[str]:
        vitals = self.ask_loop(self._vitals, max(0.0, LIVE_WITHIN_S - self._turn_s()))
        return [self._hung()] if vitals is None else list(vitals.summary.why_not_ready)


def _judged(reasons: list[str]) -> Answer:
    status = HTTPStatus.SERVICE_UNAVAILABLE if reasons else HTTPStatus.OK
    return Answer(status, json.dumps({"ok": not reasons, "reasons": reasons}).encode() + b"\n")


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = _SLOW_S
    server_version, sys_version = "mpfora", ""
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        answer = self.server.service.answer(self.path, self.headers.get("Accept", ""))
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)
        self.close_connection = True

    do_HEAD = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """Probes come each second, and are not logged."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, address: ListenAddress, service: HttpService) -> None:
        self.address_family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        self.service = service
        self._closed = False
        self._free = threading.BoundedSemaphore(_AT_ONCE)
        super().__init__((address.host, address.port), _Handler)

    def answer_for_ever(self) -> None:
        while not self._closed:
            self.handle_request()

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        try:
            self.socket.shutdown(socket.SHUT_RDWR)  # wakes who waits for a connection
        except OSError as error:
            log.debug("the socket of --http was closed already: %s", error)
        self.server_close()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Askers that hold their connections open do not use up the node's threads."""
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has gone is not an error of the node."""
        log.debug("%s closed its connection to --http before it had its answer", client_address, exc_info=True)


def timed(service: HttpService, look: Callable[[], T]) -> tuple[T | None, float]:
    """(what `look` returns in the loop or None, how many seconds that took)."""
    began_s = time.monotonic()
    return service.ask_loop(look, METRICS_WITHIN_S), time.monotonic() - began_s
