"""Between the words of `mpfora/kv.py` and etcd's messages: requests, answers, and what each error of etcd means.

With `mpfora/etcd/store.py` and `mpfora/etcd/watch.py` the only importers of etcd3 and grpc. Of etcd3 (python-etcd3) the
generated messages and stubs alone are used. No I/O here.
"""

from __future__ import annotations

from typing import Any

import grpc
from etcd3.etcdrpc import kv_pb2
from etcd3.etcdrpc import rpc_pb2 as rpc
from google.protobuf.unknown_fields import UnknownFieldSet

from mpfora.kv import (
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
    TooLarge,
    Txn,
    TxnResult,
    Unreachable,
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


def encode_watch(start: str, end: str, from_revision: int) -> Any:
    """A watch that may answer in fragments. etcd3's stubs are older than that field (number 8), which is therefore
    appended to the message's bytes; protobuf keeps fields that it does not know."""
    create = rpc.WatchCreateRequest(key=encode_key(start), range_end=encode_key(end), start_revision=from_revision)
    return rpc.WatchRequest(create_request=rpc.WatchCreateRequest.FromString(create.SerializeToString() + b"\x40\x01"))


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
    """Whether a watch answer goes on in the next one (field 7, see encode_watch)."""
    known = getattr(answer, "fragment", None)
    if known is not None:
        return bool(known)
    unknown: Any = UnknownFieldSet(answer)
    return any(field.field_number == 7 and field.data for field in unknown)


# -- errors -----------------------------------------------------------------------------------------------------------


#: what a stream gives at its end (grpc's type stubs do not know it)
END: Any = getattr(grpc.aio, "EOF")  # noqa: B009


class TokenExpired(StoreError):
    """The authentication token is not valid (any more): authenticate and ask again. Never leaves the etcd modules."""


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
    ("invalid auth token", TokenExpired, ""),
    ("revision of auth store is old", TokenExpired, ""),
    ("user name is empty", AccessDenied, "etcd asks for a user and password: give both"),
    ("authentication failed", AccessDenied, "etcd does not accept this user and password: check both"),
    ("permission denied", AccessDenied, "grant the user's role readwrite on the namespace's prefix"),
    ("database space exceeded", OutOfSpace, "etcd's quota is used up: compact, defragment, `etcdctl alarm disarm`"),
    ("requested lease not found", LeaseNotFound, "the lease ran out or was revoked"),
    ("request is too large", TooLarge, "at most about 1.5 MB go into one request: make the value smaller"),
    ("message larger than max", TooLarge, "at most about 1.5 MB go into one request: make the value smaller"),
    ("has been compacted", Compacted, "the history is gone: list again"),
)

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
    """What etcd's words mean, if they are among those that mean something of their own."""
    for part, kind, advice in _BY_TEXT:
        if part in text:
            return kind(f"{advice} (etcd says: {text})" if advice else text)
    return None


def error_of(failure: grpc.aio.AioRpcError, address: str) -> StoreError:
    """The typed error of a call that failed at the member `address`."""
    code, details = failure.code(), failure.details() or ""
    typed = error_of_text(details)
    if typed is not None:
        return typed
    text = f"{address}: {code.name} {details}"
    if code is grpc.StatusCode.UNAUTHENTICATED:
        return TokenExpired(text)
    if code is grpc.StatusCode.PERMISSION_DENIED:
        return AccessDenied(text)
    if "future revision" in details:
        return Unreachable(text, sent=False)
    if code in _OPEN or "too many requests" in details:
        return Unreachable(text, sent=not any(part in details for part in _NOT_SENT))
    return Rejected(text)
