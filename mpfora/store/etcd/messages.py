"""Between the words of `mpfora/store/kv.py` and etcd's messages: requests, answers, and what each error of etcd means.

Of etcd3 (python-etcd3) the generated messages and stubs alone are used. No I/O here.
"""

from __future__ import annotations

from typing import Any

import grpc
from etcd3.etcdrpc import kv_pb2
from etcd3.etcdrpc import rpc_pb2 as rpc
from google.protobuf.unknown_fields import UnknownFieldSet

from mpfora.store.kv import (
    KV,
    AccessDenied,
    Answer,
    Compacted,
    Compare,
    Delete,
    DeletePrefix,
    Event,
    Get,
    LeaseNotFound,
    Op,
    OutOfSpace,
    Put,
    Rejected,
    StoreError,
    Take,
    TooLarge,
    Txn,
    TxnResult,
    Unauthenticated,
    Unreachable,
    Unusable,
    prefix_end,
)

# -- requests ---------------------------------------------------------------------------------------------------------


def encode_key(key: str) -> bytes:
    return key.encode("utf-8", "surrogateescape")


def decode_key(key: bytes) -> str:
    return key.decode("utf-8", "surrogateescape")


_RELATIONS = {"==": rpc.Compare.EQUAL, ">": rpc.Compare.GREATER, "<": rpc.Compare.LESS, "!=": rpc.Compare.NOT_EQUAL}
_TARGETS = {
    "version": rpc.Compare.VERSION,
    "create_revision": rpc.Compare.CREATE,
    "mod_revision": rpc.Compare.MOD,
    "value": rpc.Compare.VALUE,
    "lease": rpc.Compare.LEASE,
}


def encode_txn(txn: Txn) -> Any:
    request = rpc.TxnRequest()
    _fill_txn(request, txn)
    return request


# Messages are filled in place: making each by its constructor and copying it into its place takes three times as long,
# and this is where most of a claim's CPU time went.


def _fill_txn(request: Any, txn: Txn) -> None:
    for compare in txn.compares:
        _fill_compare(request.compare.add(), compare)
    for op in txn.success:
        _fill_op(request.success.add(), op)
    for op in txn.failure:
        _fill_op(request.failure.add(), op)


def _fill_compare(message: Any, compare: Compare) -> None:
    message.key = encode_key(compare.key)
    message.target = _TARGETS[compare.target]
    message.result = _RELATIONS[compare.relation]
    setattr(message, compare.target, compare.to)


def _fill_op(message: Any, op: Op) -> None:
    if isinstance(op, Get):
        message.request_range.key = encode_key(op.key)
    elif isinstance(op, Put):
        _fill_put(message.request_put, op)
    elif isinstance(op, Delete):
        message.request_delete_range.key = encode_key(op.key)
    elif isinstance(op, Take):
        message.request_delete_range.key = encode_key(op.key)
        message.request_delete_range.prev_kv = True
    elif isinstance(op, DeletePrefix):
        message.request_delete_range.key = encode_key(op.prefix)
        message.request_delete_range.range_end = encode_key(prefix_end(op.prefix))
    else:
        message.request_txn.SetInParent()  # even if it is empty
        _fill_txn(message.request_txn, op)


def _fill_put(message: Any, put: Put) -> None:
    message.key = encode_key(put.key)
    message.value = put.value.encode() if isinstance(put.value, str) else put.value
    message.lease = put.lease


def encode_watch(start: str, end: str, from_revision: int, *, fragments: bool = False) -> Any:
    """fragments: a large answer may come in several messages. etcd3's stubs are older than that field (number 8), which
    is therefore appended to the message's bytes; protobuf keeps fields that it does not know."""
    create = rpc.WatchCreateRequest(key=encode_key(start), range_end=encode_key(end), start_revision=from_revision)
    if fragments:
        create = rpc.WatchCreateRequest.FromString(create.SerializeToString() + b"\x40\x01")
    return rpc.WatchRequest(create_request=create)


# -- answers ----------------------------------------------------------------------------------------------------------


def decode_kv(kv: Any) -> KV:
    return KV(decode_key(kv.key), kv.value, kv.create_revision, kv.mod_revision, kv.version, kv.lease)


def _decode_answer(op: Op, answer: Any, revision: int) -> Answer:
    if isinstance(op, Put):
        return None
    if isinstance(op, Get):
        kvs = answer.response_range.kvs
        return decode_kv(kvs[0]) if kvs else None
    if isinstance(op, Txn):
        return decode_txn(op, answer.response_txn, revision)
    if isinstance(op, Take):
        kvs = answer.response_delete_range.prev_kvs
        return decode_kv(kvs[0]) if kvs else None
    deleted: int = answer.response_delete_range.deleted
    return deleted


