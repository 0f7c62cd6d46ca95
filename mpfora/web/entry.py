"""How somebody is known: by the link that the terminal showed, a token, a password, a proxy's header, a certificate.

Files of tokens and passwords have a line for each person: NAME ROLE SECRET, blanks between. # begins a comment. They
are read again when they change, so that who is taken out is out.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import ipaddress
import os
import secrets
import stat
import time
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from starlette.requests import HTTPConnection

from mpfora.config.settings import SettingsError
from mpfora.model.units import shown
from mpfora.web.people import ROLES, Role, User
from mpfora.web.settings import BASIC, HEADER, TOKEN, WebSettings

#: how long a browser stays logged in
SESSION_S = 7 * 86_400
#: how long somebody with a wrong secret waits for the answer
_WRONG_S = 0.5
_SHORTEST_TOKEN = 16
_SCRYPT = {"n": 1 << 14, "r": 8, "p": 1}
#: verified passwords that are remembered, as each costs 50 ms
_MOST_KNOWN, _KNOWN_S = 100, 300.0
_LONGEST_NAME = 100


class Entry(Protocol):
    """kind: which one, for the page that lets people in; cookie: the name of the one that it takes, "" none."""

    kind: str
    cookie: str

    async def user(self, request: HTTPConnection) -> User | None:
        """Who asks; None: nobody knows."""

    async def let_in(self, secret: str) -> tuple[User, str] | None:
        """(who, the value of the cookie) by what was typed or stood in the link; None: it is wrong."""


# -- sessions: what a cookie says, signed ----------------------------------------------------------------------------


class _Sessions:
    """Cookies that need no memory: "NAME.EXPIRES.SIGNATURE"."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def make(self, name: str) -> str:
        text = f"{base64.urlsafe_b64encode(name.encode()).decode()}.{int(time.time()) + SESSION_S}"
        return f"{text}.{self._sign(text)}"

    def name(self, cookie: str | None) -> str | None:
        """Whose it is; None: nobody's."""
        text, _, signature = (cookie or "").rpartition(".")
        if not text or not hmac.compare_digest(signature.encode(), self._sign(text).encode()):
            return None
        name, _, expires = text.partition(".")
        return base64.urlsafe_b64decode(name).decode() if int(expires) > time.time() else None

    def _sign(self, text: str) -> str:
        return hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()


# -- the link --------------------------------------------------------------------------------------------------------


class LinkEntry:
    """For one person on this machine: a link that works once. `on_used` is called with the next one."""

    kind = "link"

    def __init__(self, cookie: str, role: Role = Role.ADMIN) -> None:
        self.cookie, self._role = cookie, role
        self._sessions = _Sessions(secrets.token_bytes(32))
        self.secret = secrets.token_urlsafe(24)

    async def user(self, request: HTTPConnection) -> User | None:
        name = self._sessions.name(request.cookies.get(self.cookie))
        return None if name is None else User(name, self._role)

    async def let_in(self, secret: str) -> tuple[User, str] | None:
        if not hmac.compare_digest(secret.encode(errors="replace"), self.secret.encode()):
            await asyncio.sleep(_WRONG_S)
            return None
        self.secret = secrets.token_urlsafe(24)
        user = User(_login_name(), self._role)
        return user, self._sessions.make(user.name)


def _login_name() -> str:
    return os.environ.get("USER") or os.environ.get("LOGNAME") or f"uid {os.getuid()}"


# -- files of people -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Person:
    user: User
    secret: str


class PeopleFile:
    """The people of a file, as it stands now. A file that cannot be read any more lets nobody in."""

    def __init__(self, path: str, what: str) -> None:
        """what: "token" or "password". Raises SettingsError."""
        self._path, self._what = Path(path), what
        self._seen: tuple[int, ...] = ()
        self.people: dict[str, Person] = {}
        #: of what the file says: cookies end when it changes
        self.key = b""
        self._read()

    def now(self) -> PeopleFile:
        """Itself, after a look at the file."""
        try:
            if self._state() != self._seen:
                self._read()
        except (OSError, SettingsError):
            self.people, self.key, self._seen = {}, secrets.token_bytes(32), ()
        return self

    def _state(self) -> tuple[int, ...]:
        found = self._path.stat()
        return found.st_mtime_ns, found.st_size, found.st_ino, found.st_mode

    def _read(self) -> None:
        try:
            state, data = self._state(), self._path.read_bytes()
        except OSError as error:
            raise SettingsError("--auth", f"{self._path} cannot be read: {error.strerror}") from None
        if stat.S_IMODE(state[3]) & 0o007:
            raise SettingsError("--auth", f"others may read {self._path}: chmod o-rwx {self._path}")
        people = _parse_people(data.decode(errors="replace"), self._path, self._what)
        self.people, self.key, self._seen = people, hashlib.sha256(b"mpfora web\0" + data).digest(), state


def _parse_people(text: str, path: Path, what: str) -> dict[str, Person]:
    people: dict[str, Person] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split() if line.lstrip().startswith("#") else line.split()
        if not words:
            continue
        where = f"{path}, line {number}"
        if len(words) != 3 or words[1] not in ROLES:
            raise SettingsError("--auth", f"{where}: write NAME ROLE {what.upper()}, with a role of {', '.join(ROLES)}")
        name, role, secret = words
        if not name.isprintable() or len(name) > _LONGEST_NAME:
            raise SettingsError("--auth", f"{where}: the name {shown(name)} is too long or cannot be printed")
        if name in people:
            raise SettingsError("--auth", f"{where}: {name} is named twice")
        if what == "token" and len(secret) < _SHORTEST_TOKEN:
            raise SettingsError("--auth", f"{where}: a token has at least {_SHORTEST_TOKEN} characters")
        if what == "password" and not _is_hash(secret):
            raise SettingsError("--auth", f"{where}: no password in clear: mpfora web --make-password makes the line")
        people[name] = Person(User(name, ROLES[role]), secret)
    if not people:
        raise SettingsError("--auth", f"{path}: the file names nobody: write NAME ROLE {what.upper()}")
    return people


