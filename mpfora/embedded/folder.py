"""Folder: the files of an embedded etcd's data folder, and what its users and its keeper say to each other."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: what a user reads when the keeper leaves in order; without it, EOF means that the keeper was killed
BYE = b"bye\n"


@dataclass(frozen=True, slots=True)
class Folder:
    """The files of a data folder."""

    path: Path

    @property
    def etcd(self) -> Path:
        return self.path / "etcd"

    @property
    def socket(self) -> Path:
        """Where etcd listens, in words that stay; a link to it where the path of the folder is too long for a socket's.
        Only the owner of the folder may look into it, so nobody else can connect."""
        return self.path / "etcd.sock"

    @property
    def log(self) -> Path:
        return self.path / "etcd.log"

    @property
    def lock(self) -> Path:
        return self.path / "keeper.lock"

    @property
    def start_lock(self) -> Path:
        """Held by a user while it looks for a keeper and starts one."""
        return self.path / "start.lock"

    @property
    def record(self) -> Path:
        """JSON of the last keeper: {"pid", "socket", "etcd_socket", "host"}."""
        return self.path / "keeper.json"

    def read_record(self) -> dict[str, Any]:
        """The record of the last keeper; {} if there is none that can be read."""
        try:
            record = json.loads(self.record.read_bytes())
        except (OSError, ValueError):
            return {}
        return record if isinstance(record, dict) else {}

    def write_record(self, record: dict[str, Any]) -> None:
        temporary = self.path / f"keeper.json.{os.getpid()}"
        temporary.write_text(json.dumps(record))
        os.replace(temporary, self.record)


@dataclass(frozen=True, slots=True)
class KeeperOptions:
    """socket_path: of the keeper. etcd_socket: of etcd, in the same folder, which is its user's alone and has a short
    path. quota: bytes that etcd may keep."""

    folder: str
    program: str
    socket_path: str
    etcd_socket: str
    linger_s: float
    fsync: bool
    quota: int
