"""Any value in any field of an order to a real zygote, and of a frame from a real child: each run ends once, the zygote
lives, and the runs beside it complete."""

from __future__ import annotations

import asyncio
import json
import math
from typing import Any

import any_json
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from zygote_harness import Node, is_alive, node

from mpfora.model.outcome import Cause, Outcome
from mpfora.model.run_spec import RunLimits, RunSpec

_400 = 10**400
numbers: st.SearchStrategy[Any] = st.sampled_from(
    [0, -1, 0.5, 5, 1e300, -1e300, math.inf, -math.inf, math.nan, _400, -_400, 2**63, 10**5_000, True, "1s", [], {}]
)
limits = st.builds(
    RunLimits,
    stop_timeout_s=numbers,
    stall_timeout_s=st.none() | numbers,
    stall_by=st.sampled_from(["beats", "cpu"]) | numbers,
    memory_limit=st.none() | numbers,
)
whole = st.sampled_from([1, 7]) | numbers
orders = st.tuples(any_json.anything, whole, whole, st.none() | any_json.anything, limits)
several = settings(deadline=None, max_examples=4, suppress_health_check=list(HealthCheck))


async def all_is_well(n: Node, runs: list[int]) -> list[Outcome]:
    """The runs have ended, and one beside them completes in the same zygote."""
    ends = [await n.outcome(run) for run in runs]
    assert (await n.run("ok", {"result": 7})).cause is Cause.COMPLETED
    assert is_alive(n.pid)
    return ends


@pytest.mark.timeout(600)
@given(st.lists(orders, min_size=5, max_size=10))
@several
def test_an_order_that_cannot_be_carried_out_has_failed_to_start(drawn: list[Any]) -> None:
    async def go() -> None:
        async with node("ok says") as n:
            runs = []
            for props, fence, attempt, checkpoint, limit in drawn:
                n._runs += 1
                runs.append(n._runs)
                n.zygote.fork(n._runs, RunSpec(f"t{n._runs}", "ok", props, fence, attempt, checkpoint, limit))
            await all_is_well(n, runs)

    asyncio.run(go())


@pytest.mark.parametrize("stall_timeout", [1e300, math.inf, math.nan, "1s"])
async def test_a_stall_timeout_that_no_clock_holds_is_no_death_of_the_zygote(stall_timeout: Any) -> None:
    async with node("ok") as n:
        (end,) = await all_is_well(n, [n.fork("ok", stall_timeout_s=stall_timeout)])
        if stall_timeout != 1e300:
            assert end.cause is Cause.START_FAILED
            assert "cannot be carried out" in end.error


async def test_props_and_checkpoint_that_no_frame_holds_have_failed_to_start() -> None:
    async with node("ok") as n:
        n._runs = 1
        large = "\0" * 1_500_000
        n.zygote.fork(1, RunSpec("t1", "ok", large, 1, 1, large, RunLimits(5)))
        (end,) = await all_is_well(n, [1])
        assert end.cause is Cause.START_FAILED
        assert "its props (1500000 characters) and checkpoint (1500000) are more than a run can get" in end.error


@pytest.mark.timeout(600)
@given(st.lists(st.lists(any_json.frames, min_size=1, max_size=2), min_size=5, max_size=10))
@several
def test_whatever_a_child_says_its_end_is_told(drawn: list[list[str]]) -> None:
    async def go() -> None:
        async with node("ok says") as n:
            await all_is_well(n, [n.fork("says", {"frames": texts}) for texts in drawn])

    asyncio.run(go())


@pytest.mark.parametrize("pad", [0, 150_000])
async def test_a_frame_with_a_time_of_400_digits_loses_no_end(pad: int, caplog: pytest.LogCaptureFixture) -> None:
    frame = json.dumps({"frame": "ReturnedMessage", "verb": "sleep", "until": _400, "result_json": " " * pad + "null"})
    async with node("ok says") as n:
        ends = await all_is_well(n, [n.fork("says", {"frames": [frame]}) for _ in range(20)])
    assert {end.cause for end in ends} == {Cause.EXITED}
    assert all("without a report; what it said could not be taken: sleep: until 1000000" in end.error for end in ends)
    assert caplog.text.count("is outside the years 1 to 9998") == 20
