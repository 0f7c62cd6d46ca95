"""Ctrl-C in the middle of a Client's call is a KeyboardInterrupt of its caller, and nothing else."""

from __future__ import annotations

import signal
import threading

import pytest
from etcd_server import EtcdServer

from mpfora import Client


def test_following_is_interrupted_between_two_snapshots(etcd: EtcdServer, namespace: str) -> None:
    main = threading.main_thread().ident
    assert main is not None
    with Client(etcd.endpoint, namespace) as client:
        snapshots = client.follow(30)
        next(snapshots)
        timer = threading.Timer(0.2, signal.pthread_kill, (main, signal.SIGINT))
        timer.start()
        try:
            with pytest.raises(KeyboardInterrupt):
                next(snapshots)
        finally:
            timer.join()
        assert client.nodes() == []  # the Client is as good as before
