"""AsyncGroup: the tasks of a group: how far they are, as they finish, their results, and commands for all of them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import aclosing

from mpfora.client.groups.book import GroupBook
from mpfora.client.groups.ids import in_order
from mpfora.client.groups.mirror import GroupMirror
from mpfora.client.groups.waiting import GroupWaiting
from mpfora.client.info.task_info import FINISHED
from mpfora.client.tasks import arguments
from mpfora.client.tasks.wait_reports import listed
from mpfora.errors import MpforaError, NotCarriedOut, TaskNotFound, WaitTimeout
from mpfora.model.state import Message, State


class AsyncGroup(GroupWaiting):
    """The tasks of one group. `AsyncClient.map` and `AsyncClient.group` make it; it holds no connection of its own.

    name   that the tasks have as their group
    size   how many tasks there are; where nobody has noted that, how many there were when this was made
    """

    async def kill(self, timeout: float | str = 30.0) -> int:
        """End its tasks for ever, as killed; those that run are dead when this returns. Returns how many have not
        finished before. Raises NotCarriedOut (a TimeoutError), which says how many are left."""
        return await self.command(Message.kill(), timeout)

    async def command(self, message: Message, timeout: float | str = 30.0) -> int:
        """A command for each task that has not finished, like Message.pause(). Of a kill it is waited for that all have
        finished, of any other that it is carried out. Returns how many tasks it was for. Raises NotCarriedOut."""
        arguments.message(message)
        limit = arguments.seconds(timeout, "timeout")
        is_kill = message == Message.kill()
        async with self._watch.looking():
            ids = await self._unfinished()
            answers = await self._client.command_many(ids, message, wait=not is_kill, timeout=limit)
            refused = {task_id: error for task_id, error in answers.items() if isinstance(error, MpforaError)}
            if is_kill:
                await self._wait_dead([task_id for task_id in ids if task_id not in refused], limit)
        now = await self._client._finished(list(refused)) if refused else {}
        left = [task_id for task_id in refused if task_id in now and now[task_id].state not in FINISHED]
        if left:
            first = refused[left[0]]
            raise NotCarriedOut(f"group {self.name!r}: {len(left):,} of {len(ids):,} tasks: {first}")
        return len(ids)

    async def _wait_dead(self, ids: Sequence[str], limit_s: float) -> None:
        book = GroupBook(ids)
        try:
            async with aclosing(self._told(book, time.monotonic() + limit_s)) as told:
                async for _ in told:
                    pass
        except WaitTimeout as error:
            text = f"{len(error.pending):,} of {len(ids):,} tasks have not finished within {limit_s:g} s"
            raise NotCarriedOut(f"group {self.name!r}: {text}: {listed(error.pending)}") from None

    async def _unfinished(self) -> list[str]:
        async with self._watch.looking() as mirror:
            facts = GroupMirror(mirror).facts
            return in_order(one for one in self._watch.members(mirror) if facts[one].state not in FINISHED)

    async def retry_failed(self) -> int:
        """Submit each task that has failed again, with the props that it had: at once, under its id, without what the
        runs before have left. Returns how many. Raises NotRetried for the first that cannot be, when the others are
        submitted."""
        async with self._watch.looking() as mirror:
            failed = in_order(self._watch.of_state(mirror, State.FAILED))
        answers = await self._client.retry_many(failed)
        errors = [error for error in answers.values() if error is not None]
        if errors:
            raise errors[0]
        return len(failed)

    async def delete(self, timeout: float | str = 30.0) -> int:
        """Stop its tasks, and remove them with all that is kept of them, and of the group. Returns how many there were.
        Raises the error of the first that could not be, when the others are gone."""
        answers = await self._client.delete_many(await self._found(), timeout=arguments.seconds(timeout, "timeout"))
        errors = [
            error
            for error in answers.values()
            if isinstance(error, MpforaError) and not isinstance(error, TaskNotFound)
        ]
        if errors:
            raise errors[0]
        await self._client.forget_group(self.name)
        return len(answers)
