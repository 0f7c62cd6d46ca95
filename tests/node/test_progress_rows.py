"""What a node publishes of its runs for those who look."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from unittest.mock import MagicMock

import pytest

from mpfora.ipc.slots import Beat
from mpfora.model.run_spec import RunLimits
from mpfora.supervisor import actions as do
from mpfora.supervisor import events as ev
from mpfora.supervisor.effects import Effects


async def published(limits: RunLimits | None) -> Mapping[str, Any]:
    rows: dict[str, Any] = {}

    async def publish(given: Mapping[str, Any]) -> None:
        rows.update(given)

    coordinator, zygotes = MagicMock(), MagicMock()
    coordinator.publish_progress = publish
    zygotes.progress.return_value, zygotes.usage.return_value = Beat(3, 0.5, "half"), None
    zygotes.limits.return_value = limits
    effect = Effects(coordinator, zygotes).start(do.PublishProgress((("t1", 7, 2, 100.0),)))
    assert effect is not None
    assert await effect == ev.Attempted("progress")
    row: Mapping[str, Any] = rows["t1"]
    return row


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        (RunLimits(10.0, 30.0), {"stall_s": 30.0}),
        (RunLimits(10.0, 30.0, "cpu"), {}),  # beats say nothing of it then
        (RunLimits(10.0), {}),
        (None, {}),  # it has just ended
    ],
)
async def test_a_run_s_stall_timeout_is_told_where_beats_count(
    limits: RunLimits | None, told: dict[str, float]
) -> None:
    row = await published(limits)
    assert row == {"attempt": 2, "started": 100.0, "progress": 0.5, "note": "half", "beats": 3} | told
