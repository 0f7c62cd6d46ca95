"""What mpfora raises: one family. Standard library only.

    MpforaError
    ├── BadValue                an argument of a call that cannot be meant
    │   └── FilterError         the filter of a listing: it says where in it
    ├── InvalidTask             a task that cannot be submitted
    ├── InvalidMessage          a message that no task takes: model/state.py
    ├── SettingsError           a setting that cannot hold: config/settings.py
    ├── ConfigFileError         the file of settings: config/config_file.py
    ├── HandlerSpecError        the name of a handler: config/handler_spec.py
    ├── StoreError              what a store answers; nodes and clients translate it for people
    │   ├── Unreachable         no usable answer: it may have happened where `sent`
    │   │   ├── Unusable        the connection fails for a reason that people must mend
    │   │   ├── Failed          the connection could not be made, or broke: store/etcd/messages.py
    │   │   └── Silent          a member gave no answer in time: store/etcd/messages.py
    │   ├── LeaseNotFound       the lease has ended
    │   ├── Compacted           the history that was asked for is gone
    │   ├── Unwritable          what has no form in the store; it can never be written
    │   │   └── TooLarge        a request that the store does not take
    │   ├── NameTaken           a live node has this name: supervisor/coordinator/interface.py
    │   ├── OutOfSpace          the quota is used up
    │   ├── AccessDenied        the user's role does not allow it
    │   │   └── Unauthenticated user or password are wrong
    │   ├── Rejected            any other refusal
    │   ├── TokenRefused        stays within store/etcd: store/etcd/messages.py
    │   └── BadTls              TLS files that cannot be used: store/etcd/credentials.py
    ├── EtcdUnreachable         what clients make of Unreachable: it names the endpoints
    ├── EtcdRefused             what clients make of every other StoreError
    ├── EmbeddedError           the embedded etcd cannot be found, started or joined
    ├── ClientClosed            the client was closed
    ├── TaskExists              submit: the id is taken
    ├── TaskNotFound            there is no such task
    ├── NodeNotFound            there is no such node
    ├── ScheduleNotFound        there is no such schedule
    ├── NotTaken                a command: a task in this state takes none such
    ├── UnreadableState         a command: it would write over a state that cannot be read
    ├── AnsweredOtherwise       a command: the handler left with another transition
    ├── CommandReplaced         a command: another one took its place
    ├── NotOnNode               stop_task: the node does not have the task
    ├── NotCarriedOut           a command: the time is up (a TimeoutError)
    ├── ReloadFailed            a node cannot import its new code: client/questions/node_code.py
    ├── StillRunning            delete: the time is up (a TimeoutError)
    ├── NobodyToAsk             delete: the owner is gone, and no lease ends its claim
    ├── NotRunning              a question about a task: no process of it runs
    ├── NodeSilent              a question: the task's node does not answer
    ├── WaitTimeout             wait: the time is up (a TimeoutError)
    ├── ClocksDiffer            purge: ages cannot be told
    ├── NotRetried              retry: the task has not failed, or its props are not kept
    ├── TaskFailed              a result is asked for of a task that failed: client/groups/errors.py
    ├── GroupNotFound           there is no such group: client/groups/errors.py
    ├── GroupExists             map: a group of this name is there: client/groups/errors.py
    ├── GroupIncomplete         some of a group's tasks will never come: client/groups/errors.py
    ├── CountChanged            a bulk action: its filter matches another number now: web/actions.py
    ├── RemoteError             a Pool's call raised what does not come back as itself
    └── RunDied                 a Pool's call: its process ended without a result
        ├── TaskTimeout         it took longer than its timeout
        ├── Stalled             it gave no sign of progress
        └── MemoryLimit         it used more than its memory_limit

What never leaves mpfora (a frame that cannot be read, a handler's coroutine that was left) is not of the family.
"""

from __future__ import annotations

from collections.abc import Sequence


class MpforaError(Exception):
    """The base of the family. The text is for people: it names the culprit and, where there is one, the remedy."""


class BadValue(MpforaError, ValueError):
    """An argument that cannot be meant. The text names it, and says what would be right."""


class FilterError(BadValue):
    """A filter that cannot be meant. `position` is where, counted from 0; the text quotes what stands there, and counts
    from 1."""

    def __init__(self, why: str, position: int) -> None:
        super().__init__(f"filter, at character {position + 1}: {why}")
        self.position = position


# -- a store's answers ---------------------------------------------------------------------------------------------


class StoreError(MpforaError):
    """The store refused, for a reason that asking again will not change. The text names the reason and the remedy."""


class Unreachable(StoreError):
    """No usable answer. `sent` is False when the request surely had no effect; otherwise it may have had one."""

    def __init__(self, text: str, sent: bool = True) -> None:
        super().__init__(text)
        self.sent = sent


