"""Test your handlers: run one in a real child process, without etcd, and look at what became of it.

    from mpfora import testing

    def test_it_saves_when_it_is_stopped():
        run = testing.run(primes.count, {"below": 10**9}, steps=[testing.stop(when=testing.beats(100))])
        assert run.cause == "released" and run.checkpoint["next"] > 2

`run` forks from a zygote as a node does, so that a handler that deadlocks, crashes or eats memory harms nobody, and
ends with the cause that it would have on a node. `steps` do to it what a cluster may do: stop, pause, kill, ask for
a checkpoint, take the claim away, kill it as hung or for its memory.
"""

from mpfora.config.handler_spec import HandlerSpecError
from mpfora.model.outcome import Cause
from mpfora.supervisor.zygote.startup import HandlerImportError
from mpfora.testing.bench import HandlerBench, TestRun, run
from mpfora.testing.steps import (
    Progress,
    Step,
    ask_checkpoint,
    beats,
    exceed_memory,
    hang,
    lose_claim,
    printed,
    saved,
    stop,
)

__all__ = [
    "Cause",
    "HandlerBench",
    "HandlerImportError",
    "HandlerSpecError",
    "Progress",
    "Step",
    "TestRun",
    "ask_checkpoint",
    "beats",
    "exceed_memory",
    "hang",
    "lose_claim",
    "printed",
    "run",
    "saved",
    "stop",
]
