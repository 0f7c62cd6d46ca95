"""Where a living run spends its time, asked while it goes on."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from zygote_harness import node

from mpfora.supervisor.zygote import live_profile
from mpfora.supervisor.zygote.live_profile import LiveProfile, Unprofiled
from mpfora.supervisor.zygote.live_stack import Ended, find_py_spy


def shares(profile: LiveProfile, word: str) -> float:
    """The share of the samples that have this word in them."""
    weights: Counter[bool] = Counter()
    for line in profile.text.splitlines():
        stack, _, weight = line.rpartition(" ")
        weights[word in stack] += int(weight)
    return weights[True] / (weights.total() or 1)


async def test_a_task_that_computes_tells_where_and_goes_on() -> None:
    async with node("two_thirds") as node1:
        run = await node1.fork_to("computing", "two_thirds", {"seconds": 600})
        profile = await node1.zygote.looks.profile(run, for_s=2, hz=100, by="wall")
        assert profile.how == "task"
        assert shares(profile, "long_part") > shares(profile, "short_part") > 0
        assert shares(profile, "_part") > 0.9
        assert all(line.startswith("MainThread;") for line in profile.text.splitlines())
        assert node1.ends(run) == 0


async def test_a_task_that_waits_tells_where_it_waits_and_uses_no_processor() -> None:
    async with node("deadlock") as node1:
        run = await node1.fork_to("locked", "deadlock")
        profile = await node1.zygote.looks.profile(run, for_s=0.5, hz=50, by="wall")
        assert shares(profile, ";deadlock (") == 1
        profile = await node1.zygote.looks.profile(run, for_s=0.5, hz=50, by="cpu")
        assert profile.text == ""


async def test_of_an_async_task_that_waits_each_coroutine_tells_where() -> None:
    async with node("async_waits") as node1:
        run = await node1.fork_to("waiting", "async_waits")
        profile = await node1.zygote.looks.profile(run, for_s=1.0, hz=50, by="wall")
        lines = profile.text.splitlines()
        for name in ("one", "other", "async_waits"):
            assert [line for line in lines if line.startswith("Task ") and f"{name} (" in line], profile.text
        assert "_supervise" not in profile.text
        assert node1.ends(run) == 0


@pytest.mark.skipif(find_py_spy() is None, reason="py-spy is not installed")
async def test_of_one_that_answers_and_lets_no_thread_run_py_spy_tells() -> None:
    async with node("gil_in_c", module="zoo") as node1:
        run = await node1.fork_to("holding", "gil_in_c")
        profile = await node1.zygote.looks.profile(run, for_s=1.0, hz=50, by="wall")
        assert profile.how == "py-spy"
        assert "too busy to let the sampler end" in profile.note
        assert shares(profile, "gil_in_c (") > 0.4  # the sampler waits beside it
        assert node1.ends(run) == 0


async def test_by_processor_time_only_who_computes_is_seen() -> None:
    async with node("one_of_two") as node1:
        run = await node1.fork_to("computing", "one_of_two")
        profile = await node1.zygote.looks.profile(run, for_s=1, hz=50, by="cpu")
        assert shares(profile, "busy;") > 0.9
        profile = await node1.zygote.looks.profile(run, for_s=1, hz=50, by="wall")
        assert 0.4 < shares(profile, "MainThread;") < 0.6


async def test_of_a_run_that_ends_meanwhile_what_was_seen_is_told() -> None:
    async with node("two_thirds") as node1:
        run = await node1.fork_to("computing", "two_thirds", {"seconds": 2.5})
        profile = await node1.zygote.looks.profile(run, for_s=60, hz=50, by="wall")
        assert profile.note == "the run ended meanwhile"
        assert shares(profile, "part") > 0.9
        await node1.outcome(run)
        with pytest.raises(Ended):
            await node1.zygote.looks.profile(run, for_s=1, hz=50, by="wall")


async def test_a_profile_that_nobody_waits_for_ends_its_sampler() -> None:
    async with node("counts_its_threads") as node1:
        run = await node1.fork_to("counting", "counts_its_threads")
        asked = asyncio.create_task(node1.zygote.looks.profile(run, for_s=600, hz=100, by="wall"))
        await node1.line(run, "threads 2")
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        await node1.line(run, "again 1")


async def test_a_task_at_its_pids_limit_is_not_killed_for_the_sampler() -> None:
    async with node("crowd") as node1:
        run = await node1.fork_to("crowd", "crowd", {"threads": 3, "processes": 0}, pids_limit=4)
        profile = await node1.zygote.looks.profile(run, for_s=2, hz=20, by="wall")
        assert profile.how == "task"
        assert node1.ends(run) == 0


async def test_without_py_spy_what_cannot_be_told_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_profile, "find_py_spy", lambda: None)
    async with node("block_signals") as node1:
        run = await node1.fork_to("blocked", "block_signals")
        with pytest.raises(Unprofiled, match=r"blocks signals; .*pip install 'mpfora\[profile\]'"):
            await node1.zygote.looks.profile(run, for_s=1, hz=50, by="wall")
        with pytest.raises(Unprofiled, match="who holds the GIL"):
            await node1.zygote.looks.profile(run, for_s=1, hz=50, by="gil")


@pytest.mark.skipif(find_py_spy() is None, reason="py-spy is not installed")
async def test_of_what_does_not_answer_py_spy_tells() -> None:
    async with node("block_signals two_thirds") as node1:
        run = await node1.fork_to("blocked", "block_signals")
        profile = await node1.zygote.looks.profile(run, for_s=1, hz=50, by="wall")
        assert profile.how == "py-spy"
        assert shares(profile, "block_signals (") > 0.9
        run = await node1.fork_to("computing", "two_thirds", {"seconds": 600})
        profile = await node1.zygote.looks.profile(run, for_s=1, hz=50, by="gil")
        assert shares(profile, "part (") > 0.8
