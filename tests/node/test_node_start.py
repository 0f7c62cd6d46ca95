"""A node's start: what it refuses, by which exit code and line, and where its settings and handlers come from."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from etcd_server import EtcdServer, encoded, free_port
from node import LIMIT_S, Node, Site, command, environment, until
from places import SUPPORT
from signal_state import kept_signals

from mpfora.embedded.folder import Folder
from mpfora.embedded.gateway import Gateway, GatewayError
from mpfora.supervisor.__main__ import run

#: nothing listens there: what fails before etcd is asked does not mind
NOWHERE = "127.0.0.1:1"


def attempt(*arguments: str, cwd: Path = SUPPORT, env: dict[str, str] | None = None, **options: Any) -> tuple[int, str]:
    """The exit code and standard error of a node that is not to start."""
    options.setdefault("etcd", NOWHERE)
    done = subprocess.run(
        command(*arguments, **options),
        cwd=cwd,
        env=environment(**(env or {})),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.stdout == ""
    return done.returncode, done.stderr


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(textwrap.dedent(text))
    return path


# -- what is refused --------------------------------------------------------------------------------------------------

#: arguments, and what the one line of exit 2 says: tried with a process each
WHOLE_USAGE: list[tuple[list[str], list[str]]] = [
    ([], ["no handler given", "module:attribute"]),
    (["zoo:sleep", "--nope"], ["--nope"]),
    (["zoo:sleep", "--lease-ttl", "1"], ["--lease-ttl", "at least 3 s"]),
    (["zoo:sleep", "--namespace", "/"], ["--namespace"]),
    (["zoo:sleep", "--etcd", "host:port"], ["--etcd", "HOST:PORT"]),
    (["zoo:sleep", "--etcd-cert", "/dev/null"], ["--etcd-key"]),
]
#: the same, tried by the program's own function, for the sake of time
USAGE: list[tuple[list[str], list[str]]] = [
    (["zoo"], ["handler 'zoo'", "module:attribute"]),
    (["a=zoo:sleep", "a=zoo:result"], ["two handlers are called 'a'"]),
    (["zoo:sleep", "--lease-ttl", "soon"], ["--lease-ttl", "'soon'", "90s"]),
    (["zoo:sleep", "--stop-timeout", "0"], ["--stop-timeout", "over 0"]),
    (["zoo:sleep", "--memory-limit", "much"], ["--memory-limit", "'much'", "2GiB"]),
    (["zoo:sleep", "--max-tasks", "-1"], ["--max-tasks", "-1"]),
    (["zoo:sleep", "--label", "gpu"], ["--label", "'gpu'", "KEY=VALUE"]),
    (["zoo:sleep", "--name", "a/b"], ["--name", "'a/b'"]),
    (["zoo:sleep", "--balancer", "best"], ["--balancer", "'best'", "fair"]),
    (["zoo:sleep", "--balancer", "nowhere:best"], ["--balancer", "nowhere"]),
    (["zoo:sleep", "--balancer", "json:best"], ["--balancer", "best"]),
    (["zoo:sleep", "--balancer", "json:dumps"], ["--balancer", "json:dumps"]),
    (["zoo:sleep", "--balancer", "os:getpid"], ["--balancer", "int", "mpfora.Balancer"]),
    (["zoo:sleep", "--log-level", "loud"], ["--log-level", "loud", "warning"]),
    (["zoo:sleep", "--config", "/nowhere.toml"], ["--config", "/nowhere.toml", "No such file"]),
]
#: content of the --config file, and what the one line of exit 2 says
FILES: list[tuple[str, list[str]]] = [
    ("max-tasks = = 1", ["--config", "not TOML", "line 1"]),
    ("max-task = 1", ["--config", "unknown setting 'max-task'", "max-tasks"]),
    ("max-tasks = 'many'", ["line 1: max-tasks", "'many'"]),
    ("lease-ttl = 1", ["--lease-ttl", "at least 3 s"]),
    ("lease-ttl = [15]", ["line 1: lease-ttl", "[15]"]),
]
#: content of the handlers' module, and what the text of exit 5 says
MODULES: list[tuple[str, list[str]]] = [
    ("import nowhere_to_be_found", ["ModuleNotFoundError", "import nowhere_to_be_found", "line 1"]),
    ("def run(task, ctx):\n    return 1 / 0\nrun(1, 2)", ["ZeroDivisionError", "return 1 / 0", "line 2, in run"]),
    ("def run(task, ctx)\n    pass", ["SyntaxError", "def run(task, ctx)"]),
    ("def runn(task, ctx): pass", ["has no attribute 'run'", "is 'runn' meant?"]),
    ("import sys\nsys.exit(0)", ["sys.exit(0)", "if __name__ == '__main__'"]),
    ("def run(task): pass", ["must accept (task, ctx)", "(task)"]),
    ("import os\nos._exit(0)", ["did not start", "exited with code 0"]),
    ("import os\nos.kill(os.getpid(), 9)", ["did not start", "signal 9"]),
]


@dataclass
class Attempts:
    """Exit codes and standard errors of nodes that did not start, by their arguments, modules or endpoints."""

    usage: dict[str, tuple[int, str]]
    modules: list[tuple[int, str]]
    no_module: tuple[int, str]
    unreachable: dict[str, tuple[int, str]]


@pytest.fixture(scope="module")
def attempts(tmp_path_factory: pytest.TempPathFactory) -> Attempts:
    """All made here, a few at a time."""
    folder = tmp_path_factory.mktemp("attempts")

    def home(number: int, text: str) -> Path:
        (folder / str(number)).mkdir()
        write(folder / str(number), "handlers.py", text)
        return folder / str(number)

    with ThreadPoolExecutor(5) as pool, socket.create_server(("127.0.0.1", 0)) as mute:
        nobody, silent = f"127.0.0.1:{free_port()}", f"127.0.0.1:{mute.getsockname()[1]}"
        unreachable = {each: pool.submit(attempt, "zoo:sleep", etcd=each) for each in (nobody, silent)}
        usage = {" ".join(arguments): pool.submit(attempt, *arguments) for arguments, _ in WHOLE_USAGE}
        modules = [pool.submit(attempt, "handlers:run", cwd=home(n, text)) for n, (text, _) in enumerate(MODULES)]
        no_module = pool.submit(attempt, "nowhere.at_all:run", cwd=folder)
        return Attempts(
            usage={name: future.result() for name, future in usage.items()},
            modules=[future.result() for future in modules],
            no_module=no_module.result(),
            unreachable={endpoint: future.result() for endpoint, future in unreachable.items()},
        )


def refused(code: object, line: str, says: list[str]) -> None:
    assert code == 2, line
    assert line.count("\n") == 1, line
    for text in says:
        assert text in line


@pytest.mark.parametrize(("arguments", "says"), WHOLE_USAGE, ids=lambda value: " ".join(value[-2:]))
def test_bad_usage_is_exit_2_and_one_line(attempts: Attempts, arguments: list[str], says: list[str]) -> None:
    refused(*attempts.usage[" ".join(arguments)], says)


@pytest.mark.parametrize(("arguments", "says"), USAGE, ids=lambda value: " ".join(value[-2:]))
def test_bad_usage_is_refused_by_the_program(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], says: list[str]
) -> None:
    refused(*leave(monkeypatch, capsys, arguments), says)


@pytest.mark.parametrize(("text", "says"), FILES, ids=lambda value: value if isinstance(value, str) else "")
def test_a_bad_file_is_exit_2_and_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, says: list[str]
) -> None:
    path = write(tmp_path, "node.toml", text)
    refused(*leave(monkeypatch, capsys, ["zoo:sleep", "--config", str(path)]), says)


def leave(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> tuple[object, str]:
    """The program's exit code and standard error, without a process: for what is refused before anything is begun."""
    monkeypatch.setattr(sys, "argv", ["node", *arguments])
    monkeypatch.setattr(sys, "path", [*sys.path])
    with kept_signals(), pytest.raises(SystemExit) as left:
        run()
    return left.value.code, capsys.readouterr().err


