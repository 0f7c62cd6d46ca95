"""The words of a transactional key-value store: operations, answers, errors, and the Store interface. Pure, standard
library only.

etcd's data model without etcd's messages: `mpfora/etcd/store.py` speaks these words to a real etcd,
`mpfora/supervisor/memory_kv.py` keeps them in memory. Keys are text (bytes that are no UTF-8 travel as surrogate
escapes), values are bytes. A revision counts the transactions that changed something; every change of one transaction
has the same revision.

The operations are named tuples and not dataclasses: tens of thousands are made each second.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable
from typing import Literal, NamedTuple, Protocol, TypeAlias

# -- errors -----------------------------------------------------------------------------------------------------------


class StoreError(Exception):
    """The store refused, for a reason that asking again will not change. The text names the reason and the remedy."""


class Unreachable(StoreError):
    """No usable answer. `sent` is False when the request surely had no effect; otherwise it may have had one."""

    def __init__(self, text: str, sent: bool = True) -> None:
        super().__init__(text)
        self.sent = sent


class LeaseNotFound(StoreError):
    """The lease has run out or was revoked, and every key on it is gone."""


class Compacted(StoreError):
    """The history that was asked for is gone: list again. `revision` is where the kept history begins, 0: not told."""

    def __init__(self, text: str, revision: int = 0) -> None:
        super().__init__(text)
        self.revision = revision


class TooLarge(StoreError):
    """One request is larger than the store takes."""


class OutOfSpace(StoreError):
    """The store's space quota is used up; it refuses every write."""


class AccessDenied(StoreError):
    """User or password are missing or wrong, or the user's role does not allow this."""


class Rejected(StoreError):
    """Refused for any other reason, in the store's own words."""


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


def value_is(key: str, value: bytes | str) -> Compare:
    return Compare(key, "value", "==", value.encode() if isinstance(value, str) else value)


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


class DeletePrefix(NamedTuple):
    """Deletes every key that begins with `prefix`, which ends in a slash. Answered by the number of keys deleted."""

    prefix: str


class Get(NamedTuple):
    """Answered by a KV, or None where there is no such key."""

    key: str


class Txn(NamedTuple):
    """If every compare holds do `success`, else `failure`; all of it at once. Answered by a TxnResult.

    The compares of nested transactions are all judged before anything is done.
    """

    compares: tuple[Compare, ...]
    success: tuple[Op, ...]
    failure: tuple[Op, ...] = ()


Op: TypeAlias = Put | Delete | DeletePrefix | Get | Txn


def prefix_end(prefix: str) -> str:
    """The first key after all that begin with `prefix`. Raises ValueError for a prefix that does not end in a slash."""
    if not prefix.endswith("/"):
        raise ValueError(f"prefix {prefix!r}: must end in '/'")
    return prefix[:-1] + "0"


def changes_nothing(txn: Txn) -> bool:
    """Whether it only reads, on either branch: such a transaction can be sent twice."""
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
    """One change of a key. Of a deleted one the value is empty and the create revision 0."""

    key: str
    value: bytes
    deleted: bool
    create_revision: int
    mod_revision: int


class Revision(NamedTuple):
    """All events of one revision (within the watched range), in the order in which its transaction made them."""

    revision: int
    events: tuple[Event, ...]


class Lease(NamedTuple):
    id: int
    ttl_s: float


class Store(Protocol):
    """What a coordinator needs of a store. Every method may raise Unreachable and StoreError."""

    async def txn(self, txn: Txn) -> TxnResult:
        """Run one transaction."""

    def submit(self, txn: Txn, subject: str) -> Awaitable[TxnResult]:
        """Run one transaction, perhaps together with others in one request. Those of one subject run one after
        another, in the order of the calls; those of different subjects must have no key in common."""

    async def list(self, start: str, end: str) -> Listing:
        """Every key in [start, end)."""

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
