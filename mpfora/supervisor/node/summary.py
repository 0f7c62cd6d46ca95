"""How a node is at one instant: for its log, its service manager, and whoever asks whether it is ready. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class NodeSummary:
    """membership  a value of session.Membership
    lease_left_s   how long the lease surely lasts; None: there is none
    is_held        the lease is good enough to claim and to start tasks
    has_zygote     the zygote has imported the handlers and answers
    held, running  tasks that the node has claimed; those of them with a process
    held_up        held tasks that do not do what their state says
    claiming       claims under way
    tasks, nodes, revision  what it knows of the cluster
    capacity       how many tasks may run; None: no bound
    trouble        why it cannot start processes, "" if it can
    former_zygotes how many zygotes have runs of former code
    reloads_asked, reloads_answered  how many reloads of its code were asked for, and how many of these are over
    reload_error   why the last one failed, "" if it did not
    stop_left_s    how long its shutdown may still take; None: it is not shutting down
    """

    membership: str
    lease_left_s: float | None
    is_held: bool
    has_zygote: bool
    held: int
    running: int
    held_up: int
    claiming: int
    tasks: int
    nodes: int
    revision: int
    capacity: int | None = None
    frozen: bool = False
    draining: bool = False
    trouble: str = ""
    stop_left_s: float | None = None
    former_zygotes: int = 0
    reloads_asked: int = 0
    reloads_answered: int = 0
    reload_error: str = ""

    @property
    def why_not_ready(self) -> tuple[str, ...]:
        """What keeps the node from running tasks that it is given; () if it is ready."""
        reasons = {
            "the node is shutting down": self.stop_left_s is not None,
            "the node is draining": self.draining,
            "the handlers are not imported yet, or the zygote is lost": not self.has_zygote,
            "there is no lease": self.lease_left_s is None,
            "the lease is not renewed": self.lease_left_s is not None and not self.is_held,
            f"the node {self.trouble}": bool(self.trouble),
        }
        return tuple(reason for reason, holds in reasons.items() if holds)

    @property
    def status(self) -> str:
        """One line for people. It changes only when the node does."""
        if self.stop_left_s is not None:
            return f"stopping: {self.running} tasks still run"
        of = "" if self.capacity is None else f" of {self.capacity}"
        text = f"{self.running}{of} tasks run, {self.held} held"
        flags = [name for name, holds in (("frozen", self.frozen), ("draining", self.draining)) if holds]
        if self.reloads_asked != self.reloads_answered:
            flags.append("importing the handlers anew")
        elif self.reload_error:
            flags.append(f"not reloaded: {self.reload_error}")
        missing = [reason for reason in self.why_not_ready if reason != "the node is draining"]
        return "; ".join([text, *flags, *missing])

    def __str__(self) -> str:
        lease = "no lease" if self.lease_left_s is None else f"a lease for {self.lease_left_s:.1f} s more"
        zygote = "a zygote" if self.has_zygote else "no zygote"
        return (
            f"state: {self.membership}, with {lease} and {zygote}; {self.held} tasks held, {self.running} of them with"
            f" a process, {self.held_up} held up; {self.claiming} claims under way; it knows of {self.tasks} tasks and"
            f" {self.nodes} nodes at revision {self.revision}"
        )
