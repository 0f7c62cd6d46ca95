"""How the embedded etcd stays small: a fake server, and a real one."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest
from node import until

from mpfora.embedded import acquire
from mpfora.embedded.gateway import Gateway, GatewayError, Status
from mpfora.embedded.upkeep import (
    COMPACT_FROM,
    DEFRAGMENT_FROM,
    IDLE_EVERY_S,
    KEPT_S,
    LOOK_EVERY_S,
    REST_S,
    WARNING,
    Upkeep,
)

MIB = 1024 * 1024
QUOTA = 1000 * MIB


@dataclass
class Fake:
    now: Status = Status(10 * MIB, 10 * MIB, 1, False, "m1")
    done: list[str] = field(default_factory=list)
    is_away: bool = False

    def status(self) -> Status:
        if self.is_away:
            raise GatewayError("maintenance/status: no answer")
        return self.now

    def compact(self, revision: int) -> None:
        self.done.append(f"compact {revision}")

    def defragment(self) -> None:
        self.done.append("defragment")
        self.now = self.now._replace(size=self.now.in_use)

    def nudge(self) -> None:
        assert self.now.size >= DEFRAGMENT_FROM, "a small one is left alone"

    def disarm(self, member: str) -> None:
        self.done.append(f"disarm {member}")
        self.now = self.now._replace(is_full=False)


def test_history_is_forgotten_when_it_is_old_enough() -> None:
    fake = Fake()
    upkeep = Upkeep(fake, QUOTA)
    for step in range(20):
        fake.now = fake.now._replace(revision=1 + 1000 * step)
        assert upkeep.look(step * LOOK_EVERY_S) == []
    first = int(KEPT_S / LOOK_EVERY_S)
    assert fake.done == [f"compact {1 + 1000 * step}" for step in range(1, 20 - first)]


def test_an_idle_etcd_is_left_alone() -> None:
    fake = Fake()
    upkeep = Upkeep(fake, QUOTA)
    for step in range(50):
        fake.now = fake.now._replace(revision=1 + step * COMPACT_FROM // 60)
        upkeep.look(step * LOOK_EVERY_S)
    assert fake.done == []
    assert upkeep.pause_s == LOOK_EVERY_S
    upkeep.look(1000.0)
    assert upkeep.pause_s == IDLE_EVERY_S


def test_a_file_that_is_mostly_air_is_rewritten_at_a_quiet_moment() -> None:
    fake = Fake(Status(DEFRAGMENT_FROM, DEFRAGMENT_FROM // 4, 1, False, "m1"))
    upkeep = Upkeep(fake, QUOTA)
    fake.now = fake.now._replace(revision=10)
    upkeep.look(0.0)
    assert fake.done == ["defragment"]
    fake.now = fake.now._replace(size=DEFRAGMENT_FROM)
    upkeep.look(REST_S - 1)
    assert fake.done == ["defragment"], "not again so soon"
    fake.now = fake.now._replace(revision=10_000)
    upkeep.look(REST_S + 1)
    assert "defragment" not in fake.done[1:], "not while much is written"
    (said,) = upkeep.look(REST_S + 2)
    assert said == "upkeep: defragmented, 32 MiB before, 8 MiB now"


def test_a_file_that_grows_towards_its_quota_waits_for_no_quiet_moment() -> None:
    fake = Fake(Status(700 * MIB, 100 * MIB, 1, False, "m1"))
    upkeep = Upkeep(fake, QUOTA)
    upkeep.look(0.0)
    fake.now = fake.now._replace(size=700 * MIB, revision=50_000)
    upkeep.look(REST_S + 1)
    assert fake.done.count("defragment") == 2


@pytest.mark.parametrize(("size", "in_use"), [(DEFRAGMENT_FROM - 1, 1), (700 * MIB, 400 * MIB)])
def test_a_file_that_is_small_or_in_use_is_left_alone(size: int, in_use: int) -> None:
    fake = Fake(Status(size, in_use, 1, False, "m1"))
    Upkeep(fake, QUOTA).look(0.0)
    assert fake.done == []


def test_users_are_warned_once_at_four_fifths_of_the_quota() -> None:
    fake = Fake(Status(800 * MIB, 799 * MIB, 1, False, "m1"))
    upkeep = Upkeep(fake, QUOTA)
    assert upkeep.look(0.0) == []
    fake.now = fake.now._replace(in_use=800 * MIB)
    (said,) = upkeep.look(5.0)
    assert said.startswith(f"{WARNING}the embedded etcd keeps 800 MiB, 80% of its quota of 1000 MiB; when")
    assert "mpfora purge" in said
    assert upkeep.look(10.0) == []
    fake.now = fake.now._replace(in_use=100 * MIB, size=100 * MIB)
    assert upkeep.look(15.0) == []
    fake.now = fake.now._replace(in_use=900 * MIB, size=900 * MIB)
    assert len(upkeep.look(20.0)) == 1


def test_a_full_etcd_takes_writes_again_when_there_is_room() -> None:
    fake = Fake(Status(1000 * MIB, 100 * MIB, 1, True, "m1"))
    said = Upkeep(fake, QUOTA).look(0.0)
    assert fake.done == ["defragment", "disarm m1"]
    assert said[-1] == "upkeep: there is room again: writes are taken"
    fake = Fake(Status(1000 * MIB, 900 * MIB, 1, True, "m1"))
    Upkeep(fake, QUOTA).look(0.0)
    assert fake.done == [], "nothing would help"


def test_a_failure_is_told_once() -> None:
    fake = Fake(is_away=True)
    upkeep = Upkeep(fake, QUOTA)
    assert upkeep.look(0.0) == ["upkeep: maintenance/status: no answer"]
    assert upkeep.look(5.0) == []
    fake.is_away = False
    assert upkeep.look(10.0) == []
    fake.is_away = True
    assert len(upkeep.look(15.0)) == 1


def test_on_a_real_etcd(tmp_path: Path) -> None:
    with acquire(tmp_path / "data", linger_s=0.2, fsync=False) as etcd:
        server = Gateway(etcd.endpoint.removeprefix("unix:"))
        ballast = "a" * 400_000
        for _ in range(100):
            server._post("kv/put", {"key": "YQ==", "value": ballast}, 5.0)
        assert "grpc_server_msg_received_total" in server.metrics()
        before = server.status()
        assert before.size > DEFRAGMENT_FROM * 0.8
        upkeep = Upkeep(server)
        upkeep._looks.append((0.0, before.revision))
        upkeep._compacted = before.revision - COMPACT_FROM
        upkeep.look(KEPT_S)  # compacts

        def is_free() -> bool:
            server.nudge()
            return server.status().in_use < before.size / 4

        until(is_free, "what is forgotten is not in use any more")
        server.defragment()
        assert server.status().size < before.size / 4
        assert not server.status().is_full
        server.disarm(before.member)
