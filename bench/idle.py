"""What a node costs while its tasks are idle: python bench/idle.py [--tasks N,N,...] [--seconds S]

CPU time and memory of supervisor and zygote, and requests a second that etcd gets, by its own count (/metrics), with 0,
100 and 1,000 tasks that wait to be asked to stop. Renewals of the lease are what there is; the count must not depend on
the number of tasks.
"""

from __future__ import annotations

import argparse
import re
import secrets
import time

import psutil
from common import Cpu, machine, node, own_etcd, run, until

from mpfora import AsyncClient
from mpfora.embedded.gateway import Gateway

#: requests that etcd was sent: calls, and messages on streams
_REQUESTS = re.compile(r"^grpc_server_msg_received_total\{.*\} ([\d.e+]+)$", re.MULTILINE)


def requests(endpoint: str) -> float:
    page = Gateway(endpoint.removeprefix("unix:")).metrics()
    return sum(map(float, _REQUESTS.findall(page)))


async def submit(endpoint: str, namespace: str, count: int) -> None:
    async with AsyncClient(endpoint, namespace=namespace) as client:
        await client.submit_many((f"task-{index}", None) for index in range(count))


def measure(count: int, seconds: float) -> str:
    namespace = f"bench-{secrets.token_hex(4)}"
    with own_etcd() as etcd, node(etcd.endpoint, namespace, "handlers:wait", max_tasks=0) as supervisor:
        run(submit(etcd.endpoint, namespace, count))
        until(lambda: len(supervisor.children()) == count, f"{count} tasks to run", every_s=0.5)
        time.sleep(3)  # they have come to rest, and so has etcd
        cpu = Cpu({"supervisor": psutil.Process(supervisor.pid), "zygote": supervisor.zygote()})
        cpu.start()
        asked, began = requests(etcd.endpoint), time.perf_counter()
        time.sleep(seconds)
        used, took = cpu.used(), time.perf_counter() - began
        rate = (requests(etcd.endpoint) - asked) / took
        rows = [
            f"{name} {used[name] / took * 100:.2f} % CPU, {process.memory_full_info().uss / 2**20:.0f} MiB"
            for name, process in cpu.processes.items()
        ]
    return f"{count:5} tasks: {'; '.join(rows)}; {rate:.2f} requests/s to etcd"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", default="0,100,1000")
    parser.add_argument("--seconds", type=float, default=30.0)
    options = parser.parse_args()
    print(machine())
    for count in map(int, options.tasks.split(",")):
        print(measure(count, options.seconds))


if __name__ == "__main__":
    main()
