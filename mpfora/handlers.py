"""What handler authors import to declare handlers: the Handler class and the @handler decorator. Standard library
only."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ParamSpec, Protocol, TypeVar, overload

from mpfora.model.needs import Needs, parse_needs
from mpfora.model.task import Task
from mpfora.model.units import parse_duration, parse_size
from mpfora.retry import Retry

F = TypeVar("F", bound=Callable[..., Any])
H = TypeVar("H", bound="Handler")
P = TypeVar("P")
P_contra = TypeVar("P_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)
S = TypeVar("S")
S_co = TypeVar("S_co", covariant=True)
Arguments = ParamSpec("Arguments")

#: the attributes under which @handler leaves its settings, and the spec of props, on what it decorates
SETTINGS_ATTRIBUTE = "__mpfora__"
PROPS_ATTRIBUTE = "__mpfora_props__"


class Handler(ABC):
    """A handler as a class, Metafora's form: made with the task in the child's main thread, then `run` once and only
    once.

    class Train(mpfora.Handler):
        def __init__(self, task, ctx): ...       # both are passed; a class that takes the task alone gets it alone
    """

    def __init__(self, task: Task) -> None:
        self.task = task

    @abstractmethod
    def run(self) -> bool:
        """Do the work, in the main thread. True: done for ever. False: released, to be run again, perhaps elsewhere.
        Any exception is an error of the task."""

    @abstractmethod
    def stop(self) -> None:
        """Make `run` return soon. Called from another thread when the run is to end, perhaps more than once, never
        two at a time, and perhaps before `run` was entered."""


@dataclass(frozen=True, slots=True)
class HandlerSettings:
    """Settings of one handler, over the node's; None: the node's holds.

    pids_limit  the most processes and threads that the task's tree may have
    stall_by  what counts as life for stall_timeout: "beats", or "cpu" (any CPU time used by the task's tree)
    needs     of a node's resources
    """

    stop_timeout_s: float | None = None
    stall_timeout_s: float | None = None
    stall_by: str | None = None
    memory_limit: int | None = None
    retry: Retry | None = None
    pids_limit: int | None = None
    needs: Needs | None = None

    def __post_init__(self) -> None:
        if self.needs is not None:  # the zygote sends them as JSON lists
            object.__setattr__(self, "needs", tuple((name, amount) for name, amount in self.needs))


class Submitter(Protocol[S_co]):
    """A Client or an AsyncClient, by what its `submit_declared` returns."""

    def submit_declared(
        self,
        declared: DeclaredSubmit,
        task_id: str,
        props: Any,
        handler: str | None = None,
        replace: bool = False,
        group: str | None = None,
    ) -> S_co: ...


class Submittable(Protocol[P_contra]):
    """A handler that declares its props."""

    @property
    def submit(self) -> Submit[P_contra]: ...


class DeclaredHandler(Submittable[P_contra], Protocol[P_contra, Arguments, R_co]):
    """A handler function that declares its props: it is called as before, and its tasks are submitted by `submit`."""

    def __call__(self, *args: Arguments.args, **kwargs: Arguments.kwargs) -> R_co: ...


class Declare(Protocol[P_contra]):
    """The decorator that `handler(props=...)` returns, for a function or a class."""

    @overload  # a class is a callable, too
    def __call__(self, target: type[H], /) -> type[H]: ...  # type: ignore[overload-overlap]

    @overload
    def __call__(self, target: Callable[Arguments, R_co], /) -> DeclaredHandler[P_contra, Arguments, R_co]: ...


class Submit(Protocol[P_contra]):
    """`train.submit(client, "t1", Job(customer=17))`: props of the declared type, checked before anything is
    written."""

    def __call__(
        self,
        client: Submitter[S],
        task_id: str,
        props: P_contra,
        *,
        handler: str | None = None,
        replace: bool = False,
        group: str | None = None,
    ) -> S:
        """As the client's `submit`. handler: its name where nodes were started with another (NAME=module:train).
        Raises InvalidTask for props that do not fit, and what the client's `submit` raises."""


@overload
def handler(
    *,
    stop_timeout: float | str | None = ...,
    stall_timeout: float | str | None = ...,
    stall_by: str | None = ...,
    memory_limit: int | str | None = ...,
    pids_limit: int | None = ...,
    retry: Retry | None = ...,
    needs: Mapping[str, float | str] | None = ...,
    props: None = ...,
) -> Callable[[F], F]: ...


@overload
def handler(
    *,
    props: type[P],
    stop_timeout: float | str | None = ...,
    stall_timeout: float | str | None = ...,
    stall_by: str | None = ...,
    memory_limit: int | str | None = ...,
    pids_limit: int | None = ...,
    retry: Retry | None = ...,
    needs: Mapping[str, float | str] | None = ...,
) -> Declare[P]: ...


def handler(
    *,
    stop_timeout: float | str | None = None,
    stall_timeout: float | str | None = None,
    stall_by: str | None = None,
    memory_limit: int | str | None = None,
    pids_limit: int | None = None,
    retry: Retry | None = None,
    props: type | None = None,
    needs: Mapping[str, float | str] | None = None,
) -> Any:
    """Declare settings of a handler function or class, over the node's.

    props: what a task's props must be: a dataclass, a TypedDict or a pydantic model. They are checked before the run,
    which finds them built as `task.config`; a task whose props do not fit fails at once, with the fields named. The
    handler has a `submit` then, which takes props of this type and checks them before anything is written.

    needs: what a run needs of its node's --has, like {"gpus": 1, "memory": "8GiB"}; "needs" in props replace these.

    Durations are seconds or texts like "90s", "10m", "4h"; sizes are bytes or texts like "2GiB". Raises ValueError at
    import for what cannot be meant, naming the setting.
    """
    if stall_by not in (None, "beats", "cpu"):
        raise ValueError(f"handler(stall_by={stall_by!r}): use 'beats' or 'cpu'")
    if pids_limit is not None and (type(pids_limit) is not int or pids_limit < 1):
        raise ValueError(f"handler(pids_limit={pids_limit!r}): a number of processes and threads is needed, 1 or more")
    settings = HandlerSettings(
        stop_timeout_s=None if stop_timeout is None else parse_duration(stop_timeout, "stop_timeout"),
        stall_timeout_s=None if stall_timeout is None else parse_duration(stall_timeout, "stall_timeout"),
        stall_by=stall_by,
        memory_limit=None if memory_limit is None else parse_size(memory_limit, "memory_limit"),
        pids_limit=pids_limit,
        retry=retry,
        needs=None if needs is None else parse_needs(needs, "handler needs"),
    )

    def mark(target: Any) -> Any:
        setattr(target, SETTINGS_ATTRIBUTE, settings)
        if props is not None:
            setattr(target, PROPS_ATTRIBUTE, props)
            if isinstance(getattr(target, "submit", None), DeclaredSubmit | None):  # none of its own
                target.submit = DeclaredSubmit(target, props)
        return target

    return mark


class DeclaredSubmit:
    """The `submit` of a handler that declares its props. The client does what is to be done: every process of a task
    has one of these."""

    def __init__(self, target: Callable[..., Any], spec: type) -> None:
        self.target, self.spec = target, spec

    def __call__(self, client: Submitter[S], task_id: str, props: Any, *, handler: str | None = None,
                 replace: bool = False, group: str | None = None) -> S:  # fmt: skip
        return client.submit_declared(self, task_id, props, handler, replace, group)
