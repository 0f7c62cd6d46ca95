"""AsyncClient: what a program does with tasks and nodes from outside, on asyncio."""

from __future__ import annotations

from mpfora.client.groups.group_calls import GroupCalls


class AsyncClient(GroupCalls):
    """Use it in one event loop, best as `async with AsyncClient(...) as client`; it connects at its first call.

    endpoints   "host:port", several with commas, a list of them, or EtcdSettings (TLS, user and password). Without
                them it is the etcd that the commands use: what MPFORA_ETCD and its like name, else the embedded one of
                this user, which it starts or joins before it returns, and lets go when it is closed
    namespace   nodes and tasks see those of their own namespace only; default: MPFORA_NAMESPACE, else "mpfora"

    Every method raises EtcdUnreachable when etcd does not answer in time, EtcdRefused when it will not do it, BadValue
    for an argument that cannot be meant, ClientClosed after `close` and for calls that it ends, and the errors named
    with it: all are MpforaError. Time-outs are in seconds, or texts like "10m".
    """
