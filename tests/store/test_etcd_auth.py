"""TLS with certificates made here, and authentication with tokens that do not live long."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from authorities import Authority, issue, make_authority, private_pem
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from etcd_server import EtcdServer
from last_wills import run_will
from node import environment
from places import SUPPORT

from mpfora.client import Client
from mpfora.cluster.changes import OwnerGone, TaskPut
from mpfora.config.etcd_location import Where, parse_endpoints
from mpfora.config.settings import EtcdSettings, SettingsError
from mpfora.embedded.choice import etcd_settings
from mpfora.errors import MpforaError
from mpfora.model.task import Member
from mpfora.store.etcd import Etcd
from mpfora.store.keys import Layout
from mpfora.store.kv import AccessDenied, Put, Txn, Unreachable, Unusable
from mpfora.supervisor.coordinator.etcd import EtcdCoordinator
from mpfora.supervisor.coordinator.interface import ClaimRequest, CoordinatorError, Update, Won
from mpfora.testing.conformance import COMPLETED, TTL_S, Watcher

PASSWORD = "correct horse"
TOKEN_TTL_S = 1


# -- TLS --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("tls") / "right")


@pytest.fixture(scope="module")
def secure(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdServer]:
    server = EtcdServer(tmp_path_factory.mktemp("secure"), tls=(authority.path, *issue(authority, "server")))
    yield server
    server.kill()


def tls(server: EtcdServer, cacert: Path | None, pair: tuple[Path, Path] | None) -> EtcdSettings:
    cert, key = map(str, pair) if pair else (None, None)
    return EtcdSettings((server.endpoint,), cacert=str(cacert) if cacert else None, cert=cert, key=key)


async def test_a_node_over_tls(secure: EtcdServer, authority: Authority, namespace: str, tmp_path: Path) -> None:
    settings = tls(secure, authority.path, issue(authority, "client"))
    node, other = EtcdCoordinator(settings, namespace), EtcdCoordinator(settings, namespace)
    await node.open(Member("n1"), TTL_S)
    await other.open(Member("n2"), TTL_S)
    watcher = Watcher(other)
    await watcher.until(lambda: watcher.batches)
    client = Etcd(settings)
    await client.put(Layout(namespace).task("t"), "")
    await watcher.sees(TaskPut("t"))
    assert isinstance((await node.claim([ClaimRequest("t")]))[0], Won)
    will = node.will()
    assert will is not None
    assert str(authority.path) not in " ".join(will[0])
    ended = await asyncio.to_thread(run_will, *will, tmp_path)
    assert ended.returncode == 0, ended.stderr
    await watcher.sees(OwnerGone("t", clean=True))
    await watcher.close()
    for each in (client, node, other):
        await each.close()


def words(settings: EtcdSettings) -> str:
    """What a client says that cannot connect."""

    async def ask() -> str:
        client = Etcd(settings)
        try:
            with pytest.raises(Unusable) as caught:
                await client.put("/x", "", 0)
            return str(caught.value)
        finally:
            await client.close()

    return asyncio.run(ask())


def swapped(pair: tuple[Path, Path]) -> tuple[Path, Path]:
    return pair[1], pair[0]


FAULTS = {
    "wrong authority": r"its certificate is not signed by the authority in --etcd-cacert \S+/wrong/ca.pem \(.+\)",
    "no authority": r"its certificate is not signed by one that this machine trusts \(.+\); .* with --etcd-cacert",
    "no certificate": r"it asks for a client certificate: give --etcd-cert and --etcd-key \(.+\)",
    "certificate of another": r"it refuses the certificate in --etcd-cert \S+ \(.+\): .* signed by 'wrong'",
    "certificate has expired": r"it refuses the certificate in --etcd-cert \S+ \(.+\): it has expired on ",
    "wrong host": r"its certificate is of another host: .*'localhost'",
    "no tls": r"it speaks TLS, and is asked without: write https://",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_does_not_fit_is_told_in_words(
    secure: EtcdServer, authority: Authority, tmp_path: Path, fault: str
) -> None:
    wrong = make_authority(tmp_path / "wrong")
    good = issue(authority, "client")
    settings = {
        "wrong authority": tls(secure, wrong.path, good),
        "no authority": EtcdSettings((f"https://{secure.endpoint}",)),
        "no certificate": tls(secure, authority.path, None),
        "certificate of another": tls(secure, authority.path, issue(wrong, "client")),
        "certificate has expired": tls(secure, authority.path, issue(authority, "late", lives_s=-60)),
        "wrong host": replace(tls(secure, authority.path, good), endpoints=(f"localhost:{secure.port}",)),
        "no tls": tls(secure, None, None),
    }[fault]
    said = words(settings)
    assert re.search(FAULTS[fault], said), said
    assert str(secure.port) in said
    assert "\n" not in said


def test_the_command_line_and_a_node_say_it_in_one_line(
    secure: EtcdServer, authority: Authority, tmp_path: Path
) -> None:
    """gRPC has lines of its own to add, on standard error and of several kinds."""
    wrong = make_authority(tmp_path / "wrong")
    settings = tls(secure, wrong.path, issue(authority, "client"))
    where = ["--etcd", secure.endpoint, "--etcd-cacert", settings.cacert, "--etcd-cert", settings.cert]
    where += ["--etcd-key", settings.key]
    said = FAULTS["wrong authority"]
    for program, begins in (
        (["-m", "mpfora.cli", *where, "tasks"], "mpfora: etcd at .* cannot be used"),
        (["-m", "mpfora.supervisor", *where, "node_handlers:tell"], "mpfora: no answer within 10 s of the start: "),
    ):
        ended = subprocess.run(
            [sys.executable, *map(str, program)],
            cwd=SUPPORT,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=60,
        )
        (line,) = [line for line in ended.stderr.splitlines() if not re.match(r"\d{4}-.* info ", line)]
        assert ended.returncode == 3
        assert re.search(f"^{begins}.*{said}", line), ended.stderr


def test_a_server_s_certificate_that_has_expired_is_told(authority: Authority, tmp_path: Path) -> None:
    server = EtcdServer(tmp_path, tls=(authority.path, *issue(authority, "expired", lives_s=-60)))
    try:
        said = words(tls(server, authority.path, issue(authority, "client")))
    finally:
        server.kill()
    assert "its certificate cannot be trusted: certificate has expired (by the clock of this machine)" in said


def test_a_server_without_tls_is_told(etcd: EtcdServer, authority: Authority) -> None:
    said = words(EtcdSettings((etcd.endpoint,), cacert=str(authority.path)))
    assert "it does not speak TLS, and is asked to: leave out https://, --etcd-cacert" in said


@pytest.mark.parametrize(
    ("pair", "says"),
    [
        (swapped, r"--etcd-cert: \S+client.key: holds a EC PRIVATE KEY and no CERTIFICATE: is it swapped"),
        (lambda pair: (pair[0], pair[0]), "--etcd-key: .* holds a CERTIFICATE and no PRIVATE KEY: is it swapped"),
        (
            lambda pair: (pair[0], pair[1].with_name("other.key")),
            "--etcd-cert: .* its key is not the one in --etcd-key",
        ),
    ],
)
def test_files_that_do_not_fit_are_refused_at_once(
    authority: Authority, pair: Callable[[tuple[Path, Path]], tuple[Path, Path]], says: str
) -> None:
    good = issue(authority, "client")
    issue(authority, "other")
    cert, key = map(str, pair(good))
    with pytest.raises(SettingsError, match=says):
        etcd_settings(Where(etcd="127.0.0.1:1", cacert=str(authority.path), cert=cert, key=key))


@pytest.mark.parametrize(
    ("etcd", "cacert", "says"),
    [
        ("http://a,https://b", None, "--etcd: http://a:2379 is without TLS and others are with it"),
        ("https://a,b", None, "--etcd: b:2379 is without TLS and others are with it"),
        ("https://a,unix:/run/etcd.sock", None, "--etcd: unix:/run/etcd.sock is without TLS"),
        ("http://a,b", "ca", "--etcd: http://a:2379 is without TLS, and --etcd-cacert is given"),
        ("ann:secret@a:2379", None, "--etcd: no user or password in it: give --etcd-user and MPFORA_ETCD_PASSWORD"),
    ],
)
def test_endpoints_with_and_without_tls_are_not_mixed(
    authority: Authority, etcd: str, cacert: str | None, says: str
) -> None:
    with pytest.raises(SettingsError, match=re.escape(says)) as caught:
        etcd_settings(Where(etcd=etcd, cacert=str(authority.path) if cacert else None))
    assert "secret" not in str(caught.value)
    if "@" not in etcd:
        with pytest.raises(MpforaError, match="is without TLS"):
            Client(EtcdSettings(parse_endpoints(etcd), cacert=str(authority.path) if cacert else None)).ping()


async def test_certificates_that_are_renewed_on_disk_are_read_again(authority: Authority, tmp_path: Path) -> None:
    """As by cert-manager: the path stays, and what it leads to is another."""
    lives_s = 4
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    current = tmp_path / "current"
    current.symlink_to("first")
    server = EtcdServer(tmp_path, tls=(authority.path, *issue(authority, "lasting")))
    first = issue(authority, "short", lives_s)
    for path in first:
        shutil.copy(path, tmp_path / "first")
    settings = tls(server, authority.path, (current / "short.pem", current / "short.key"))
    client, node = Etcd(settings), EtcdCoordinator(settings, "renewed")
    try:
        await node.open(Member("n1"), 60)
        will = node.will()
        assert will is not None
        watcher = Watcher(node)
        await watcher.until(lambda: watcher.batches)
        await asyncio.sleep(lives_s)
        await asyncio.to_thread(server.restart)  # what is connected stays so; whoever connects again is refused
        with pytest.raises(Unusable, match="it has expired on"):
            await once_reconnected(client.put, Layout("renewed").task("a"), "")
        with pytest.raises(CoordinatorError, match="it has expired on"):
            await node.renew()
        for path in issue(authority, "short"):
            shutil.copy(path, tmp_path / "second")
        current.unlink()
        current.symlink_to("second")
        shutil.rmtree(tmp_path / "first")
        await client.put(Layout("renewed").task("a"), "")
        assert await node.renew() == 60
        await watcher.sees(TaskPut("a"))
        ended = await asyncio.to_thread(run_will, *will, tmp_path)
        assert ended.returncode == 0, ended.stderr
        await watcher.close()
    finally:
        await node.close()
        await client.close()
        server.kill()


async def once_reconnected(call: Callable[..., Awaitable[None]], *args: str) -> None:
    """Made again where the connection merely broke under it."""
    while True:
        try:
            return await call(*args)
        except Unusable:
            raise
        except Unreachable:
            await asyncio.sleep(0.05)


# -- passwords --------------------------------------------------------------------------------------------------------


def jwt_keys(folder: Path) -> tuple[Path, Path]:
    key = rsa.generate_private_key(65537, 2048)
    private, public = folder / "jwt.key", folder / "jwt.pub"
    private.write_bytes(private_pem(key))
    public.write_bytes(
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return private, public


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdServer]:
    """A server with authentication on, whose tokens live TOKEN_TTL_S whether they are used or not."""
    folder = tmp_path_factory.mktemp("guarded")
    private, public = jwt_keys(folder)
    token = f"jwt,pub-key={public},priv-key={private},sign-method=RS256,ttl={TOKEN_TTL_S}s"
    server = EtcdServer(folder, ["--auth-token", token, "--bcrypt-cost", "4"])
    server.enable_authentication(PASSWORD)
    yield server
    server.kill()


def ann(server: EtcdServer, password: str = PASSWORD, user: str = "ann") -> EtcdSettings:
    return EtcdSettings((server.endpoint,), user=user, password=password)


def spoiled(client: Etcd) -> Etcd:
    """The client with a token that etcd does not know (any more)."""
    client.calls._token = "spoiled.token.x"
    return client


async def expired(client: Etcd) -> None:
    """Wait until the token that the client holds is no longer valid: it says itself when, in whole seconds."""
    assert client.calls._token is not None
    claims = client.calls._token.split(".")[1]
    ends = json.loads(base64.urlsafe_b64decode(claims + "=="))["exp"]
    await asyncio.sleep(max(0.0, ends - time.time() + 1.1))


@pytest.fixture
async def member(guarded: EtcdServer) -> AsyncGenerator[Etcd, None]:
    client = Etcd(ann(guarded))
    yield client
    await client.close()


async def test_a_refused_token_is_replaced_under_every_call(member: Etcd) -> None:
    await member.put("/auth/a", "1")
    lease = await spoiled(member).grant(30)
    await asyncio.gather(*(spoiled(member).put(f"/auth/{index}", "1", lease.id) for index in range(20)))
    assert await spoiled(member).keepalive(lease.id) == 30
    assert await spoiled(member).get("/auth/a") is not None
    assert len(await spoiled(member).lease_keys(lease.id)) == 20
    assert (await spoiled(member).list("/auth/", "/auth0")).kvs
    await spoiled(member).status()
    await spoiled(member).revoke(lease.id)


async def test_many_calls_with_a_refused_token_authenticate_once(member: Etcd, monkeypatch: pytest.MonkeyPatch) -> None:
    await member.put("/auth/a", "1")
    stub = spoiled(member).calls.members.current.auth
    authenticate, asked = stub.Authenticate, []

    def counted(request: Any, **options: Any) -> Any:
        asked.append(request.name)
        return authenticate(request, **options)

    monkeypatch.setattr(stub, "Authenticate", counted)
    await asyncio.gather(*(member.txn(Txn((), (Put(f"/auth/{i}", ""),))) for i in range(20)))
    assert asked == ["ann"]


async def test_a_watch_begins_with_an_expired_token(member: Etcd) -> None:
    await member.put("/auth/w", "1")
    start = (await member.list("/auth/", "/auth0")).revision
    spoiled(member)
    async with contextlib.aclosing(member.watch("/auth/", "/auth0", start)) as watch:
        async with asyncio.timeout(10):
            revision = await anext(watch)
    assert revision.events[0].key == "/auth/w"


async def test_a_watch_goes_on_after_a_restart_with_expired_tokens(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    server = EtcdServer(tmp_path, ["--auth-token-ttl", "1", "--bcrypt-cost", "4"])
    request.addfinalizer(server.kill)
    server.enable_authentication(PASSWORD)
    node = EtcdCoordinator(ann(server), "auth")
    writer = Etcd(ann(server))
    await node.open(Member("n1"), TTL_S)
    watcher = Watcher(node)
    await writer.put(Layout("auth").task("a"), "")
    await watcher.sees(TaskPut("a"))
    await asyncio.to_thread(server.restart)
    # simple tokens are kept in memory: none of them outlives its server
    async with asyncio.timeout(20):
        while True:
            with contextlib.suppress(Unreachable):
                await writer.put(Layout("auth").task("b"), "")
                break
            await asyncio.sleep(0.05)
    await watcher.sees(TaskPut("b"))
    assert [batch.reset for batch in watcher.batches] == [True, *[False] * (len(watcher.batches) - 1)]
    await watcher.close()
    await node.close()
    await writer.close()


async def test_a_node_with_a_password(guarded: EtcdServer, tmp_path: Path) -> None:
    node = EtcdCoordinator(ann(guarded), "auth")
    await node.open(Member("n1"), TTL_S)
    await node._etcd.put(Layout("auth").task("t"), "")
    await expired(node._etcd)
    assert await node.renew() == TTL_S
    [answer] = await node.claim([ClaimRequest("t")])
    assert isinstance(answer, Won)
    assert await node.done(answer.claim, Update(state=COMPLETED))
    will = node.will()
    assert will is not None
    assert PASSWORD not in " ".join(will[0])
    ended = await asyncio.to_thread(run_will, *will, tmp_path)
    assert ended.returncode == 0, ended.stderr
    await node.close()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (lambda server: ann(server, password="wrong"), "does not accept this user and password"),
        (lambda server: ann(server, user="bob"), "does not accept this user and password"),
        (lambda server: EtcdSettings((server.endpoint,)), "asks for a user and password"),
    ],
)
async def test_who_is_not_let_in_is_told_why(
    guarded: EtcdServer, settings: Callable[[EtcdServer], EtcdSettings], says: str
) -> None:
    client = Etcd(settings(guarded))
    with pytest.raises(AccessDenied, match=says):
        await client.put("/auth/x", "")
    with pytest.raises(AccessDenied, match=says):
        await client.list("/auth/", "/auth0")
    with pytest.raises(AccessDenied):
        await anext(client.watch("/auth/", "/auth0", 1))
    await client.close()
    node = EtcdCoordinator(settings(guarded), "auth")
    with pytest.raises(CoordinatorError, match=says):
        await node.open(Member("n1"), TTL_S)
    await node.close()


async def test_a_role_that_does_not_reach_so_far(member: Etcd, guarded: EtcdServer) -> None:
    with pytest.raises(AccessDenied, match="grant the user's role"):
        await member.put("/elsewhere/x", "")
    with pytest.raises(AccessDenied, match="grant the user's role"):
        async with asyncio.timeout(10):
            await anext(member.watch("/elsewhere/", "/elsewhere0", 1))
    node = EtcdCoordinator(ann(guarded), "elsewhere")
    with pytest.raises(CoordinatorError, match="grant the user's role"):
        await node.open(Member("n1"), TTL_S)
    await node.close()


async def test_a_password_where_none_is_asked_for_is_no_error(etcd: EtcdServer, namespace: str) -> None:
    client = Etcd(ann(etcd))
    await client.put(f"/{namespace}/a", "")
    await client.close()
