"""The server: the routes, the files of the page, and its life from the socket to the end."""

from __future__ import annotations

import asyncio
import html
import logging
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from importlib.resources import files
from types import FrameType
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from mpfora._version import __version__
from mpfora.client import AsyncClient
from mpfora.config.settings import EtcdSettings, SettingsError
from mpfora.errors import EtcdUnreachable, MpforaError
from mpfora.web.api import Api
from mpfora.web.entry import Entry, LinkEntry, credentials_json, make_entry
from mpfora.web.guard import Guard, error
from mpfora.web.metrics import cluster_metrics
from mpfora.web.openapi import document
from mpfora.web.operations import OPERATIONS
from mpfora.web.page_data import PageData
from mpfora.web.settings import WebSettings
from mpfora.web.views import Views

log = logging.getLogger("mpfora.web")

STATIC = files("mpfora.web") / "static"
#: the paths that a person may have in the address bar
PAGES = ("/", "/tasks", "/tasks/{id}", "/nodes", "/nodes/{id}", "/groups", "/schedules", "/events", "/login")
#: how long requests that are under way may take when the server ends
_END_S = 3
_MOST_CONNECTIONS = 1_000
#: how long the first metrics wait for the mirror
_READY_S = 20.0
#: files change with the version alone
_STATIC_HEADERS = {"cache-control": "no-cache"}


def make_app(data: PageData, settings: WebSettings, entry: Entry, on_entered: Callable[[], None]) -> ASGIApp:
    """on_entered: called when somebody came in by the link, which works no more."""
    views = Views(data, settings)
    api = Api(data, views, settings)
    doors = _Doors(settings, entry, on_entered)
    routes = [Route(one.path, api.endpoint(one), methods=[one.method]) for one in OPERATIONS]
    app = Starlette(
        routes=[
            *routes,
            Route("/api/v1/openapi.json", lambda _: JSONResponse(document(settings.prefix))),
            Route("/api/v1/entry", doors.entry),
            Route("/api/v1/session", doors.session, methods=["POST"]),
            Route("/enter", doors.enter),
            Route("/livez", lambda _: JSONResponse({"ok": True})),
            Route("/metrics", _Metrics(data).answer),
            *(Route(path, _page(settings)) for path in PAGES),
            Mount("/static", _Files(directory=str(STATIC))),
        ],
        exception_handlers={HTTPException: _http_error, Exception: _bug},
    )
    return Guard(app, settings, entry)


class _Metrics:
    def __init__(self, data: PageData) -> None:
        self._data = data

    async def answer(self, request: Request) -> Response:
        try:
            await self._data.mirror.ready(_READY_S)
            space = await self._data.store.ask_space()
            text, content_type = cluster_metrics(self._data.mirror, space, request.headers.get("accept", ""))
        except EtcdUnreachable as failure:
            return error(503, str(failure))
        except MpforaError as failure:
            return error(501, str(failure))
        return Response(text, headers={"content-type": content_type, "cache-control": "no-store"})


class _Files(StaticFiles):
    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers.update(_STATIC_HEADERS)
        return response


def _page(settings: WebSettings) -> Callable[[Request], Response]:
    """The same page for every path: its script decides what it shows. It holds nothing of etcd."""
    text = (STATIC / "index.html").read_text()
    made = text.replace("{{base}}", html.escape(settings.prefix + "/")).replace("{{version}}", html.escape(__version__))

    def page(_: Request) -> Response:
        return Response(made, media_type="text/html")

    return page


async def _http_error(_: Request, failure: Exception) -> Response:
    assert isinstance(failure, HTTPException)
    return error(failure.status_code, failure.detail, failure.headers)


async def _bug(request: Request, failure: Exception) -> Response:
    log.error("%s %s failed: this is a bug in mpfora", request.method, request.url.path[:200], exc_info=failure)
    return error(500, "a bug in mpfora: its log says more")


