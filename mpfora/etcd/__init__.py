"""The client of etcd, on python-etcd3's stubs: `Etcd` (store.py) is what the rest of mpfora uses.

One thing a module: `channel` connects to one member, `calls` makes one call and names its errors, `watch` reads one
watch, `wire` turns mpfora's own kinds (mpfora/kv.py) into messages of etcd's and back, `store` is all of it together.
Nothing outside this package imports etcd3 or grpc.
"""

from mpfora.etcd.store import Etcd as Etcd
from mpfora.etcd.store import Status as Status

__all__ = ["Etcd", "Status"]
