"""The checks that every request passes first, and the headers that every answer carries.

A page of another site can make a browser send requests here, with all that the browser knows of this place. So each
request that changes something is a POST or a DELETE with JSON, and comes from our own page or from a program.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mpfora.web.entry import Entry
from mpfora.web.people import Role, User
from mpfora.web.settings import BASIC, LINK, WebSettings

log = logging.getLogger("mpfora.web")

#: the largest body of a request: etcd takes no larger value
MOST_BODY = 2 * 1024 * 1024
_WRITES = frozenset({"POST", "DELETE", "PUT", "PATCH"})
#: for whom nobody has to be known
#: paths that programs ask for: no page is to be shown in their place
_OF_PROGRAMS = ("/api/", "/metrics")
_OPEN = ("/login", "/enter", "/static/", "/livez", "/api/v1/entry", "/api/v1/session")
_HERE = ("localhost", "127.0.0.1", "[::1]")
HEADERS: Mapping[str, str] = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    " connect-src 'self'; font-src 'self'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cache-control": "no-store",
}


class Guard:
    """ASGI, around the application. `scope["user"]` is who asks, None only where nobody has to be known."""

    def __init__(self, app: ASGIApp, settings: WebSettings, entry: Entry) -> None:
        self._app, self._settings, self._entry = app, settings, entry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        if scope["type"] != "http":  # no web socket is served
            return await send({"type": "websocket.close", "code": 1008})
        secured = _with_headers(send, scope["scheme"] == "https")
        refusal = self._strip_prefix(scope) or self._refusal_of_host(scope) or _refusal_of_body(scope)
        if refusal is None:
            user = await self._entry.user(HTTPConnection(scope))
            if user is not None and self._settings.is_read_only:
                user = user.at_most(Role.VIEW)
            scope["user"] = user
            refusal = self._refusal_of_nobody(scope, user) or refusal_of_origin(Request(scope))
        if refusal is not None:
            return await refusal(scope, receive, secured)
        return await self._app(scope, _limited(receive), secured)

    def _strip_prefix(self, scope: Scope) -> Response | None:
        prefix = self._settings.prefix
        if not prefix:
            return None
        if scope["path"] == prefix:
            return RedirectResponse(prefix + "/", 308)
        if not scope["path"].startswith(prefix + "/"):
            return error(404, f"nothing is here: every page is below {prefix}/")
        scope["path"] = scope["path"][len(prefix) :]
        return None

    def _refusal_of_host(self, scope: Scope) -> Response | None:
        """Why a request for another host name is refused, where only this machine is let in: somebody's DNS may make a
        name point here."""
        if self._settings.auth != LINK or not self._settings.is_loopback:
            return None
        host = Headers(scope=scope).get("host", "")
        name = host if host.endswith("]") else host.rpartition(":")[0] or host
        if name.lower() in (*_HERE, self._settings.host.lower(), f"[{self._settings.host.lower()}]"):
            return None
        return error(421, "mpfora web does not serve this address: open the link that it has printed")

    def _refusal_of_nobody(self, scope: Scope, user: User | None) -> Response | None:
        path: str = scope["path"]
        if user is not None or any(path == one or (one.endswith("/") and path.startswith(one)) for one in _OPEN):
            return None
        if self._entry.kind == BASIC:
            return error(401, "who are you?", {"www-authenticate": 'Basic realm="mpfora", charset="UTF-8"'})
        if not path.startswith(_OF_PROGRAMS) and scope["method"] == "GET" and self._entry.cookie:
            return RedirectResponse(f"{self._settings.prefix}/login", 303)
        return error(401, {
            "link": "nobody is let in without the link that mpfora web has printed",
            "token": "a token is needed: Authorization: Bearer TOKEN",
            "header": f"no trusted proxy names you in the header {self._settings.auth_arg}",
        }.get(self._entry.kind, "nobody knows who you are"))  # fmt: skip


def error(status: int, text: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": text}, status, dict(headers or {}))


def _refusal_of_body(scope: Scope) -> Response | None:
    length = Headers(scope=scope).get("content-length", "0")
    if not length.isascii() or not length.isdigit():
        return error(400, "the content-length is not a number")
    return error(413, f"the body is larger than {MOST_BODY:,} bytes") if int(length) > MOST_BODY else None


def refusal_of_origin(request: Request) -> Response | None:
    """Why a request that changes something is refused: it comes neither from our own page nor from a program."""
    if request.method not in _WRITES:
        return None
    headers = request.headers
    if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        return error(415, "a request that changes something must be sent as application/json")
    if headers.get("authorization", "").lower().startswith("bearer "):
        return None  # no browser sends this by itself
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None:
        is_ours = site == "same-origin"
    elif origin is not None:
        is_ours = urlsplit(origin).netloc.lower() == headers.get("host", "").lower() != ""
    else:
        is_ours = "cookie" not in headers  # a program with a password or a certificate
    if is_ours:
        return None
    log.warning("refused: %s %s comes from another site (%r)", request.method, request.url.path[:200], origin or site)
    return error(403, "the request comes from another site's page, or from a browser that does not say from where")


def _with_headers(send: Send, is_tls: bool) -> Send:
    async def secured(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
            if is_tls:
                headers.setdefault("strict-transport-security", "max-age=31536000")
        await send(message)

    return secured


def _limited(receive: Receive) -> Receive:
    """A body that does not say how long it is ends where it is too long."""
    taken = 0

    async def limited() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > MOST_BODY:
            return {"type": "http.disconnect"}
        return message

    return limited