class _Doors:
    """How people come in by a browser."""

    def __init__(self, settings: WebSettings, entry: Entry, on_entered: Callable[[], None]) -> None:
        self._settings, self._entry, self._on_entered = settings, entry, on_entered

    async def entry(self, request: Request) -> Response:
        return JSONResponse(
            {**credentials_json(self._entry, request.scope["user"]), "read_only": self._settings.is_read_only}
        )

    async def enter(self, request: Request) -> Response:
        """The link of the terminal: a cookie for it, and the address without it."""
        return await self._let_in(request, request.query_params.get("link", ""), is_link=True)

    async def session(self, request: Request) -> Response:
        try:
            body = await request.json()
        except ValueError:
            return error(400, "the body is not JSON")
        secret = body.get("token") if isinstance(body, dict) else None
        return await self._let_in(request, secret if isinstance(secret, str) else "", is_link=False)

    async def _let_in(self, request: Request, secret: str, *, is_link: bool) -> Response:
        """A link lets in by the link alone, and a token by the form alone: an address stays in histories."""
        home = self._settings.prefix + "/"
        allowed = isinstance(self._entry, LinkEntry) == is_link
        found = await self._entry.let_in(secret) if allowed and secret else None
        if found is None:
            log.warning(
                "refused: somebody at %s came with a wrong secret", request.client.host if request.client else "?"
            )
            return (
                RedirectResponse(f"{home}login?wrong", 303) if is_link else error(401, "nobody is known by this token")
            )
        user, cookie = found
        log.info("%s came in", user.name)
        response: Response = (
            RedirectResponse(home, 303) if is_link else JSONResponse(credentials_json(self._entry, user))
        )
        response.set_cookie(
            self._entry.cookie, cookie, max_age=7 * 86_400, path=home, httponly=True, samesite="strict",
            secure=request.url.scheme == "https",
        )  # fmt: skip
        if is_link:
            self._on_entered()
        return response


# -- its life ---------------------------------------------------------------------------------------------------------


class _Protocol(H11Protocol):
    """Hands on the certificate that the other side has shown."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        # asyncio does it for sockets that were made with the protocol's number alone: 40 ms of each answer
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        tls = transport.get_extra_info("ssl_object")
        if tls is not None:
            self.app_state = {**self.app_state, "peer_certificate": tls.getpeercert()}


class _Server(uvicorn.Server):
    """Ends the live streams when the server is asked to end: uvicorn would wait for them for ever."""

    def __init__(self, config: uvicorn.Config, closing: asyncio.Event) -> None:
        super().__init__(config)
        self._closing, self._loop = closing, asyncio.get_running_loop()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As uvicorn's, which then raises each signal anew: SIGTERM would end the process as if it had not ended in
        order."""
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        self._loop.call_soon_threadsafe(self._closing.set)


def listen(settings: WebSettings) -> socket.socket:
    """Raises SettingsError."""
    try:
        family = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((settings.host, settings.port), family=family, backlog=128)
    except (OSError, UnicodeError) as failure:
        text = getattr(failure, "strerror", None) or str(failure)
        raise SettingsError("--listen", f"{settings.host}:{settings.port} cannot be listened on: {text}") from None


def address(settings: WebSettings, listening: socket.socket) -> str:
    """What people type, with the slash at its end."""
    host, port = listening.getsockname()[:2]
    host = f"[{host}]" if ":" in host else host
    return f"{'https' if settings.cert else 'http'}://{host}:{port}{settings.prefix}/"


@asynccontextmanager
async def opened(etcd: EtcdSettings | str, namespace: str) -> Any:
    """The data of the pages, over a client of its own. Raises EtcdUnreachable where etcd does not answer now."""
    async with AsyncClient(etcd, namespace) as client:
        await client.ping()
        data = PageData(client, namespace)
        async with data.run():
            yield data


async def serve(etcd: EtcdSettings | str, namespace: str, settings: WebSettings, say: Callable[[str], None]) -> None:
    """Until SIGINT or SIGTERM. `say` gets the lines for whoever started it. Raises SettingsError, EtcdUnreachable."""
    entry = make_entry(settings)
    with listen(settings) as listening:
        where = address(settings, listening)
        async with opened(etcd, namespace) as data:

            def tell() -> None:
                if isinstance(entry, LinkEntry):
                    say(f"{where}enter?link={entry.secret}")

            def entered() -> None:
                say("somebody used this link; the next one:")
                tell()

            app = make_app(data, settings, entry, entered)
            config = uvicorn.Config(
                app, http=_Protocol, ws="none", lifespan="off", log_config=None, access_log=False, server_header=False,
                proxy_headers=False, limit_concurrency=_MOST_CONNECTIONS, timeout_graceful_shutdown=_END_S,
                timeout_keep_alive=30, **_tls(settings),
            )  # fmt: skip
            say(f"mpfora web serves namespace {namespace!r} at {where}")
            tell()
            await _Server(config, data.closing).serve([listening])


def _tls(settings: WebSettings) -> dict[str, Any]:
    if settings.cert is None:
        return {}
    if settings.client_ca is None:
        return {"ssl_certfile": settings.cert, "ssl_keyfile": settings.key}
    return {
        "ssl_certfile": settings.cert, "ssl_keyfile": settings.key, "ssl_ca_certs": settings.client_ca,
        "ssl_cert_reqs": ssl.CERT_REQUIRED,
    }  # fmt: skip


def run(etcd: EtcdSettings | str, namespace: str, settings: WebSettings, say: Callable[[str], None]) -> None:
    """See `serve`. Returns when it was asked to end."""
    try:
        asyncio.run(serve(etcd, namespace, settings, say))
    except KeyboardInterrupt:  # it came before there was a server, or once more while that ended
        return
