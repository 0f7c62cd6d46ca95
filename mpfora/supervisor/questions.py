"""Answers what people ask of this node through the store: where a task is, and where it spends its time.

The core never sees questions. While nobody asks nothing is done. A question hangs on the lease of whoever asks, and
ends with it. What the node has to write for its tasks goes first.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import zlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

from mpfora.cluster.changes import Asked
from mpfora.store.question_records import LOG, MACHINE, PROFILE, STACK, Question, format_answer, parse_question
from mpfora.supervisor.answer_room import AnswerRoom
from mpfora.supervisor.coordinator.interface import Coordinator, StoreError
from mpfora.supervisor.zygote.live_profile import Unprofiled
from mpfora.supervisor.zygote.live_stack import Ended
from mpfora.supervisor.zygote.node_zygotes import NodeZygotes

log = logging.getLogger("mpfora.node")

#: how many questions are answered at once: in all, and of one asker (one lease). Others are told to ask again
AT_ONCE, OF_ONE = 8, 4
#: the same of questions for logs, most of which wait for something to be printed
LOGS_AT_ONCE, LOGS_OF_ONE = 32, 12
#: more questions than these at once are dropped
_HEARD = 64
#: what all answers together may write
BYTES_PER_SECOND = 256 * 1024
#: how long an answer waits for what the node has to write for its tasks, and how often it looks
_YIELD_S, _LOOK_S = 2.0, 0.02


class Questions:
    """Those of one node. is_busy: whether the node is writing for its tasks; others: answers
    to further kinds of questions, by their name."""

    def __init__(
        self,
        node: str,
        coordinator: Coordinator,
        zygotes: NodeZygotes,
        is_busy: Callable[[], bool],
        others: Mapping[str, Callable[[Question], Awaitable[dict[str, Any]]]] = MappingProxyType({}),
        room: AnswerRoom | None = None,
    ) -> None:
        self._node = node
        self._coordinator = coordinator
        self._zygotes = zygotes
        self._is_busy = is_busy
        self._others = others
        self._room = room or AnswerRoom(coordinator)
        self._answering: dict[str, asyncio.Task[None]] = {}
        #: number of each question that is being answered -> its lease
        self._leases: dict[str, int] = {}
        self._log_leases: dict[str, int] = {}
        self._writing = asyncio.Lock()

    def take(self, asked: Iterable[Asked]) -> None:
        """Called for what the watch shows. A question that was withdrawn, or whose asker has gone, is dropped."""
        for one in asked:
            if one.node != self._node:
                continue
            if one.is_gone:
                if (answering := self._answering.get(one.number)) is not None:
                    answering.cancel()
            elif one.number not in self._answering and len(self._answering) < _HEARD:
                task = asyncio.get_running_loop().create_task(self._answer(one.number))
                self._answering[one.number] = task
                task.add_done_callback(partial(self._forget, one.number))

    def close(self) -> None:
        for task in self._answering.values():
            task.cancel()

    def _forget(self, number: str, _: asyncio.Task[None]) -> None:
        del self._answering[number]
        self._leases.pop(number, None)
        self._log_leases.pop(number, None)

    async def _answer(self, number: str) -> None:
        try:
            found = await self._coordinator.question(self._node, number)
            if found is not None:
                text, lease = found
                await self._write(number, lease, await self._found(number, text, lease))
        except StoreError as error:
            log.info("question %s is not answered: %s", number, error)
        except Exception:
            log.exception("question %s cannot be answered: this is a bug in mpfora", number)

    async def _found(self, number: str, text: str, lease: int) -> dict[str, Any]:
        try:
            question = parse_question(text)
        except ValueError as error:
            return {"error": str(error)}
        if question.what == LOG:
            leases, at_once, of_one = self._log_leases, LOGS_AT_ONCE, LOGS_OF_ONE
        else:
            leases, at_once, of_one = self._leases, AT_ONCE, OF_ONE
        if len(leases) >= at_once or sum(other == lease for other in leases.values()) >= of_one:
            text = f"{self._node} answers {at_once} such questions at once, {of_one} of one asker: ask again"
            return {"error": text, "again": True}
        leases[number] = lease
        if question.what != MACHINE and (why := await self._room.why_none()):
            return {"error": why}
        return await self._look(question)

    async def _look(self, question: Question) -> dict[str, Any]:
        if (other := self._others.get(question.what)) is not None:
            return await other(question)
        if question.what not in (STACK, PROFILE):
            return {"error": f"{self._node} is of a version that cannot be asked for {question.what!r}"}
        run = self._zygotes.run_of(question.task_id)
        try:
            if run is None:
                raise Ended
            if question.what == PROFILE:
                return await self._profile(run, question)
            stack = await self._zygotes.looks.stack(run, native=question.native)
        except Unprofiled as error:
            return {"error": str(error)}
        except Ended:
            return {"gone": True}
        except OSError as error:
            return {"error": f"{self._node} cannot look: {error}"}
        return {"stack": stack.text, "how": stack.how, "note": stack.note, "pid": stack.pid, "attempt": stack.attempt}

    async def _profile(self, run: int, question: Question) -> dict[str, Any]:
        found = await self._zygotes.looks.profile(run, for_s=question.for_s, hz=question.hz, by=question.by)
        packed = await asyncio.to_thread(zlib.compress, found.text.encode())
        return {
            "profile": base64.b64encode(packed).decode(),
            "how": found.how,
            "note": found.note,
            "pid": found.pid,
            "attempt": found.attempt,
        }

    async def _write(self, number: str, lease: int, answer: dict[str, Any]) -> None:
        """Piece by piece, until the asker has gone."""
        for sequence, piece in enumerate(format_answer(answer)):
            await self._wait_for_the_node()
            async with self._writing:
                if not await self._coordinator.answer(self._node, number, sequence, piece, lease):
                    return
                await asyncio.sleep(len(piece) / BYTES_PER_SECOND)

    async def _wait_for_the_node(self) -> None:
        loop = asyncio.get_running_loop()
        ends = loop.time() + _YIELD_S
        while self._is_busy() and loop.time() < ends:  # noqa: ASYNC110 - nothing tells when it has written
            await asyncio.sleep(_LOOK_S)
