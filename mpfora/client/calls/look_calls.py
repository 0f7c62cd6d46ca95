"""The calls that look into what runs."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING

from mpfora.client.calls.connection import Connection
from mpfora.client.tasks import arguments
from mpfora.client.tasks.submit import find_task_id
from mpfora.errors import BadValue
from mpfora.store.question_records import BYS, MOST_HZ, MOST_S, MOST_TAIL, PROFILE, Question

# What a call alone needs is imported there: a command that shows one task is to come at once.
if TYPE_CHECKING:
    from mpfora.client.filters.filter import Filter
    from mpfora.client.logs.log_lines import LogLine
    from mpfora.client.logs.run_log import Wanted
    from mpfora.client.questions.questions import LiveStack
    from mpfora.profiles import Profile

#: the latest time that a log can be asked from, and the greatest attempt
_MOST_TIME, _MOST_RUN = 253_402_300_799, 1 << 53


class LookCalls(Connection):
    """stack, profile, logs."""

    async def logs(
        self,
        task_id: str | Sequence[str] = (),
        follow: bool = False,
        tail: int | None = None,
        run: int | None = None,
        previous: bool = False,
        since: float | str | None = None,
        grep: str | None = None,
        q: str | None = None,
    ) -> AsyncGenerator[LogLine, None]:
        """What a task prints, line by line, wherever it runs or ran: `async for line in client.logs("t1")`.

        follow    go on as it prints, from run to run and from node to node, until the task has finished. Notes (lines
                  whose `note` is True) say how each run ended and where the next one is
        tail      the last so many lines only
        run       of this attempt; None: of the newest one;  previous: of the one before the newest
        since     printed at this time or later: Unix seconds, or how long ago, like "10m"
        grep      only lines in which this regular expression is found
        q         in the place of task_id: of the tasks that this filter matches (see `tasks`), those that run first.
                  With follow also of those that come to match, until all that match have finished

        Of several tasks their lines come as they are printed, at most MOST_LOGS tasks at once. The nodes are asked
        through etcd; nothing is asked of a node where nobody looks. Leave it by `aclose` (or `contextlib.aclosing`),
        which withdraws the questions. Raises TaskNotFound, and MpforaError where a node cannot answer."""
        from mpfora.client.logs.logs_of_many import MOST_LOGS

        ids = [task_id] if isinstance(task_id, str) else list(task_id)
        for each in ids:
            find_task_id(each)
        wanted = _wanted(follow, tail, run, previous, since, grep)
        if bool(ids) == (q is not None):
            raise BadValue("task_id: give it, or a filter as q")
        if len(ids) > MOST_LOGS:
            raise BadValue(f"task_id: {len(ids)} tasks; the logs of {MOST_LOGS} at most can be read at once")
        self._life.check()
        with self._store_errors(writes=False):
            logs = self._named(ids, wanted) if q is None else self._matching(arguments.selection(None, q), wanted)
            async with aclosing(logs) as lines:
                async for line in lines:
                    yield line
                    self._life.check()

    def _named(self, ids: Sequence[str], wanted: Wanted) -> AsyncGenerator[LogLine, None]:
        from mpfora.client.logs.logs import read_logs
        from mpfora.client.logs.logs_of_many import merged

        logs = {each: read_logs(self._etcd, self._layout, each, wanted) for each in ids}
        return logs[ids[0]] if len(logs) == 1 else merged(logs)

    async def _matching(self, which: Filter, wanted: Wanted) -> AsyncGenerator[LogLine, None]:
        from mpfora.client.logs.logs import read_logs
        from mpfora.client.logs.logs_of_many import chosen, follow_matching
        from mpfora.client.mirror.cluster_mirror import ClusterMirror

        async with ClusterMirror(self._etcd, self._layout, self._life, self._explain) as mirror:
            if wanted.follow:
                logs = follow_matching(
                    mirror, which, time.time(), lambda each: read_logs(self._etcd, self._layout, each, wanted)
                )
            else:
                await mirror.ready()
                if not (ids := chosen(mirror, which)):
                    return
                logs = self._named(ids, wanted)
            async with aclosing(logs) as lines:
                async for line in lines:
                    yield line

    async def stack(self, task_id: str, native: bool = False, timeout: float | str = 15.0) -> LiveStack:
        """Where a running task is, while it goes on: each thread, each task of its event loops. native: with frames of
        C code, which needs py-spy on its node. Raises TaskNotFound, NotRunning, NodeSilent."""
        from mpfora.client.questions.questions import live_stack

        find_task_id(task_id)
        native, timeout_s = arguments.flag(native, "native"), arguments.seconds(timeout, "timeout")
        with self._errors():
            return await live_stack(self._etcd, self._layout, task_id, native, timeout_s)

    async def profile(
        self,
        task_id: str,
        seconds: float | str = 15.0,
        hz: int = 50,
        by: str = "wall",
        timeout: float | str = 15.0,
    ) -> Profile:
        """Where a running task spends its time, looked at `hz` times a second, while it goes on. by: elapsed time
        ("wall"), processor time ("cpu"), or who holds the GIL ("gil", which needs py-spy on its node). timeout: how
        much longer its node may take. Raises TaskNotFound, NotRunning, NodeSilent, and MpforaError where there is no
        profile to be had."""
        from mpfora.client.questions.questions import live_profile

        find_task_id(task_id)
        for_s, timeout_s = arguments.duration(seconds, "seconds"), arguments.seconds(timeout, "timeout")
        if not 0 < for_s <= MOST_S:
            raise BadValue(f"seconds: {for_s:g}; a profile takes more than 0 and at most {MOST_S:g} seconds")
        arguments.count(hz, "hz", MOST_HZ)
        question = Question(PROFILE, task_id, for_s=for_s, hz=hz, by=arguments.choice(by, "by", BYS) or "wall")
        with self._errors():
            return await live_profile(self._etcd, self._layout, question, timeout_s)


def _wanted(
    follow: bool, tail: int | None, run: int | None, previous: bool, since: float | str | None, grep: str | None
) -> Wanted:
    """Raises BadValue."""
    from mpfora.client.logs.run_log import Wanted

    if run is not None and arguments.flag(previous, "previous"):
        raise BadValue("previous: give it or a run, not both")
    if isinstance(since, str):
        since = time.time() - arguments.duration(since, "since")
    elif since is not None and not (isinstance(since, int | float) and 0 <= since <= _MOST_TIME):
        raise BadValue("since: must be Unix seconds, or a text like '10m'")
    try:
        pattern = None if grep is None else re.compile(grep)
    except (re.error, TypeError) as error:
        raise BadValue(f"grep: {grep!r} is no regular expression: {error}") from None
    return Wanted(
        arguments.flag(follow, "follow"),
        None if tail is None else 0 if tail == 0 else arguments.count(tail, "tail", MOST_TAIL),
        None if run is None else arguments.count(run, "run", _MOST_RUN),
        previous,
        since,
        pattern,
    )
