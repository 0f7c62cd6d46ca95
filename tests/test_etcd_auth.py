"""TLS with certificates made here, and authentication with tokens that do not live long."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime
import ipaddress
import json
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from etcd_server import EtcdServer
from test_etcd import run_will

from mpfora.config import EtcdSettings
from mpfora.etcd import Etcd
from mpfora.keys import Layout
from mpfora.kv import AccessDenied, Put, Txn, Unreachable
from mpfora.model import Member
from mpfora.supervisor.changes import OwnerGone, TaskPut
from mpfora.supervisor.coordinator import CoordinatorError, Update, Won
from mpfora.supervisor.etcd_coordinator import EtcdCoordinator
from mpfora.testing.conformance import COMPLETED, TTL_S, Watcher

PASSWORD = "correct horse"
TOKEN_TTL_S = 1


class Authority(NamedTuple):
    """A certificate authority of its own, in a folder."""

    folder: Path
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def path(self) -> Path:
        return self.folder / "ca.pem"


def make_authority(folder: Path) -> Authority:
    folder.mkdir()
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, folder.name)])
    certificate = (
        builder(name, name, key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    authority = Authority(folder, certificate, key)
    authority.path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return authority


def builder(subject: x509.Name, issuer: x509.Name, key: Any) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
    )


def issue(authority: Authority, name: str) -> tuple[Path, Path]:
    """(certificate, key) for 127.0.0.1, of server and client alike."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    certificate = (
        builder(subject, authority.certificate.subject, key.public_key())
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(usage, critical=False)
        .sign(authority.key, hashes.SHA256())
    )
    paths = authority.folder / f"{name}.pem", authority.folder / f"{name}.key"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(private_pem(key))
    return paths


def private_pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )


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
    assert isinstance((await node.claim([("t", None)]))[0], Won)
    will = node.will()
    assert will is not None
    assert str(authority.path) not in " ".join(will[0])
    ended = await asyncio.to_thread(run_will, *will, tmp_path)
    assert ended.returncode == 0, ended.stderr
    await watcher.sees(OwnerGone("t", clean=True))
    await watcher.close()
    for each in (client, node, other):
        await each.close()


@pytest.mark.parametrize("fault", ["wrong authority", "no certificate", "certificate of another", "no tls"])
async def test_what_does_not_fit_is_refused(
    secure: EtcdServer, authority: Authority, tmp_path: Path, fault: str
) -> None:
    wrong = make_authority(tmp_path / "wrong")
    good = issue(authority, "client")
    settings = {
        "wrong authority": tls(secure, wrong.path, good),
        "no certificate": tls(secure, authority.path, None),
        "certificate of another": tls(secure, authority.path, issue(wrong, "client")),
        "no tls": tls(secure, None, None),
    }[fault]
    client = Etcd(settings)
    with pytest.raises(Unreachable, match=secure.endpoint):
        await client.put("/x", "", 0)
    await client.close()


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
    [answer] = await node.claim([("t", None)])
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
