"""One call of a pool in its own process. Standard library, psutil and setproctitle only, and what the call imports."""