@pytest.mark.parametrize("number", range(len(MODULES)), ids=lambda n: MODULES[n][1][0])
def test_a_handler_that_cannot_be_imported_is_exit_5_with_its_traceback(attempts: Attempts, number: int) -> None:
    code, text = attempts.modules[number]
    assert code == 5, text
    for part in MODULES[number][1]:
        assert part in text
    assert "mpfora/supervisor" not in text


def test_a_module_that_is_not_there_is_exit_5(attempts: Attempts) -> None:
    code, text = attempts.no_module
    assert code == 5
    assert "there is no module 'nowhere', neither in /" in text


def test_an_etcd_that_does_not_answer_is_exit_3_and_named(attempts: Attempts) -> None:
    """One where nobody listens, and one that takes connections and says nothing."""
    for endpoint, (code, text) in attempts.unreachable.items():
        assert code == 3, text
        *logged, line = text.splitlines()
        assert line.startswith("mpfora: ")
        assert endpoint in line
        assert all(each.split()[1] in ("info", "warning") for each in logged), text


# -- names ------------------------------------------------------------------------------------------------------------


def test_a_name_that_is_taken_is_exit_4_and_names_the_holder(etcd: EtcdServer, namespace: str) -> None:
    with Site(etcd, namespace) as site:
        first = site.start("zoo:sleep", name="twin")
        second = site.start("zoo:sleep", name="twin", joined=False)
        assert second.exit_code() == 4
        second.log.join()
        (line,) = second.log.find("^mpfora:")
        assert f"'twin' is taken by a node on host {socket.gethostname()!r} with pid {first.pid}" in line
        assert "--name" in line
        assert first.stop() == 0
        third = site.start("zoo:sleep", name="twin")
        assert third.stop() == 0


