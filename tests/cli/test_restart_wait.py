"""Who waits for a node to come back hears early that it stays away."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from mpfora.cli import restart_wait
from mpfora.errors import NotCarriedOut


class Cluster:
    """A client whose node takes some time to come back."""

    def __init__(self, takes_s: float, *, has_left: bool = True) -> None:
        self._takes_s, self._nodes = takes_s, [] if has_left else [SimpleNamespace(name="n1")]

    def restart_node(self, name: str, timeout_s: float) -> None:
        time.sleep(min(self._takes_s, timeout_s))
        if self._takes_s > timeout_s:
            raise NotCarriedOut(f"{name} is not back")

    def nodes(self) -> list[SimpleNamespace]:
        return self._nodes


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restart_wait, "AWAY_S", 0.1)


def test_a_node_that_stays_away_is_told_of(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(NotCarriedOut):
        restart_wait.restart_node(Cluster(60), "n1", 1.0)  # type: ignore[arg-type]
    told = capsys.readouterr().err
    assert "n1 has left with exit code 75, and is not back after 0.1 s" in told
    assert "start it by hand" in told


@pytest.mark.parametrize("cluster", [Cluster(0.0), Cluster(0.5, has_left=False)], ids=["back", "stopping"])
def test_nothing_is_told_of_one_that_is_back_or_has_not_left(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    restart_wait.restart_node(cluster, "n1", 60.0)  # type: ignore[arg-type]
    time.sleep(0.2)
    assert capsys.readouterr().err == ""
