"""The end of a run: one outcome is made of what its child said and how it died, and told by one ChildExited."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable
from dataclasses import replace

from mpfora.model.outcome import Cause, Death, Outcome, Said, SaidError, SaidMessage, classify
from mpfora.model.printed import last_words
from mpfora.model.task import Usage
from mpfora.supervisor.events import ChildExited, Event
from mpfora.supervisor.zygote.run import Run

log = logging.getLogger(__name__)

_BROADCAST = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT})


class ChildExits:
    """on_event gets a ChildExited for each run that is closed, at once or when its last words have come."""

    def __init__(self, on_event: Callable[[Event], None]) -> None:
        self._on_event = on_event
        #: ends that wait for the last words of their runs
        self._waiting: set[asyncio.Future[None]] = set()

    def close_run(self, run: Run, death: Death, usage: Usage) -> None:
        """The run's tree is dead: close it, and tell its end. That is told whatever goes wrong here: a task whose end
        is not told is held for ever."""
        try:
            outcome = _outcome(run, death, usage)
        except Exception as error:
            log.exception("task %s: the end of its run could not be read: this is a bug in mpfora", run.task_id)
            outcome = classify(run.child.said, death, f"what it left could not be read: {error!r}", usage)
        if outcome.cause is Cause.COMPLETED:
            self._close_output(run, lambda printed: None)
            self._on_event(ChildExited(run.number, outcome))
        else:
            self._tell_with_last_words(run, outcome)

    async def told(self) -> None:
        """Wait until every end that is known was told."""
        if self._waiting:
            await asyncio.wait(set(self._waiting))

    def _tell_with_last_words(self, run: Run, outcome: Outcome) -> None:
        """They come in a moment."""
        ending = asyncio.get_running_loop().create_future()
        self._waiting.add(ending)

        def tell(printed: bytes) -> None:
            self._waiting.discard(ending)
            ending.cancel()
            self._on_event(ChildExited(run.number, replace(outcome, output=last_words(printed))))

        self._close_output(run, tell)

    def _close_output(self, run: Run, done: Callable[[bytes], None]) -> None:
        try:
            run.close_output(done)
        except Exception:
            log.exception("task %s: its output could not be read to its end: this is a bug in mpfora", run.task_id)
            done(b"")


def not_started(run: int, why: str, cause: Cause) -> ChildExited:
    """The end of a run for which there was no process to be had."""
    outcome = classify(None, Death(killed_for=cause, note=why))
    return ChildExited(run, replace(outcome, made=False))


def may_be_the_nodes_end(death: Death, said: Said | None) -> bool:
    """Whether the process was ended by a signal that a service manager sends to all processes of a unit, or a person to
    all of a node: the node itself is about to hear of it. SIGINT raises KeyboardInterrupt."""
    if said is None:
        return death.killed_for is None and death.signal in _BROADCAST
    return isinstance(said, SaidError) and said.kind == "builtins.KeyboardInterrupt"


def _outcome(run: Run, death: Death, usage: Usage) -> Outcome:
    """Closes the run but for its output."""
    stacks = run.close(has_stalled=death.killed_for is Cause.STALLED)
    said = run.child.said
    outcome = classify(_last_word(run, death), death, stacks, usage, run.limits)
    if said is None and run.child.refused and outcome.is_task_error:
        return replace(outcome, error=f"{outcome.error}; what it said could not be taken: {run.child.refused}")
    return outcome


def _last_word(run: Run, death: Death) -> Said | None:
    """What the child said. One that was asked to stop and was ended by such a signal has left as it was asked."""
    said = run.child.said
    if run.asked is not None and may_be_the_nodes_end(death, said):
        return SaidMessage(run.asked)
    return said
