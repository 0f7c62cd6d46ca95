"""LoopThread: the event loop of a Client, in a thread of its own, and how calls of any thread get into it and out."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import threading
import weakref
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future
from typing import Any, TypeVar

from mpfora.errors import ClientClosed, MpforaError

T = TypeVar("T")

#: at the end of the interpreter the thread is waited for no longer
_EXIT_WITHIN_S = 1.0
#: for so long the loop goes on after its last call
_LINGER_S = 0.2


class LoopThread:
    """Starts at once and runs until `stop`. Safe to use from several threads, but not from its own: a call there would
    wait for itself."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._pid = os.getpid()
        #: guards the two below: no call enters the loop once it is closed, and so none waits for a loop that stands
        self._lock = threading.Lock()
        self._closed = False
        self._is_exiting = False
        #: the farewell is said
        self._done = threading.Event()
        self._calls: set[Future[Any]] = set()
        self._thread = threading.Thread(target=self._turn, name="mpfora-client", daemon=True)
        #: run in the loop as its last
        self.farewell: Callable[[], Coroutine[Any, Any, None]] = _nothing
        self._thread.start()
        _living.add(self)

    def _turn(self) -> None:
        """At the end, what is still under way in the loop (gRPC leaves tasks behind) is ended before the loop is."""
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.get_loop().run_forever()
        finally:
            self._done.set()

    @property
    def is_forked(self) -> bool:
        """This is a copy in a forked process, without its thread."""
        return self._pid != os.getpid()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`, which is cancelled if the caller is interrupted (Ctrl-C). Raises ClientClosed where it
        is stopped before or meanwhile, and MpforaError in a forked process and in its own thread."""
        call = self._enter(work)
        try:
            return call.result()
        except _Fatal as fatal:
            raise fatal.error from None
        except CancelledError:
            if self._is_exiting:  # only daemon threads are left, and the interpreter ends without them
                threading.Event().wait()
            raise ClientClosed("this Client was closed during this call: what it asked for may have happened") from None
        except BaseException:
            call.cancel()
            raise
        finally:
            self._calls.discard(call)

    def _enter(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        try:
            self._check()
            with self._lock:
                if self._closed:
                    raise ClientClosed("this Client is closed: make a new one")
                call = asyncio.run_coroutine_threadsafe(_contained(work), self._loop)
                self._calls.add(call)
                return call
        except BaseException:
            work.close()
            raise

    def _check(self) -> None:
        if self.is_forked:
            raise MpforaError(
                "this Client was made before the process was forked: make a new one in a fresh process (spawn)"
            )
        if threading.current_thread() is self._thread:
            raise MpforaError(
                "this Client is used in its own thread, by a callback of one of its calls (on_existed, on_held_up, or"
                " the tasks that submit_many reads), and would wait for itself: use it after that call, or use another"
            )

    def stop(self) -> None:
        """End the calls that are under way (they raise ClientClosed), and say farewell. Safe to call again, from other
        threads too: returns when that is done. The thread ends soon. Raises MpforaError in its own thread."""
        if self.is_forked:
            return
        self._check()
        with self._lock:
            self._end()
        self._done.wait()

    def abandon(self) -> None:
        """As `stop`, for a Client that nobody has closed: called by the garbage collector, in any thread. Waits for
        nothing, and takes no lock: its own thread may hold it."""
        if not self.is_forked:
            self._end()

    def _end(self) -> None:
        if self._closed:
            return
        self._closed = True
        for call in tuple(self._calls):
            call.cancel()
        with contextlib.suppress(RuntimeError):  # the loop has ended by itself
            self._loop.call_soon_threadsafe(self._say_farewell)

    def _say_farewell(self) -> None:
        task = self._loop.create_task(self.farewell())
        task.add_done_callback(self._farewell_said)

    def _farewell_said(self, task: asyncio.Task[None]) -> None:
        """gRPC's answers to what was cancelled still come into the loop. If it were closed they would be errors in
        another loop: all share one poller."""
        self._done.set()
        self._loop.call_later(_LINGER_S, self._loop.stop)

    def end_at_exit(self) -> None:
        """gRPC must not be in the middle of something when the interpreter ends."""
        self._is_exiting = True
        self.abandon()
        if not self.is_forked:
            self._done.wait(_EXIT_WITHIN_S)


#: those whose threads may run
_living: weakref.WeakSet[LoopThread] = weakref.WeakSet()


@atexit.register
def _end_all() -> None:
    for each in tuple(_living):
        each.end_at_exit()


async def _nothing() -> None:
    pass


class _Fatal(Exception):
    """What would end the loop instead of the call: SystemExit or KeyboardInterrupt out of a user's callback."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(error)
        self.error = error


async def _contained(work: Coroutine[Any, Any, T]) -> T:
    try:
        return await work
    except (SystemExit, KeyboardInterrupt) as error:
        raise _Fatal(error) from error