class Unusable(Unreachable):
    """The connection fails for a reason that people must mend: TLS, a certificate, no etcd at the address. The request
    had no effect. It is tried again all the same, since what was wrong may be mended meanwhile."""

    def __init__(self, text: str) -> None:
        super().__init__(text, sent=False)


class LeaseNotFound(StoreError):
    """The lease has run out or was revoked, and every key on it is gone."""


class Compacted(StoreError):
    """The history that was asked for is gone: list again. `revision` is where the kept history begins, 0: not told."""

    def __init__(self, text: str, revision: int = 0) -> None:
        super().__init__(text)
        self.revision = revision


class Unwritable(StoreError):
    """What was to be written cannot be encoded. Nothing was sent, and trying again will not change that."""


class TooLarge(Unwritable):
    """One request is larger than the store takes."""


class OutOfSpace(StoreError):
    """The store's space quota is used up; it refuses every write."""


class AccessDenied(StoreError):
    """The user's role does not allow this; or, as Unauthenticated, nobody knows who asks."""


class Unauthenticated(AccessDenied):
    """User or password are missing or wrong."""


class Rejected(StoreError):
    """Refused for any other reason, in the store's own words."""


# -- clients --------------------------------------------------------------------------------------------------------


class ClientClosed(MpforaError):
    """The client was closed before or during the call. A write that was under way may have happened."""


class EtcdUnreachable(MpforaError):
    """etcd did not answer in time. A write that was under way may have happened."""


class EtcdRefused(MpforaError):
    """etcd answered, and refused for a reason that trying again will not change (no permission, no space)."""


class EmbeddedError(MpforaError):
    """The embedded etcd could not be found, started or joined."""


class InvalidTask(MpforaError):
    """A task that cannot be submitted: its id, its props or its handler's name."""


class TaskExists(MpforaError):
    """The id is taken. `what` says what is there: "a task", "the state of a finished task", or what else is kept; where
    `is_sentence` it says that as a whole."""

    def __init__(self, task_id: str, what: str, remedy: str, is_sentence: bool = False) -> None:
        said = what if is_sentence else f"{what} of this id exists already"
        super().__init__(f"task {task_id!r}: {said}; {remedy}")
        self.task_id = task_id
        self.what = what


class TaskNotFound(MpforaError):
    """There is no such task, and no state is kept of one."""

    def __init__(self, task_id: str, text: str = "there is no such task, and no state is kept of one") -> None:
        super().__init__(f"task {task_id!r}: {text}")
        self.task_id = task_id


class AnsweredOtherwise(MpforaError):
    """A command has reached the task, and its handler has left with another transition."""

    def __init__(self, task_id: str, verb: str, state: str) -> None:
        super().__init__(f"task {task_id!r}: its handler has answered {verb} with another transition: it is {state}")
        self.task_id = task_id
        self.state = state


class CommandReplaced(MpforaError):
    """A command was waited for, and another one was written in its place before the task's node had carried it out."""

    def __init__(self, task_id: str, verb: str, other: str) -> None:
        super().__init__(
            f"task {task_id!r}: another command ({other}) took the place of {verb} before its node had carried it out"
        )
        self.task_id = task_id
        self.other = other


class NotTaken(MpforaError):
    """A task in this state takes no such command: nothing leads on from there by it."""

    def __init__(self, task_id: str, verb: str, state: str) -> None:
        super().__init__(f"task {task_id!r}: a {state} task takes no {verb}")
        self.task_id = task_id
        self.state = state


class NotOnNode(MpforaError):
    """The node that is to stop the task does not have it; `owner` is the one that has, None if nobody has."""

    def __init__(self, task_id: str, node: str, owner: str | None) -> None:
        where = f"node {owner!r} has it" if owner else "no node has it"
        super().__init__(f"task {task_id!r} is not on node {node!r}: {where}")
        self.task_id = task_id
        self.owner = owner


class UnreadableState(MpforaError):
    """What is kept of the task's state cannot be read, and a command would have it written over."""

    def __init__(self, task_id: str, verb: str, key: str, problem: str) -> None:
        super().__init__(
            f"task {task_id!r}: its state cannot be read ({problem}), and {verb} would write over it:"
            f" mend what stands at {key} in etcd, or delete the task (mpfora delete {task_id})"
        )
        self.task_id = task_id


class ClocksDiffer(MpforaError):
    """What is to be purged by its age cannot be told: a node's clock and this machine's differ by over a minute."""

    def __init__(self, which: str) -> None:
        super().__init__(
            f"nothing is purged by age: the clocks of this machine and of nodes differ ({which}), so that nobody can"
            " tell what has finished when: set the clock that is wrong, or name the tasks"
        )


class NodeNotFound(MpforaError):
    """No live node has this name; `nodes` are those that there are."""

    def __init__(self, name: str, nodes: Sequence[str]) -> None:
        listing = ", ".join(nodes) if nodes else "none"
        super().__init__(f"node {name!r}: no such node is live (there are: {listing})")
        self.name = name
        self.nodes = tuple(nodes)


