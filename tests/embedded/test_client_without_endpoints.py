"""Client() and EtcdCoordinator() find the etcd that the commands of their environment use."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from etcd_server import EtcdServer

from mpfora import AsyncClient, Client, EtcdCoordinator, EtcdSettings
from mpfora.config.settings import SettingsError
from mpfora.errors import MpforaError


@pytest.fixture(autouse=True)
def none_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("MPFORA_ETCD", "MPFORA_NAMESPACE", "MPFORA_DATA"))]:
        if name != "MPFORA_ETCD_PROGRAM":
            monkeypatch.delenv(name)


def test_it_is_the_etcd_and_the_namespace_that_the_environment_names(
    etcd: EtcdServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MPFORA_ETCD", etcd.endpoint)
    monkeypatch.setenv("MPFORA_NAMESPACE", namespace)
    with Client() as client:
        client.submit("t1", {"n": 1})
        assert client.endpoints == etcd.endpoint
    with Client(etcd.endpoint, namespace) as named, Client(etcd.endpoint) as half:
        assert named.task("t1").id == half.task("t1").id == "t1"


async def test_an_argument_goes_before_the_environment(
    etcd: EtcdServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MPFORA_ETCD", "127.0.0.1:1")
    monkeypatch.setenv("MPFORA_NAMESPACE", "another")
    async with AsyncClient(EtcdSettings((etcd.endpoint,)), namespace) as client:
        await client.submit("t1")
        assert await client.ping()


def test_where_none_is_named_it_is_the_embedded_one_of_the_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MPFORA_DATA_DIR", str(tmp_path / "etcd"))
    monkeypatch.setenv("MPFORA_ETCD_LINGER", "0.1")
    with Client() as client:
        client.submit("t1", {"n": 1})
        told = subprocess.run(
            [sys.executable, "-m", "mpfora.cli", "task", "t1", "--json"], capture_output=True, text=True, check=True
        )
        assert '"t1"' in told.stdout
        assert client.endpoints in told.stderr


SCRIPT = """
from mpfora import Consumer, EtcdCoordinator


def double(task, ctx):
    return 2 * task.props["n"]


if __name__ == "__main__":
    Consumer(EtcdCoordinator(), double, name="n1").run()
"""


def test_a_node_of_a_program_joins_it_and_lets_it_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPFORA_DATA_DIR", str(tmp_path / "etcd"))
    monkeypatch.setenv("MPFORA_ETCD_LINGER", "0.1")
    monkeypatch.setenv("MPFORA_NAMESPACE", "scripted")
    (tmp_path / "app.py").write_text(SCRIPT)
    with Client() as client, subprocess.Popen([sys.executable, "app.py"], cwd=tmp_path) as node:
        client.submit("t1", {"n": 21})
        assert client.wait("t1", 30).result == 42
        assert [one.name for one in client.nodes()] == ["n1"]
        node.terminate()
        assert node.wait(20) == 0


def test_a_coordinator_that_is_closed_lets_the_embedded_etcd_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MPFORA_DATA_DIR", str(tmp_path / "etcd"))
    monkeypatch.setenv("MPFORA_ETCD_LINGER", "0.1")
    coordinator = EtcdCoordinator()
    assert has_etcd(tmp_path)
    asyncio.run(coordinator.close())
    ends = time.monotonic() + 20
    while has_etcd(tmp_path):
        assert time.monotonic() < ends
        time.sleep(0.05)


def has_etcd(folder: Path) -> bool:
    return any(
        str(folder / "etcd") in " ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])
    )


@pytest.mark.parametrize("make", [Client, EtcdCoordinator])
@pytest.mark.parametrize(
    ("variables", "name", "text"),
    [
        ({"MPFORA_ETCD": "a:b:c"}, "MPFORA_ETCD", "write HOST:PORT"),
        ({"MPFORA_ETCD": "a:1", "MPFORA_ETCD_USER": "eve"}, "MPFORA_ETCD_USER", "MPFORA_ETCD_PASSWORD"),
        ({"MPFORA_ETCD": "a:1", "MPFORA_ETCD_CERT": "/none"}, "MPFORA_ETCD_CERT", "there is no such file"),
        ({"MPFORA_ETCD_CACERT": "/none"}, "MPFORA_ETCD_CACERT", "needs MPFORA_ETCD"),
        ({"MPFORA_ETCD": "a:1", "MPFORA_ETCD_QUOTA": "much"}, "MPFORA_ETCD_QUOTA", "much"),
        ({"MPFORA_NAMESPACE": ".."}, "MPFORA_NAMESPACE", ".."),
    ],
)
def test_what_cannot_hold_is_named_by_its_variable(
    make: Callable[[], object], variables: dict[str, str], name: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    with pytest.raises(MpforaError) as caught:
        make()
    assert str(caught.value).startswith(f"{name}: ")
    assert text in str(caught.value)
    assert "--" not in str(caught.value)
    assert isinstance(caught.value, SettingsError)
