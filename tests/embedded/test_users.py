"""The users of the embedded etcd: who is told what, and when the keeper is alone."""

from __future__ import annotations

import selectors
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from mpfora.embedded.folder import BYE
from mpfora.embedded.users import Users

HELLO = b'{"endpoint": "unix:/x"}\n'


class Site:
    """The users at a socket, and a test's connections to it."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(self.path)
        listener.listen(8)
        listener.setblocking(False)
        self.selector = selectors.DefaultSelector()
        self.notes: list[str] = []
        self.users = Users(self.selector, listener, linger_s=2.0, note=self.notes.append)
        self.clients: list[socket.socket] = []

    def connect(self) -> socket.socket:
        client = socket.socket(socket.AF_UNIX)
        client.connect(self.path)
        client.setblocking(False)
        self.clients.append(client)
        self.turn()
        return client

    def turn(self) -> None:
        for key, _ in self.selector.select(5.0):
            key.data()

    def close(self) -> None:
        self.users.dismiss()
        for client in self.clients:
            client.close()
        self.selector.close()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path / "s")
    yield made
    made.close()


def heard(client: socket.socket) -> bytes:
    try:
        return client.recv(4096)
    except BlockingIOError:
        return b"nothing"


def test_who_comes_early_is_told_when_etcd_serves_and_who_comes_later_at_once(site: Site) -> None:
    early = site.connect()
    assert heard(early) == b"nothing"
    site.users.serve(HELLO)
    assert heard(early) == HELLO
    assert heard(site.connect()) == HELLO
    assert heard(early) == b"nothing", "it was told once"


def test_who_comes_while_etcd_is_started_again_is_told_when_it_serves_again(site: Site) -> None:
    before = site.connect()
    site.users.serve(HELLO)
    site.users.serve_no_more()
    meanwhile = site.connect()
    assert heard(meanwhile) == b"nothing"
    site.users.serve(HELLO)
    assert heard(meanwhile) == HELLO
    assert (heard(before), heard(before)) == (HELLO, b"nothing")


def test_it_is_alone_when_the_last_has_gone(site: Site) -> None:
    assert site.users.alone_until is not None, "the first is waited for"
    one, other = site.connect(), site.connect()
    assert site.users.alone_until is None
    one.close()
    site.turn()
    assert site.users.alone_until is None
    other.close()
    site.turn()
    assert site.users.alone_until is not None
    site.users.tell(b"nobody hears it")


def test_all_are_told_goodbye(site: Site) -> None:
    clients = [site.connect(), site.connect()]
    site.users.dismiss()
    assert [heard(client) for client in clients] == [BYE, BYE]
