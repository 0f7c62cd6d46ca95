"""Whether a node can run a task, and what the task needs there. Pure."""

from __future__ import annotations

from mpfora.model.needs import NOTHING, Needs, is_met
from mpfora.model.task import Member, Wants


def fits(member: Member, wants: Wants) -> bool:
    """Whether this node has the handler, the labels and the resources that a task asks for, if nobody else had any. A
    task that names no handler fits where there is exactly one; one whose props cannot be read fits anywhere (its run
    will say so). A member that publishes no handlers (a Go node) takes part in no assignment: it races for
    everything."""
    if wants.problem is not None:
        return bool(member.handlers)
    named = wants.handler in member.handlers if wants.handler is not None else len(member.handlers) == 1
    labelled = named and all(member.labels.get(key) == value for key, value in wants.labels.items())
    return labelled and is_met(needs_on(member, wants), member.has)


def needs_on(member: Member, wants: Wants) -> Needs:
    """What such a task needs of this node's resources while it has a process: what its props say, else what its handler
    declares there."""
    if wants.needs is not None:
        return wants.needs
    if not member.needs or wants.problem is not None:
        return NOTHING
    handler = wants.handler if wants.handler is not None else next(iter(member.handlers), "")
    return member.needs.get(handler, NOTHING)