def test_a_node_that_is_started_right_after_its_death_waits_for_its_former_lease(
    etcd: EtcdServer, namespace: str
) -> None:
    with Site(etcd, namespace) as site:
        first = site.start("zoo:sleep", lease_ttl=20)
        site.submit("t")
        child, zygote = first.child("t"), first.zygote
        lease = etcd.post("kv/range", {"key": encoded(site.layout.member("n1").encode())})["kvs"][0]["lease"]
        for number in (signal.SIGSTOP, signal.SIGKILL):  # the zygote first: its supervisor's death continues it
            os.kill(zygote, number)
            first.send(number)
        first.wait_empty()
        again = site.start("zoo:sleep", lease_ttl=20, joined=False)
        again.log.wait(f"waiting for the lease of a former life of this node .pid {first.pid}")
        etcd.post("lease/revoke", {"ID": lease})  # as if it had run out by now
        again.wait_joined()
        assert again.child("t") != child
        assert again.stop() == 0


# -- where settings come from -----------------------------------------------------------------------------------------


def test_flags_win_over_the_environment_and_that_over_the_file(
    etcd: EtcdServer, namespace: str, tmp_path: Path
) -> None:
    text = f"""
        etcd = "{etcd.endpoint}"
        namespace = "{namespace}"
        handlers = ["result=zoo:result", "zoo:sleep"]
        name = "of-the-file"
        max-tasks = 11
        lease_ttl = "30s"
        [label]
        disk = "ssd"
        rack = "4"
    """
    path = write(tmp_path, "node.toml", text)
    env = {"MPFORA_CONFIG": str(path), "MPFORA_NAME": "of-the-environment", "MPFORA_MAX_TASKS": "12"}
    with Site(etcd, namespace) as site:
        node = site.run(command(name="of-the-flags"), env=env)
        node.wait_joined()
        record = json.loads(site.content()["nodes/of-the-flags/_metafora"])
        assert record["capacity"] == 12
        assert record["labels"] == {"disk": "ssd", "rack": "4"}
        assert record["handlers"] == ["result", "zoo:sleep"]
        assert (record["pid"], record["host"]) == (node.pid, socket.gethostname())
        assert node.stop() == 0


