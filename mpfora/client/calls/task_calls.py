"""All calls for tasks, nodes and schedules: what a client can do but for groups."""

from __future__ import annotations

from mpfora.client.calls.command_calls import CommandCalls
from mpfora.client.calls.event_calls import EventCalls
from mpfora.client.calls.look_calls import LookCalls
from mpfora.client.calls.read_calls import ReadCalls
from mpfora.client.calls.removal_calls import RemovalCalls
from mpfora.client.calls.retry_calls import RetryCalls
from mpfora.client.calls.schedule_calls import ScheduleCalls
from mpfora.client.calls.submit_calls import SubmitCalls
from mpfora.client.calls.wait_calls import WaitCalls


class TaskCalls(
    SubmitCalls,
    RetryCalls,
    RemovalCalls,
    ReadCalls,
    LookCalls,
    EventCalls,
    WaitCalls,
    CommandCalls,
    ScheduleCalls,
):
    """What groups are made of. AsyncClient adds the calls for groups."""
