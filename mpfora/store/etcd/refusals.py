"""Refusals of etcd in words. They name the etcd, the user, the namespace and the option to look at. Pure."""

from __future__ import annotations

from mpfora.config.settings import EtcdSettings
from mpfora.store.kv import AccessDenied, Unauthenticated


def explain_refusal(error: AccessDenied, settings: EtcdSettings, namespace: str, root: str) -> str:
    """One line. root: the prefix of the namespace's keys."""
    etcd, user = ",".join(settings.endpoints), settings.user
    if user is None:
        needs = f"etcd at {etcd} asks for a user and password, for namespace {namespace!r} too"
        return f"{needs}: give --etcd-user, and its password in MPFORA_ETCD_PASSWORD ({error})"
    if isinstance(error, Unauthenticated):
        return (
            f"etcd at {etcd} refuses user {user!r}, for namespace {namespace!r}: {error};"
            " they come from --etcd-user and MPFORA_ETCD_PASSWORD"
        )
    return (
        f"etcd at {etcd} does not allow user {user!r} (--etcd-user) what is needed in namespace {namespace!r}: {error};"
        f" as by: etcdctl role grant-permission ROLE --prefix=true readwrite {root}"
    )