class TokenEntry:
    """Tokens: in `Authorization: Bearer` from programs; from people once, for a cookie."""

    kind = TOKEN

    def __init__(self, path: str, cookie: str) -> None:
        self.cookie, self._file = cookie, PeopleFile(path, "token")

    async def user(self, request: HTTPConnection) -> User | None:
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            return await self._of_token(token.strip())
        file = self._file.now()
        name = _Sessions(file.key).name(request.cookies.get(self.cookie))
        return file.people[name].user if name in file.people else None

    async def let_in(self, secret: str) -> tuple[User, str] | None:
        user = await self._of_token(secret.strip())
        return None if user is None else (user, _Sessions(self._file.key).make(user.name))

    async def _of_token(self, token: str) -> User | None:
        given = token.encode(errors="replace")
        found = [one for one in self._file.now().people.values() if hmac.compare_digest(one.secret.encode(), given)]
        if not found:
            await asyncio.sleep(_WRONG_S)
            return None
        return found[0].user


class BasicEntry:
    """Names and passwords, as the browser asks for them."""

    kind, cookie = BASIC, ""

    def __init__(self, path: str) -> None:
        self._file = PeopleFile(path, "password")
        #: what was verified -> until when it counts
        self._known: OrderedDict[bytes, float] = OrderedDict()

    async def user(self, request: HTTPConnection) -> User | None:
        kind, _, text = request.headers.get("authorization", "").partition(" ")
        if kind.lower() != "basic":
            return None
        try:
            name, _, password = base64.b64decode(text, validate=True).decode().partition(":")
        except (binascii.Error, ValueError):
            return None
        person = self._file.now().people.get(name)
        # an unknown name takes as long as a wrong password
        made = hash_password("", b"\0" * 16) if person is None else person.secret
        known = hashlib.sha256(f"{made}\0{name}\0{password}".encode()).digest()
        if self._known.get(known, 0.0) > time.monotonic():
            return None if person is None else person.user
        if not await asyncio.to_thread(_is_password, password, made) or person is None:
            await asyncio.sleep(_WRONG_S)
            return None
        self._known[known] = time.monotonic() + _KNOWN_S
        while len(self._known) > _MOST_KNOWN:
            self._known.popitem(last=False)
        return person.user

    async def let_in(self, secret: str) -> tuple[User, str] | None:
        return None


def hash_password(password: str, salt: bytes | None = None) -> str:
    """As it stands in the file of --auth basic: "scrypt$SALT$HASH"."""
    salt = secrets.token_bytes(16) if salt is None else salt
    made = hashlib.scrypt(password.encode(), salt=salt, dklen=32, **_SCRYPT)
    return f"scrypt${base64.b64encode(salt).decode()}${base64.b64encode(made).decode()}"


def _is_hash(text: str) -> bool:
    kind, _, rest = text.partition("$")
    try:
        salt, made = (base64.b64decode(part, validate=True) for part in rest.split("$"))
    except (ValueError, binascii.Error):
        return False
    return kind == "scrypt" and len(salt) >= 8 and len(made) == 32


def _is_password(password: str, made: str) -> bool:
    salt = base64.b64decode(made.split("$")[1])
    return hmac.compare_digest(hash_password(password, salt).encode(), made.encode())


# -- others who know -------------------------------------------------------------------------------------------------


class HeaderEntry:
    """A proxy has found out who asks, and says so in a header. Only the proxies that the settings name are believed."""

    kind, cookie = HEADER, ""

    def __init__(self, settings: WebSettings) -> None:
        self._settings = settings

    async def user(self, request: HTTPConnection) -> User | None:
        values = request.headers.getlist(self._settings.auth_arg)
        if request.client is None or len(values) != 1 or not self._is_proxy(request.client.host):
            return None
        name = values[0].strip()
        if not name or not name.isprintable() or len(name) > _LONGEST_NAME:
            return None
        return User(name, self._settings.role)

    def _is_proxy(self, host: str) -> bool:
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None) or address
        return any(mapped in network for network in self._settings.proxies)

    async def let_in(self, secret: str) -> tuple[User, str] | None:
        return None


class CertificateEntry:
    """TLS has checked the certificate already; its common name is the person's name."""

    kind, cookie = "certificate", ""

    def __init__(self, role: Role) -> None:
        self._role = role

    async def user(self, request: HTTPConnection) -> User | None:
        found = request.scope.get("state", {}).get("peer_certificate") or {}
        names = [value for part in found.get("subject", ()) for key, value in part if key == "commonName"]
        return User(str(names[-1])[:_LONGEST_NAME], self._role) if names else None

    async def let_in(self, secret: str) -> tuple[User, str] | None:
        return None


def make_entry(settings: WebSettings) -> Entry:
    """Raises SettingsError for a file that cannot be used."""
    cookie = f"mpfora_{settings.port}"  # a browser sends a cookie to every port of a host
    if settings.client_ca is not None:
        return CertificateEntry(settings.role)
    match settings.auth:
        case "token":
            return TokenEntry(settings.auth_arg, cookie)
        case "basic":
            return BasicEntry(settings.auth_arg)
        case "header":
            return HeaderEntry(settings)
    return LinkEntry(cookie)


def credentials_json(entry: Entry, user: User | None) -> dict[str, object]:
    """What the page knows of who looks."""
    known = None if user is None else {"name": user.name, "role": user.role.title}
    return {"by": entry.kind, "user": known}
