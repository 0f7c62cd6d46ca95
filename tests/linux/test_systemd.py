"""The datagrams of a service to its service manager."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from mpfora.linux.systemd import take_notify_socket


def listen(address: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(address)
    listener.settimeout(10)
    return listener


@pytest.mark.parametrize("is_abstract", [True, False])
def test_lines_arrive_in_one_datagram(tmp_path: Path, is_abstract: bool) -> None:
    name = f"mpfora-test-{os.getpid()}"
    with listen(f"\0{name}" if is_abstract else str(tmp_path / "notify")) as listener:
        environment = {"NOTIFY_SOCKET": f"@{name}" if is_abstract else str(tmp_path / "notify")}
        notify = take_notify_socket(environment)
        assert notify is not None
        notify.send("READY=1", "STATUS=well")
        assert listener.recv(100) == b"READY=1\nSTATUS=well"
        notify.close()


def test_what_is_taken_is_not_passed_on() -> None:
    environment = {"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "5000000", "WATCHDOG_PID": str(os.getpid()), "PATH": "/bin"}
    notify = take_notify_socket(environment)
    assert notify is not None
    assert (notify.watchdog_s, environment) == (5.0, {"PATH": "/bin"})
    notify.close()
    assert take_notify_socket(environment) is None


def test_a_watchdog_of_another_process_is_none_of_ours() -> None:
    notify = take_notify_socket({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "5000000", "WATCHDOG_PID": "1"})
    assert notify is not None
    assert notify.watchdog_s is None
    notify.close()


@pytest.mark.parametrize(
    ("environment", "culprit"),
    [
        ({"NOTIFY_SOCKET": "x"}, "NOTIFY_SOCKET='x'"),
        ({"NOTIFY_SOCKET": "@"}, "NOTIFY_SOCKET='@'"),
        ({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "soon"}, "WATCHDOG_USEC='soon'"),
        ({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "0"}, "WATCHDOG_USEC='0'"),
        ({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "9" * 40}, "microseconds"),
        ({"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "\u0665"}, "microseconds"),
    ],
)
def test_what_cannot_be_meant_is_named(environment: dict[str, str], culprit: str) -> None:
    with pytest.raises(ValueError, match=r"_SOCKET|_USEC") as caught:
        take_notify_socket(environment)
    assert culprit in str(caught.value)