def decode_txn(txn: Txn, answer: Any, revision: int | None = None) -> TxnResult:
    """`revision` is given for a nested one: only the outermost header tells it."""
    revision = answer.header.revision if revision is None else revision
    ops = txn.success if answer.succeeded else txn.failure
    answers = [_decode_answer(op, found, revision) for op, found in zip(ops, answer.responses, strict=True)]
    return TxnResult(answer.succeeded, revision, tuple(answers))


def decode_event(event: Any) -> Event:
    kv = event.kv
    deleted = event.type == kv_pb2.Event.DELETE
    return Event(decode_key(kv.key), kv.value, deleted, kv.create_revision, kv.mod_revision)


def is_fragment(answer: Any) -> bool:
    """Whether the next answer continues this watch answer (field 7, see encode_watch)."""
    known = getattr(answer, "fragment", None)
    if known is not None:
        return bool(known)
    unknown: Any = UnknownFieldSet(answer)
    return any(field.field_number == 7 and field.data for field in unknown)


def quota_of(status: Any) -> int:
    """The quota that a member tells of (field 12 of its status, since etcd 3.6); 0: it does not tell."""
    known = getattr(status, "dbSizeQuota", None)
    if known is not None:
        return int(known)
    unknown: Any = UnknownFieldSet(status)
    return next((int(field.data) for field in unknown if field.field_number == 12), 0)


# -- errors -----------------------------------------------------------------------------------------------------------


#: what a stream gives at its end (grpc's type stubs do not know it)
END: Any = getattr(grpc.aio, "EOF")  # noqa: B009


class TokenRefused(StoreError):
    """The request came without a token, or with one that is not valid (any more): authenticate and ask again. Never
    leaves the etcd modules."""


class Failed(Unreachable):
    """The connection to the member at `address` could not be made, or broke: a look at it may tell why."""

    def __init__(self, text: str, sent: bool, address: str) -> None:
        super().__init__(text, sent)
        self.address = address


class Silent(Unreachable):
    """A member gave no answer in time: its connection may lead nowhere."""


#: texts by which it is known that a request did not leave or was not taken
_NOT_SENT = (
    "failed to connect",
    "no leader",
    "too many requests",
    "DNS resolution",
    "name resolution",
    "connections to all backends failing",
)

#: part of etcd's text -> what it means and what to do
_BY_TEXT: tuple[tuple[str, type[StoreError], str], ...] = (
    ("invalid auth token", TokenRefused, ""),
    ("revision of auth store is old", TokenRefused, ""),
    ("user name is empty", TokenRefused, ""),
    ("authentication failed", Unauthenticated, "etcd does not accept this user and password: check both"),
    ("permission denied", AccessDenied, "grant the user's role readwrite on the namespace's prefix"),
    ("database space exceeded", OutOfSpace, "etcd's quota is used up: compact, defragment, `etcdctl alarm disarm`"),
    ("requested lease not found", LeaseNotFound, "the lease ran out or was revoked"),
    ("request is too large", TooLarge, "at most about 1.5 MB go into one request: make the value smaller"),
    ("message larger than max", TooLarge, "at most about 1.5 MB go into one request: make the value smaller"),
    ("has been compacted", Compacted, "the history is gone: list again"),
)

#: how every error of etcd's own begins, and none of a proxy's or of gRPC's
_ETCD_SAYS = "etcdserver: "

#: codes of answers that leave open whether the request had an effect
_OPEN = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.ABORTED,
)


def error_of_text(text: str) -> StoreError | None:
    """The typed error for words of etcd; None: these words have no error of their own."""
    for part, kind, advice in _BY_TEXT:
        if part in text:
            return kind(f"{advice} (etcd says: {text})" if advice else text)
    return None


def error_of(failure: grpc.aio.AioRpcError, address: str) -> StoreError:
    """The typed error of a call that failed at the member `address`.

    Only etcd itself refuses for good. What something on the way answers in its place (a load balancer its 404, a proxy
    its 403 while what is behind it is away) says nothing of etcd: another member is asked, or the same one later."""
    code, details = failure.code(), failure.details() or ""
    typed = error_of_text(details)
    if typed is not None and (_ETCD_SAYS in details or isinstance(typed, TooLarge)):
        return typed
    text = f"{address}: {code.name} {details}"
    if "future revision" in details:
        return Unreachable(text, sent=False)
    if code in _OPEN or "too many requests" in details:
        sent = not any(part in details for part in _NOT_SENT)
        return Failed(text, sent, address) if code is grpc.StatusCode.UNAVAILABLE else Unreachable(text, sent)
    if _ETCD_SAYS not in details:
        return Unusable(f"{address}: what answers there is not etcd, or a proxy without it ({code.name} {details})")
    if code is grpc.StatusCode.UNAUTHENTICATED:
        return TokenRefused(text)
    return AccessDenied(text) if code is grpc.StatusCode.PERMISSION_DENIED else Rejected(text)
