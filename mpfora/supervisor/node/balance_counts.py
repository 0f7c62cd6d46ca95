"""BalanceCounts: what a node did for the balance since it started, as its log and the clients show it. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

from mpfora.supervisor.coordinator.interface import ClaimAnswer, ClaimRequest, Lost, Won


@dataclass(slots=True)
class BalanceCounts:
    """attempts    tasks that it tried to claim;  won, lost  how that ended
    late        of the attempts, those for a task whose assignee missed it
    was_missed  how often others claimed what was this node's to claim
    moves       tasks that it gave to others for the balance
    suspects    how often it began to suspect a node that had missed a task (each node does at the same time)
    """

    attempts: int = 0
    won: int = 0
    lost: int = 0
    late: int = 0
    was_missed: int = 0
    moves: int = 0
    suspects: int = 0

    def tried(self, claims: Iterable[ClaimRequest]) -> None:
        """These claims are made."""
        for request in claims:
            self.attempts += 1
            self.late += request.missed is not None

    def answered(self, answers: Iterable[ClaimAnswer]) -> None:
        for answer in answers:
            self.won += isinstance(answer, Won)
            self.lost += isinstance(answer, Lost)

    def values(self) -> tuple[tuple[str, int], ...]:
        """By name."""
        return tuple(asdict(self).items())

    def __str__(self) -> str:
        return (
            f"in all: {self.attempts} claims tried ({self.late} late), {self.won} won, {self.lost} lost;"
            f" missed {self.was_missed} times; {self.moves} tasks moved for the balance; {self.suspects} suspects"
        )
