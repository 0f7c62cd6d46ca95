"""Whose end of a connection a socket is."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

from tcp_owner import has_socket


def test_the_end_of_a_connection_is_found_in_the_process_that_has_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        code = f"import socket; s = socket.create_connection(('127.0.0.1', {port})); input()"
        with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as child:
            accepted, (_, theirs) = server.accept()
            with accepted:
                assert has_socket(child.pid, theirs, port)
                assert not has_socket(os.getpid(), theirs, port)
                assert has_socket(os.getpid(), port, theirs)
            child.communicate(b"\n")
        assert not has_socket(child.pid, theirs, port)
