"""Look again and again whether servers can be reached, many at once: an async handler that sleeps between its rounds.

    python -m mpfora.supervisor probes:look         # in one terminal
    python probes.py 3 localhost:22 localhost:80    # in another: three rounds, a few seconds apart

Between two rounds the task is asleep in etcd and has no process; a node that is restarted in the meantime does not
matter. When the run is to end early, the coroutine is cancelled, as any asyncio task would be.
"""

from __future__ import annotations

import asyncio
import secrets
import sys
import time

from mpfora import Client, Context, Message, Task

PAUSE_S = 2.0
PATIENCE_S = 3.0


async def reachable(server: str) -> bool:
    """server: HOST:PORT or unix:PATH."""
    host, _, port = server.rpartition(":")
    try:
        async with asyncio.timeout(PATIENCE_S):
            if host == "unix":
                _, writer = await asyncio.open_unix_connection(port)
            else:
                _, writer = await asyncio.open_connection(host, int(port))
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


async def look(task: Task, ctx: Context) -> Message | dict[str, int]:
    """props: servers, rounds. Returns in how many of the rounds each server could be reached."""
    servers, rounds = task.props["servers"], task.props["rounds"]
    at = ctx.checkpoint or {"round": 0, "reached": dict.fromkeys(servers, 0)}
    ctx.beat(at["round"] / rounds)
    found = await asyncio.gather(*map(reachable, servers))
    for server, is_reached in zip(servers, found, strict=True):
        at["reached"][server] += is_reached
    at["round"] += 1
    if at["round"] == rounds:
        return dict(at["reached"])
    ctx.save(at)
    return Message.sleep(time.time() + PAUSE_S)


def main(rounds: int, servers: list[str]) -> None:
    task_id = f"probes-{secrets.token_hex(3)}"
    with Client() as client:
        servers = servers or [*client.endpoints.split(","), "localhost:1"]
        client.submit(task_id, {"servers": servers, "rounds": rounds}, handler="probes:look")
        print(f"submitted {task_id}; see it with: mpfora task {task_id}")
        for server, reached in client.wait(task_id).result.items():
            print(f"{server}: reached in {reached} of {rounds} rounds")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3, sys.argv[2:])
