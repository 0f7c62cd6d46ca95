"""Diagnosis: why a member cannot be reached, in words. Looks with the standard library alone, after gRPC has failed.

gRPC tells of a connection that fails what its layers have said, if it tells anything. A look makes the same connection
once more, step by step (name, port, TLS, a first word), and says which step fails, why, and which option to look at.
It changes nothing, and an error that it cannot explain stays as it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from pathlib import Path
from typing import Any

from mpfora.config.settings import EtcdSettings
from mpfora.store.etcd import messages
from mpfora.store.etcd.credentials import is_secure
from mpfora.store.kv import Unreachable, Unusable

#: a look takes no longer, and what it found holds for so long
LOOK_S = 1.0
FRESH_S = 5.0
#: how each HTTP/2 client begins; then an empty SETTINGS frame, which a server answers with its own
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
_SETTINGS = 4
#: how the refusal of a server begins that speaks TLS and was not spoken to in it
_TLS_ALERT = 0x15


class Diagnoses:
    """What was found of each member lately, so that an outage costs a look every few seconds, and not one a call."""

    def __init__(self, settings: EtcdSettings) -> None:
        self._settings = settings
        self._found: dict[str, tuple[float, str]] = {}
        self._looking: dict[str, asyncio.Future[str]] = {}

    async def explain(self, failure: Unreachable) -> Unreachable:
        """The failure, with what a look at its member finds; unchanged where the look finds nothing."""
        if not isinstance(failure, messages.Failed):
            return failure
        found = await self._look(failure.address)
        if not found:
            return failure
        if _is_absent(found):
            return Unreachable(f"{failure.address}: {found}", failure.sent)
        return Unusable(f"{failure.address}: {found}")

    async def _look(self, address: str) -> str:
        """Look at a member. Of many calls that fail at once, one looks."""
        at, found = self._found.get(address, (0.0, ""))
        if at and time.monotonic() - at <= FRESH_S:
            return found
        looking = self._looking.get(address)
        if looking is None:
            looking = self._looking[address] = asyncio.ensure_future(
                asyncio.to_thread(examine, address, self._settings)
            )
            looking.add_done_callback(lambda _: self._looking.pop(address, None))
        found = await asyncio.shield(looking)
        self._found[address] = (time.monotonic(), found)
        return found


#: a server that is not there may come by itself: that is for nobody to mend
_ABSENT = ("nothing listens there", "no connection within", "there is no such socket")


def _is_absent(found: str) -> bool:
    return found.startswith(_ABSENT)


def examine(address: str, settings: EtcdSettings) -> str:
    """What is wrong with the way to `address` (HOST:PORT or unix:PATH); "" if nothing is found. Blocks, for about
    LOOK_S at most."""
    try:
        with contextlib.closing(_connect(address)) as connection:
            if is_secure(settings):
                return _examine_tls(connection, address, settings)
            return _examine_plain(connection, address)
    except TimeoutError:
        return f"no connection within {LOOK_S:g} s"
    except ConnectionRefusedError:
        return "nothing listens there (connection refused)"
    except FileNotFoundError:
        return "there is no such socket: its etcd does not run"
    except socket.gaierror as error:
        return f"the name {_host(address)!r} cannot be resolved ({error.strerror})"
    except UnicodeError as error:  # a part of it is empty or too long
        return f"{_host(address)!r} cannot be the name of a host ({error.__cause__ or error})"
    except OSError as error:
        return f"{error.strerror or error}"


def _connect(address: str) -> socket.socket:
    if address.startswith("unix:"):
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(LOOK_S)
        try:
            connection.connect(address.removeprefix("unix:"))
        except OSError:
            connection.close()
            raise
        return connection
    return socket.create_connection((_host(address), int(address.rpartition(":")[2])), LOOK_S)


def _host(address: str) -> str:
    return address.rpartition(":")[0].strip("[]")


# -- without TLS ------------------------------------------------------------------------------------------------------


def _examine_plain(connection: socket.socket, address: str) -> str:
    first = _first_word(connection)
    if _is_http2(first):
        return ""
    if _speaks_tls(address):
        return "it speaks TLS, and is asked without: write https:// before it, and give --etcd-cacert"
    return "what answers there is not etcd" if first else ""


def _is_http2(first: bytes) -> bool:
    return len(first) > 3 and first[3] == _SETTINGS


def _first_word(connection: socket.socket) -> bytes:
    """What a server says to the beginning of HTTP/2; b"" if it says nothing, or hangs up."""
    try:
        connection.sendall(_PREFACE)
        return connection.recv(64)
    except ssl.SSLError:
        raise
    except OSError:
        return b""


def _speaks_tls(address: str) -> bool:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with contextlib.closing(_connect(address)) as plain, context.wrap_socket(plain):
            return True
    except ssl.SSLError as error:
        return "ALERT" in (error.reason or "")  # it refuses, in TLS
    except OSError:
        return False


# -- with TLS ---------------------------------------------------------------------------------------------------------


def _examine_tls(connection: socket.socket, address: str, settings: EtcdSettings) -> str:
    try:
        context = _context(settings)
    except OSError as error:
        return f"the TLS files cannot be read: {error}"
    try:
        with context.wrap_socket(connection, server_hostname=_host(address)) as tls:
            if tls.selected_alpn_protocol() != "h2":
                return "it speaks TLS, but no HTTP/2 (ALPN): is it etcd?"
            # a server that does not take our certificate may say so only now
            return "" if _first_word(tls) else _refusal("it hangs up after the handshake", settings)
    except ssl.SSLCertVerificationError as error:
        return _of_its_certificate(error, address, settings)
    except ssl.SSLError as error:
        if "ALERT" in (error.reason or ""):
            return _refusal(error.reason.lower().partition("alert_")[2].replace("_", " "), settings)
        return _without_tls(address) or f"the TLS handshake fails: {error.reason or error}"
    except (ConnectionError, TimeoutError) as error:
        return _without_tls(address) or f"the TLS handshake fails: {error}"


def _context(settings: EtcdSettings) -> ssl.SSLContext:
    """Raises OSError."""
    context = ssl.create_default_context(cafile=settings.cacert)
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # what gRPC does not ask for
    if settings.cert is not None:
        context.load_cert_chain(settings.cert, settings.key)
    context.set_alpn_protocols(["h2"])
    return context


def _without_tls(address: str) -> str:
    with contextlib.closing(_connect(address)) as connection:
        first = _first_word(connection)
    if not first or first[0] == _TLS_ALERT:
        return ""
    return "it does not speak TLS, and is asked to: leave out https://, --etcd-cacert, --etcd-cert and --etcd-key"


def _of_its_certificate(error: ssl.SSLCertVerificationError, address: str, settings: EtcdSettings) -> str:
    """OpenSSL's words are good where they are about a name or a date."""
    said = error.verify_message
    if "certificate has expired" in said or "not yet valid" in said:
        return f"its certificate cannot be trusted: {said} (by the clock of this machine)"
    if "match" in said or "not valid for" in said:
        return f"its certificate is of another host: {said.rstrip('.')}: use a name that it has, or give it this one"
    trusted = f"the authority in --etcd-cacert {settings.cacert}" if settings.cacert else "one that this machine trusts"
    advice = "" if settings.cacert else "; give that one's certificate with --etcd-cacert"
    return f"its certificate is not signed by {trusted} ({said}){advice}"


def _refusal(said: str, settings: EtcdSettings) -> str:
    """The words for a server that refuses us."""
    if settings.cert is None:
        return f"it asks for a client certificate: give --etcd-cert and --etcd-key ({said})"
    text = f"it refuses the certificate in --etcd-cert {settings.cert} ({said})"
    ours = _decode(settings.cert)
    if not ours:
        return text
    ends = ours.get("notAfter", "")
    if ends and ssl.cert_time_to_seconds(ends) < time.time():
        return f"{text}: it has expired on {ends}"
    issuer = ", ".join(value for part in ours.get("issuer", ()) for _, value in part)
    return f"{text}: is it signed by the authority that etcd trusts, and for clients? It is signed by {issuer!r}"


def _decode(path: str) -> dict[str, Any]:
    """A certificate's fields, by a function that the standard library has for its own tests; {} without it."""
    decode = getattr(getattr(ssl, "_ssl", None), "_test_decode_cert", None)
    try:
        return dict(decode(str(Path(path)))) if decode is not None else {}
    except (OSError, ValueError):
        return {}
