"""The words of a transactional key-value store: operations, answers, and the Store interface. Pure, standard library
only. Its errors are those of mpfora/errors.py below StoreError, and can be imported from here.

etcd's data model without etcd's messages: `mpfora/store/etcd/client.py` speaks these words to a real etcd,
`mpfora/store/memory.py` keeps them in memory. Keys are text (bytes that are not UTF-8 travel as surrogate
escapes), values are bytes. A revision counts the transactions that changed something; every change of one transaction
has the same revision.

The operations are named tuples and not dataclasses: tens of thousands are made each second.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Literal, NamedTuple, Protocol, TypeAlias

from mpfora.errors import AccessDenied as AccessDenied
from mpfora.errors import Compacted as Compacted
from mpfora.errors import LeaseNotFound as LeaseNotFound
from mpfora.errors import OutOfSpace as OutOfSpace
from mpfora.errors import Rejected as Rejected
from mpfora.errors import StoreError as StoreError
from mpfora.errors import TooLarge as TooLarge
from mpfora.errors import Unauthenticated as Unauthenticated
from mpfora.errors import Unreachable as Unreachable
from mpfora.errors import Unusable as Unusable

# -- operations -------------------------------------------------------------------------------------------------------

Target = Literal["version", "create_revision", "mod_revision", "value", "lease"]
Relation = Literal["==", ">", "<", "!="]


class Compare(NamedTuple):
    """A condition on one key. A missing key has version, revisions and lease 0."""

    key: str
    target: Target
    relation: Relation
    to: int | bytes


def absent(key: str) -> Compare:
    return Compare(key, "version", "==", 0)


def exists(key: str) -> Compare:
    return Compare(key, "version", ">", 0)


def created_at(key: str, revision: int) -> Compare:
    """The key has existed without a break since `revision`."""
    return Compare(key, "create_revision", "==", revision)


def modified_at(key: str, revision: int) -> Compare:
    """The key was last put at `revision`."""
    return Compare(key, "mod_revision", "==", revision)


def lease_is(key: str, lease: int) -> Compare:
    return Compare(key, "lease", "==", lease)


class Put(NamedTuple):
    """Answered by None. lease 0: the key stays until it is deleted."""

    key: str
    value: bytes | str
    lease: int = 0


class Delete(NamedTuple):
    """Answered by the number of keys deleted."""

    key: str


class Take(NamedTuple):
    """Deletes a key. Answered by the KV that it was, or None where there was none: one operation in place of two."""

    key: str


class DeletePrefix(NamedTuple):
    """Deletes every key that begins with `prefix`, which ends in a slash. Answered by the number of keys deleted."""

    prefix: str


class Get(NamedTuple):
    """Answered by a KV, or None where there is no such key."""

    key: str


class Txn(NamedTuple):
    """If every compare holds, do `success`, else `failure`, all of it at once. Answered by a TxnResult.

    All compares, also those of nested transactions, are judged before anything is done.
    """

    compares: tuple[Compare, ...]
    success: tuple[Op, ...]
    failure: tuple[Op, ...] = ()


Op: TypeAlias = Put | Delete | Take | DeletePrefix | Get | Txn


def prefix_end(prefix: str) -> str:
    """The first key after all that begin with `prefix`. Raises ValueError for a prefix that does not end in a slash."""
    if not prefix.endswith("/"):
        raise ValueError(f"prefix {prefix!r}: must end in '/'")
    return prefix[:-1] + "0"


def changes_nothing(txn: Txn) -> bool:
    """Whether the transaction only reads, on either branch: such a one can be sent twice."""
    return all(
        isinstance(op, Get) or (isinstance(op, Txn) and changes_nothing(op)) for op in (*txn.success, *txn.failure)
    )


# -- answers ----------------------------------------------------------------------------------------------------------


class KV(NamedTuple):
    """A key as it stands. lease 0: it hangs on none."""

    key: str
    value: bytes
    create_revision: int
    mod_revision: int
    version: int
    lease: int


class TxnResult(NamedTuple):
    """revision  the store's after the (outermost) transaction: that of its changes, if it made any
    answers      one per operation of the branch that was taken, in order"""

    succeeded: bool
    revision: int
    answers: tuple[Answer, ...]


Answer: TypeAlias = int | KV | TxnResult | None


class Listing(NamedTuple):
    """Every key of a range in the order of keys, as of one revision."""

    revision: int
    kvs: tuple[KV, ...]


class Event(NamedTuple):
    """One change of a key. For a deletion the value is empty and the create revision 0."""

    key: str
    value: bytes
    deleted: bool
    create_revision: int
    mod_revision: int


class Revision(NamedTuple):
    """All events of one revision (within the watched range), in the order in which its transaction made them."""

    revision: int
    events: tuple[Event, ...]


class Sparse(NamedTuple):
    """A part of a range that may have very many keys of which few are wanted.

    wanted  of any key of the whole range: the key in [start, end) that is wanted because that one is there; None: none
    """

    start: str
    end: str
    wanted: Callable[[str], str | None]


class Lease(NamedTuple):
    id: int
    ttl_s: float


#: above this part of its quota a store is nearly full
NEARLY_FULL = 0.8


class Space(NamedTuple):
    """How full a store is, in bytes. is_told: the quota is what the store says, and not what it is as a rule."""

    used: int
    quota: int
    is_told: bool = True

    @property
    def part(self) -> float:
        return self.used / self.quota if self.quota else 0.0

    @property
    def is_nearly_full(self) -> bool:
        return self.part >= NEARLY_FULL


class Store(Protocol):
    """What a coordinator needs of a store. Every method may raise Unreachable and StoreError."""

    async def txn(self, txn: Txn, timeout_s: float = ...) -> TxnResult:
        """Run one transaction. timeout_s: how long it may take; the store has a default."""

    def submit(self, txn: Txn, subject: str) -> Awaitable[TxnResult]:
        """Run one transaction, perhaps together with others in one request. Those of one subject run one after
        another, in the order of the calls; those of different subjects must have no key in common."""

    async def list(self, start: str, end: str) -> Listing:
        """Every key in [start, end)."""

    def pages(self, start: str, end: str, sparse: Sparse | None = None) -> AsyncGenerator[Listing, None]:
        """Every key in [start, end) in pieces that are small enough to be handled at once, all of one revision; at
        least one, which may be empty. Of the sparse part what nobody wants may be left out, and what is wanted may come
        last. Raises Compacted if that revision goes meanwhile: begin again."""

    def watch(self, start: str, end: str, from_revision: int) -> AsyncGenerator[Revision, None]:
        """Every revision from `from_revision` on that changes [start, end): for ever, each once, in order. Raises
        Compacted where that cannot be had any more."""

    async def grant(self, ttl_s: float) -> Lease:
        """A new lease."""

    async def keepalive(self, lease: int, timeout_s: float) -> float:
        """Renew a lease once. Returns its TTL in seconds, counted from the sending. Raises LeaseNotFound."""

    async def revoke(self, lease: int, timeout_s: float) -> None:
        """End a lease and delete its keys. Raises LeaseNotFound."""

    async def close(self) -> None:
        """Let go of connections. Never raises."""
