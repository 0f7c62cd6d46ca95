"""The live nodes, and which process stands behind each."""

from __future__ import annotations

import pytest

from mpfora.cluster import members as module
from mpfora.cluster.members import Members
from mpfora.cluster.task_view import Owner
from mpfora.model.task import Member


def node(name: str, pid: int = 1, **fields: object) -> Member:
    return Member(name, pid=pid, created="2026", **fields)  # type: ignore[arg-type]


def test_a_claim_is_a_live_nodes_if_its_process_has_made_it() -> None:
    members = Members()
    members.put(node("a"), 10)
    assert members.lives("a", 11)
    assert not members.lives("a", 9), "an earlier process of this name made it"
    assert not members.lives("b", 11)
    members.put(node("a", frozen=True), 20)
    assert members.lives("a", 11), "its record was put again"
    members.put(node("a", pid=2), 30)
    assert not members.lives("a", 11)


def test_who_comes_back_as_the_same_process_has_kept_its_claims() -> None:
    members = Members()
    members.put(node("a"), 10)
    assert members.gone("a", 20)
    assert not members.gone("a", 21)
    members.put(node("a"), 30)
    assert members.lives("a", 11)


def test_who_had_ended_all_gives_its_claims_back_with_its_lease() -> None:
    members = Members()
    for name in ("a", "b", "c"):
        members.put(node(name, ended=name != "c"), 1)
    for name in ("a", "b", "c"):
        members.gone(name, 5)
    given_back = [members.has_ended(Owner(name, 2), 5) for name in ("a", "b", "c")]
    assert given_back == [True, True, False]
    assert not members.has_ended(Owner("a", 2), 6), "that held for one revision"
    assert not members.has_ended(None, 5)


def test_a_go_node_is_known_by_its_record() -> None:
    members = Members()
    members.put(Member("go"), 1)
    members.put(node("a", lease_s=15.0), 1)
    assert members.is_go(Owner("go", 1))
    assert not members.is_go(Owner("a", 1))
    assert not members.is_go(None)
    assert [members.lease_s(name) for name in ("a", "go", "nobody")] == [15.0, 0.0, 0.0]


def test_the_oldest_of_many_that_are_gone_is_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GONE_KEPT", 2)
    members = Members()
    for number in range(4):
        members.put(node(f"n{number}"), 1)
        members.gone(f"n{number}", 2)
    for number in range(4):
        members.put(node(f"n{number}"), 9)
    assert [members.lives(f"n{number}", 5) for number in range(4)] == [False, False, True, True]