class ScheduleNotFound(MpforaError):
    """No schedule has this name; `schedules` are those that there are."""

    def __init__(self, name: str, schedules: Sequence[str]) -> None:
        listing = ", ".join(schedules) if schedules else "none"
        super().__init__(f"schedule {name!r}: there is none of this name (there are: {listing})")
        self.name = name
        self.schedules = tuple(schedules)


class NotRunning(MpforaError):
    """Something is asked of a task, and no process of it runs."""

    def __init__(self, task_id: str, why: str) -> None:
        super().__init__(f"task {task_id!r} does not run: {why}")
        self.task_id = task_id


class NodeSilent(MpforaError):
    """A node was asked, and does not answer."""

    def __init__(self, node: str, what: str) -> None:
        super().__init__(
            f"node {node!r} {what}; a node that hangs, that is cut off from etcd, of an earlier version or one of"
            " Metafora's Go answers no questions"
        )
        self.node = node


class WaitTimeout(MpforaError, TimeoutError):
    """The time given to a wait is up; `pending` are the tasks that have not finished, `why` says how they stand."""

    def __init__(self, pending: Sequence[str], timeout_s: float, why: str) -> None:
        super().__init__(f"not finished within {timeout_s:g} s: {why}")
        self.pending = tuple(pending)
        self.why = why


class StillRunning(MpforaError, TimeoutError):
    """A task is to be deleted, and its node has not ended its process within the time given. Its node goes on with
    that, or whoever owns the task next; but where `is_go`, the node is one of Metafora's Go, and the task stays."""

    def __init__(self, task_id: str, node: str, timeout_s: float, is_go: bool = False) -> None:
        text = (
            f"is being deleted on {node}: its node has not answered within {timeout_s:g} s; it is removed when {node}"
            " answers, or when its lease has ended, and its id cannot be submitted until then"
        )
        if is_go:
            text = (
                f"is not deleted: the Go node {node!r} was told to stop it, and has not let go of it within"
                f" {timeout_s:g} s; stop that node, or try again"
            )
        super().__init__(f"task {task_id!r} {text}")
        self.task_id = task_id
        self.node = node


class NobodyToAsk(MpforaError):
    """A task is to be deleted whose owner key names no live node and goes with no lease: nobody can ever answer."""

    def __init__(self, task_id: str, key: str, node: str | None) -> None:
        whose = f"of {node!r}, which is not live" if node else "that names no node"
        super().__init__(
            f"task {task_id!r} is not deleted: it has an owner key {whose}, and no lease ends it: if nothing of the"
            f" task runs, remove {key} with etcdctl, and delete the task again"
        )
        self.task_id = task_id
        self.key = key


class NotRetried(MpforaError):
    """A task is not submitted again: it has not failed, or what was submitted is not kept."""

    def __init__(self, task_id: str, why: str) -> None:
        super().__init__(f"task {task_id!r} is not submitted again: {why}")
        self.task_id = task_id


class NotCarriedOut(MpforaError, TimeoutError):
    """A command was written, and within the time given nothing shows that it was carried out. It stays where it is."""


# -- pools ----------------------------------------------------------------------------------------------------------


class RunDied(MpforaError):
    """The process of a call of a Pool ended without a result or an exception of its own. The pool goes on.

    cause       how: "exited", "signalled", "timeout", "stalled", "memory_limit", "pids_limit", "killed" (by
                PoolFuture.kill), "no_process" (there was none to be had), "zygote_lost"
    exit_code, signal   of the process; None where the other says how it ended, or nothing does
    stack       of every thread where it hung, if it was killed; "" else
    last_lines  what it printed last
    """

    def __init__(
        self,
        text: str,
        cause: str = "exited",
        exit_code: int | None = None,
        signal: int | None = None,
        stack: str = "",
        last_lines: Sequence[str] = (),
    ) -> None:
        super().__init__(text, cause, exit_code, signal, stack, tuple(last_lines))
        self.cause = cause
        self.exit_code = exit_code
        self.signal = signal
        self.stack = stack
        self.last_lines = tuple(last_lines)

    def __str__(self) -> str:
        return str(self.args[0])


class TaskTimeout(RunDied, TimeoutError):
    """The call took longer than its `timeout`: its process tree was killed. `stack` shows where it was."""


class Stalled(RunDied):
    """The call gave no sign of progress for its `stall_timeout`: its process tree was killed."""


class MemoryLimit(RunDied):
    """The call's process tree used more than its `memory_limit`: it was killed."""


class RemoteError(MpforaError):
    """A call of a Pool raised an exception that does not come back as itself: it cannot be pickled, or it is one that
    would end this program, too (KeyboardInterrupt).

    kind       its class as module.qualname
    traceback  as the child would have printed it
    """

    def __init__(self, text: str, kind: str = "", traceback: str = "") -> None:
        super().__init__(text, kind, traceback)
        self.kind = kind
        self.traceback = traceback

    def __str__(self) -> str:
        return str(self.args[0])
