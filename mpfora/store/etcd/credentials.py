"""The TLS files of a client: read, judged, and read again, since certificates are renewed on disk while it runs.

A connection that stands is not touched by a new certificate. One that fails may fail because of an old one: whoever
sees that asks `reread`, and connects anew if the files say something else by then.
"""

from __future__ import annotations

import logging
import ssl
from pathlib import Path
from typing import NamedTuple

import grpc

from mpfora.config.settings import EtcdSettings
from mpfora.store.kv import StoreError

log = logging.getLogger("mpfora.etcd")


class BadTls(StoreError):
    """TLS settings that cannot hold. option: the one to look at, as it is typed."""

    def __init__(self, option: str, text: str) -> None:
        super().__init__(f"{option}: {text}")
        self.option, self.text = option, text


class TlsFiles(NamedTuple):
    """What the files hold; None: the settings name no such file."""

    cacert: bytes | None
    cert: bytes | None
    key: bytes | None


class Credentials:
    """What a client shows to etcd when it connects. is_secure: whether that is TLS at all."""

    def __init__(self, settings: EtcdSettings) -> None:
        """Raises BadTls for settings that cannot hold, naming the option."""
        self._settings = settings
        self.is_secure = is_secure(settings)
        self._files = read_files(settings)
        self._complaint = ""
        if self.is_secure:
            check_files(settings)

    def make(self) -> grpc.ChannelCredentials | None:
        """The credentials of one channel. None: without TLS."""
        if not self.is_secure:
            return None
        return grpc.ssl_channel_credentials(self._files.cacert, self._files.key, self._files.cert)

    def reread(self) -> bool:
        """Look at the files again. True: they have changed, and `make` gives what they hold now.

        Files that cannot be used, as in the middle of a renewal, leave those in use that were read before."""
        if not self.is_secure:
            return False
        try:
            files = read_files(self._settings)
            if files == self._files:
                return False
            check_files(self._settings)
        except StoreError as error:
            self._complain(str(error))
            return False
        self._files, self._complaint = files, ""
        log.info("the TLS files of etcd have changed: connecting with the new ones")
        return True

    def _complain(self, text: str) -> None:
        """Log a complaint, once."""
        if text != self._complaint:
            log.warning("%s; the files that were read before stay in use", text)
        self._complaint = text


def is_secure(settings: EtcdSettings) -> bool:
    """Whether these settings mean TLS. Raises BadTls where they mean both."""
    named = [endpoint.strip() for endpoint in settings.endpoints]
    plain = [endpoint for endpoint in named if not endpoint.startswith("https://")]
    options = {"--etcd-cacert": settings.cacert, "--etcd-cert": settings.cert, "--etcd-key": settings.key}
    given = [option for option, path in options.items() if path]
    if plain and len(plain) < len(named):
        raise BadTls("--etcd", f"{plain[0]} is without TLS and others are with it: write https:// before all or none")
    if given and (bare := next((each for each in plain if each.startswith(("http://", "unix:"))), None)):
        raise BadTls("--etcd", f"{bare} is without TLS, and {given[0]} is given: write https://, or leave it out")
    return not plain or bool(given)


def read_files(settings: EtcdSettings) -> TlsFiles:
    """Raises BadTls."""
    if (settings.cert is None) != (settings.key is None):
        raise BadTls("--etcd-cert", "a certificate needs its key: --etcd-cert and --etcd-key go together")
    return TlsFiles(
        _pem(settings.cacert, "--etcd-cacert", "CERTIFICATE"),
        _pem(settings.cert, "--etcd-cert", "CERTIFICATE"),
        _pem(settings.key, "--etcd-key", "PRIVATE KEY"),
    )


def _pem(path: str | None, option: str, label: str) -> bytes | None:
    if path is None:
        return None
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise BadTls(option, f"{path}: {error.strerror}") from None
    if b"-----BEGIN" not in data:
        raise BadTls(option, f"{path}: is not a PEM file")
    if label.encode() + b"-----" not in data:
        found = data.partition(b"-----BEGIN ")[2].partition(b"-----")[0].decode(errors="replace")[:40]
        raise BadTls(option, f"{path}: holds a {found} and no {label}: is it swapped with another file?")
    if b"ENCRYPTED" in data:
        raise BadTls(option, f"{path}: the key is encrypted: write it without a passphrase")
    return data


def check_files(settings: EtcdSettings) -> None:
    """Raises BadTls if no connection can be made with these files."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if settings.cacert is not None:
        try:
            context.load_verify_locations(settings.cacert)
        except (ssl.SSLError, OSError) as error:
            raise BadTls("--etcd-cacert", f"{settings.cacert}: no certificate can be read from it ({error})") from None
    if settings.cert is not None and settings.key is not None:
        try:
            context.load_cert_chain(settings.cert, settings.key, password=lambda: b"")
        except (ssl.SSLError, OSError) as error:
            raise BadTls("--etcd-cert", _mismatch(settings, error)) from None


def _mismatch(settings: EtcdSettings, error: OSError) -> str:
    reason = getattr(error, "reason", "") or str(error)
    if reason == "KEY_VALUES_MISMATCH":
        return f"{settings.cert}: its key is not the one in --etcd-key {settings.key}"
    return f"{settings.cert} and --etcd-key {settings.key}: they cannot be read ({reason})"
