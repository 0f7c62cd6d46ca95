"""Starts in odd surroundings: limits, masks and folders that a node inherits, settings from strange places. It works,
or says in one line what is wrong and what to do."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from etcd_server import EtcdServer
from node import LIMIT_S, Site, command, environment
from places import SUPPORT

from mpfora.model.task import InvalidName, check_name


def started(argv: Sequence[str], before: Callable[[], object] | None = None) -> tuple[int, list[str]]:
    """The exit code of a node that does not start, and its lines."""
    done = subprocess.run(
        argv, capture_output=True, text=True, check=False, env=environment(), cwd=SUPPORT, timeout=LIMIT_S,
        preexec_fn=before,
    )  # fmt: skip
    return done.returncode, done.stderr.splitlines()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"namespace": ".."}, "--namespace: namespace '..': must not be empty, and"),
        ({"namespace": "/./"}, "--namespace: namespace '/./': must not be empty, and"),
        ({"namespace": "prod/tasks"}, "--namespace: namespace 'prod/tasks': it would lie among the keys"),
        ({"name": ".."}, "--name: node name '..' means a folder"),
        ({"config": "/dev/zero"}, "/dev/zero: longer than 1048576 bytes: this is no file of settings"),
    ],
)
def test_what_cannot_be_a_name_or_a_file_is_refused_in_one_line(options: dict[str, str], text: str) -> None:
    code, lines = started(command("zoo:sleep", **{"etcd": "127.0.0.1:1", **options}))
    assert code == 2, lines
    assert len(lines) == 1
    assert text in lines[0]


def test_ids_that_mean_a_folder_are_none() -> None:
    for name in (".", ".."):
        with pytest.raises(InvalidName, match="means a folder"):
            check_name(name)
    assert check_name("...") == "..."


@pytest.mark.parametrize("host", ["a" * 300, "a..b", "." + "a" * 64])
def test_an_address_that_no_host_can_have_is_named(host: str) -> None:
    code, lines = started(command("zoo:sleep", etcd=f"{host}:1"))
    assert code == 3, lines
    assert not [line for line in lines if "Traceback" in line]
    assert host in lines[-1]


def test_a_limit_that_is_too_low_is_named(etcd: EtcdServer, namespace: str) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))

    code, lines = started(command("zoo:sleep", etcd=etcd.endpoint, namespace=namespace), limit)
    assert code == 5, lines
    assert "raise the limit of the size of files (ulimit -f, LimitFSIZE=)" in lines[-1]


def test_where_descriptors_are_refused_it_says_so_and_what_to_do_wherever_that_is(
    etcd: EtcdServer, namespace: str
) -> None:
    """The fewer there are, the earlier it fails: in the event loop, in the control groups, in the zygote's sockets."""

    def start(few: int, argv: Sequence[str]) -> tuple[int, list[str]]:
        return started(argv, lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (few, few)))

    # with the very fewest the interpreter itself may not start: that is up to what lies in its site-packages
    enough = [few for few in (4, 5, 6, 7, 8, 9, 10, 11, 12, 14) if start(few, [sys.executable, "-c", ""]) == (0, [])]
    assert len(enough) > 5
    for few in enough:
        argv = command("zoo:sleep", etcd=etcd.endpoint, namespace=namespace, name=f"n{few}")
        code, lines = start(few, argv)
        assert code in (1, 5), lines
        assert "raise the limit of open files of this process (ulimit -n, LimitNOFILE=)" in lines[-1], (few, lines)
        assert not [line for line in lines if "Traceback" in line or "a bug in mpfora" in line], (few, lines)


def test_where_memory_is_refused_the_remedy_names_it(etcd: EtcdServer, namespace: str) -> None:
    """A thread cannot be had for want of processes or of memory, and the kernel does not tell which."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_DATA, (48 << 20, 48 << 20))

    code, lines = started(command("zoo:sleep", etcd=etcd.endpoint, namespace=namespace), limit)
    assert code in (1, 5), lines
    assert "raise the limit of memory (ulimit -v" in lines[-1], lines
    assert not [line for line in lines if "a bug in mpfora" in line], lines


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount")
def test_a_machine_without_devices_is_told_in_one_line(etcd: EtcdServer, namespace: str) -> None:
    argv = command("zoo:sleep", etcd=etcd.endpoint, namespace=namespace)
    code, lines = started(["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /dev && exec "$@"', "sh", *argv])
    assert code == 5, lines
    assert "No such file or directory: '/dev/null'" in lines[-1]
    assert not [line for line in lines if "Traceback" in line], lines


def test_a_death_in_a_library_in_c_leaves_a_stack(etcd: EtcdServer, namespace: str) -> None:
    """gRPC aborts where it gets no memory, and says nothing."""
    with Site(etcd, namespace) as site:
        node = site.start("zoo:sleep")
        node.send(signal.SIGABRT)
        assert node.exit_code() == -signal.SIGABRT
        node.log.wait("Fatal Python error: Aborted")
        node.wait_empty()


def test_signals_that_its_parent_blocks_are_heard(etcd: EtcdServer, namespace: str) -> None:
    """Of a program that waits for its signals itself, the node inherits the mask."""
    argv = command("zoo:result", etcd=etcd.endpoint, namespace=namespace, name="n1")
    blocking = (
        "import os, signal, sys; signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals());"
        " os.execv(sys.argv[1], sys.argv[1:])"
    )
    with Site(etcd, namespace) as site:
        node = site.run([sys.executable, "-c", blocking, *argv])
        node.wait_joined()
        site.submit("t", value=1)
        assert site.wait_end("t").state == "completed"
        for pid in (node.pid, node.zygote):
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
            blocked = int(next(line.split()[1] for line in lines if line.startswith("SigBlk")), 16)
            assert not [n for n in (signal.SIGCHLD, signal.SIGTERM) if blocked >> (n - 1) & 1]
        assert node.stop() == 0


@pytest.mark.parametrize("handler", ["zoo:result", "nosuch:handler"])
def test_a_folder_that_is_gone_matters_only_where_the_handlers_stood_there(
    etcd: EtcdServer, namespace: str, tmp_path: Path, handler: str
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    argv = command(handler, etcd=etcd.endpoint, namespace=namespace, name="n1")
    leaving = "import os, shutil, sys; shutil.rmtree(os.getcwd()); os.execv(sys.argv[1], sys.argv[1:])"
    path = os.pathsep.join([environment()["PYTHONPATH"], str(SUPPORT)])
    with Site(etcd, namespace) as site:
        node = site.run([sys.executable, "-c", leaving, *argv], gone, {"PYTHONPATH": path})
        if handler == "zoo:result":
            node.wait_joined()
            site.submit("t", value=1)
            assert site.wait_end("t").state == "completed"
            assert node.stop() == 0
        else:
            assert node.exit_code() == 5
            node.log.join()
            assert "the folder that the node was started in (it is gone" in node.log.text()
    shutil.rmtree(gone, ignore_errors=True)