def test_without_an_etcd_the_embedded_one_is_started_and_said_so(tmp_path: Path) -> None:
    node = Node(command("zoo:sleep", data_dir=tmp_path / "etcd", name="n1"), env={"MPFORA_ETCD_LINGER": "0"})
    try:
        said = node.log.wait(r"no --etcd given: started the embedded etcd at (\S+)")
        node.wait_joined()
        assert node.stop() == 0
        assert said[1] == f"unix:{tmp_path}/etcd/etcd.sock"
    finally:
        node.end()


def test_an_embedded_etcd_that_a_node_brought_back_outlives_the_node_s_zygote(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "etcd")
    node = Node(command("zoo:sleep", data_dir=folder.path, name="n1"), env={"MPFORA_ETCD_LINGER": "1"})
    try:
        node.wait_joined()
        keeper = folder.read_record()["pid"]
        os.kill(keeper, signal.SIGKILL)
        until(lambda: folder.read_record()["pid"] != keeper, "a keeper in its place")
        keeper = folder.read_record()["pid"]
        until(lambda: is_serving(folder), "etcd is back")
        assert node.pid not in [parent.pid for parent in psutil.Process(keeper).parents()]
        children = psutil.Process(keeper).children()
        zygote = node.zygote
        os.kill(zygote, signal.SIGKILL)
        until(lambda: node.zygote != zygote, "a zygote in its place")
        assert psutil.Process(keeper).children() == children, "etcd is as it was"
        assert node.stop() == 0
        until(lambda: not psutil.pid_exists(keeper), "the keeper leaves after its last user")
    finally:
        node.end()


def is_serving(folder: Folder) -> bool:
    try:
        return Gateway(folder.socket).status().revision > 0
    except GatewayError:
        return False


# -- where handlers come from -----------------------------------------------------------------------------------------

ODD = """
    import sys, threading, time

    print("imported", flush=True)
    print("to stderr", file=sys.stderr)
    time.sleep(1)
    threading.Thread(target=threading.Event().wait, name="lingerer", daemon=True).start()

    class Outer:
        @staticmethod
        def run(task, ctx):
            return "ran"
"""


def test_a_module_of_the_current_directory_that_prints_and_starts_a_thread_and_is_slow(
    etcd: EtcdServer, namespace: str, tmp_path: Path
) -> None:
    write(tmp_path, "odd.py", ODD)
    with Site(etcd, namespace) as site:
        site.submit("t")
        node = site.start("odd:Outer.run", cwd=tmp_path)
        assert site.wait_end("t").result == "ran"
        assert node.stop() == 0
        assert node.log.find("imported$")
        assert node.log.find("to stderr$")
        (warning,) = node.log.find("started threads")
        assert "warning" in warning
        assert "lingerer" in warning or "python" in warning


def test_a_signal_during_the_start_ends_it_in_order(etcd: EtcdServer, namespace: str, tmp_path: Path) -> None:
    """While a handler's module hangs at its import, and while etcd does not answer."""
    write(tmp_path, "hangs.py", "import time\nprint('importing', flush=True)\ntime.sleep(3600)\n")
    with Site(etcd, namespace) as site, socket.create_server(("127.0.0.1", 0)) as mute:
        importing = site.start("hangs:run", cwd=tmp_path, name="n1", joined=False, stop_timeout=1)
        importing.log.wait("importing$")
        silent = f"127.0.0.1:{mute.getsockname()[1]}"
        connecting = site.run(command("zoo:sleep", etcd=silent, name="n2", stop_timeout=1))
        until(lambda: len(connecting.tree()) == 2, "a zygote")
        mute.accept()
        for node in (importing, connecting):
            node.send(signal.SIGTERM)
        for node in (importing, connecting):
            assert node.exit_code(LIMIT_S / 2) == 0, node.log.text()
            node.wait_empty()
