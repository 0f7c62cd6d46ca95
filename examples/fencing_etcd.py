"""Write into etcd only while the claim is one's own: the write and the question are one transaction.

    python fencing_etcd.py node          # in one terminal: a node, started by this program
    python fencing_etcd.py count 20000   # in another

A claim is the key NAMESPACE/tasks/ID/owner, and its fence is that key's create revision. A transaction that compares
the two writes as long as the claim is held and no longer: etcd decides, and a process that is late by an hour changes
nothing.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
import time
from typing import Any

from mpfora import Client, Consumer, Context, EtcdCoordinator, Message, Task

NAMESPACE = "mpfora"
#: HOST:PORT or unix:/PATH, for the handler
ENDPOINT = "FENCING_ETCD"


class Stale(Exception):
    """The claim is gone: this process is one too many."""


class Guarded:
    """Reads and writes one key under a claim."""

    def __init__(self, key: str, task_id: str, fence: int) -> None:
        # here, in the task's own process: gRPC does not survive a fork, so the module must not import it
        import etcd3

        # of a socket, unix:/PATH, the client makes the same of these two as of a host and a port
        host, _, port = os.environ[ENDPOINT].rpartition(":")
        self._etcd = etcd3.client(host=host, port=port)
        self._key, self._owner, self._fence = key, f"/{NAMESPACE}/tasks/{task_id}/owner", fence

    def read(self) -> Any:
        """The value as JSON; None where there is none. Raises Stale: an old reader would go on from old data."""
        return self._do(self._etcd.transactions.get(self._key))

    def write(self, value: Any) -> None:
        """Raises Stale, and then nothing was written."""
        self._do(self._etcd.transactions.put(self._key, json.dumps(value)))

    def _do(self, operation: Any) -> Any:
        is_ours = self._etcd.transactions.create(self._owner) == self._fence
        done, answers = self._etcd.transaction(compare=[is_ours], success=[operation], failure=[])
        if not done:
            raise Stale(f"{self._owner} is not of revision {self._fence} any more")
        return json.loads(answers[0][0][0]) if isinstance(answers[0], list) and answers[0] else None


def count(task: Task, ctx: Context) -> Message | dict[str, int]:
    """props: key, below; step_s: between two writes (0)."""
    guarded, below = Guarded(task.props["key"], task.id, ctx.fence), task.props["below"]
    at = guarded.read() or {"next": 2, "found": 0}
    while at["next"] < below:
        if ctx.stopping:
            return ctx.leave()
        end = min(at["next"] + 100, below)
        at = {"next": end, "found": at["found"] + sum(is_prime(n) for n in range(at["next"], end))}
        guarded.write(at)
        time.sleep(task.props.get("step_s", 0))
    return {"found": at["found"]}


def is_prime(number: int) -> bool:
    return number > 1 and all(number % divisor for divisor in range(2, int(number**0.5) + 1))


def run_node() -> None:
    """Until Ctrl-C."""
    with Client(namespace=NAMESPACE) as client:
        os.environ[ENDPOINT] = client.endpoints
        print(f"a node, with etcd at {client.endpoints}; end it with Ctrl-C", flush=True)
        Consumer(EtcdCoordinator(namespace=NAMESPACE), "fencing_etcd:count", name="fencing").run()


def main(below: str) -> None:
    with Client(namespace=NAMESPACE) as client:
        name = f"fenced-{secrets.token_hex(3)}"
        client.submit(name, {"key": f"/counts/{name}", "below": int(below)}, handler="fencing_etcd:count")
        print(f"{client.wait(name).result['found']} primes below {below}, at /counts/{name}")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["node"]:
            run_node()
        case ["count", number]:
            main(number)
        case _:
            sys.exit("usage: python fencing_etcd.py node | python fencing_etcd.py count NUMBER")
