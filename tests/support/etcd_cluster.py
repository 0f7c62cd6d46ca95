"""Three members of a real etcd on the loopback, which can be killed, frozen, and cut off from each other."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from etcd_server import EtcdServer
from tcp_owner import has_socket
from tcp_proxy import Link, Proxies


class EtcdCluster:
    """Members find each other through proxies, so that each link between two of them can be cut.

    members   in order; a killed one is brought back by its `start`, with its data
    proxies   of links between members; whoever likes may add links of their own
    """

    def __init__(self, folder: Path, size: int = 3, options: Sequence[str] = ()) -> None:
        self.proxies = Proxies()
        self.members = [EtcdServer(_made(folder / f"m{index}"), options, start=False) for index in range(size)]
        self._links = {
            (source, target): Link(self.members[target].peer_port)
            for source in range(size)
            for target in range(size)
            if source != target
        }
        self._peers = [self.proxies.listen(partial(self._link_of, index)) for index in range(size)]
        initial = ",".join(f"m{index}=http://127.0.0.1:{port}" for index, port in enumerate(self._peers))
        for index, member in enumerate(self.members):
            member.options += [
                "--name", f"m{index}", "--initial-cluster", initial,
                "--initial-advertise-peer-urls", f"http://127.0.0.1:{self._peers[index]}",
            ]  # fmt: skip
            member.launch()
        for member in self.members:
            member.wait_healthy()

    @property
    def endpoints(self) -> str:
        return ",".join(member.endpoint for member in self.members)

    def leader(self) -> EtcdServer | None:
        """The member that leads, as far as a living one tells; None: nobody knows."""
        for member in self.members:
            with suppress(OSError, ValueError, KeyError):
                request = urllib.request.Request(f"http://{member.endpoint}/v3/maintenance/status", b"{}")
                with urllib.request.urlopen(request, timeout=0.5) as answer:
                    status = json.load(answer)
                for other in self.members:
                    if self._id(other) == status["leader"]:
                        return other
        return None

    def _id(self, member: EtcdServer) -> str | None:
        with suppress(OSError, ValueError, KeyError):
            request = urllib.request.Request(f"http://{member.endpoint}/v3/maintenance/status", b"{}")
            with urllib.request.urlopen(request, timeout=0.5) as answer:
                found: str = json.load(answer)["header"]["member_id"]
                return found
        return None

    def cut_off(self, member: EtcdServer) -> None:
        """No other member hears it, and it hears none."""
        for link in self._links_of(member):
            link.cut()

    def mend(self, member: EtcdServer) -> None:
        for link in self._links_of(member):
            link.mend()

    def _links_of(self, member: EtcdServer) -> list[Link]:
        index = self.members.index(member)
        return [link for ends, link in self._links.items() if index in ends]

    def _link_of(self, target: int, port: int) -> Link:
        """The link that a connection from `port` is made over: whose port that is tells who asks."""
        others = [(index, member.pid) for index, member in enumerate(self.members) if index != target]
        asking = [(index, pid) for index, pid in others if pid is not None]
        for index, pid in asking[:-1]:
            if has_socket(pid, port, self._peers[target]):
                return self._links[index, target]
        return self._links[(asking or others)[-1][0], target]  # nobody else is left who could

    def close(self) -> None:
        for member in self.members:
            member.kill()
        self.proxies.close()


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder
