"""The client of etcd, on python-etcd3's stubs: `Etcd` (client.py) is what the rest of mpfora uses.

One thing a module: `credentials` reads the TLS files, `members` connects to each member, `calls` makes one call
and names its errors, `diagnosis` finds words for a connection that fails, `watch` reads one watch, `messages` turns
mpfora's own kinds (mpfora/store/kv.py) into messages of etcd's and back, `client` is all of it together. Nothing
outside this folder imports etcd3 or grpc.
"""

from mpfora.store.etcd import silence as silence  # before anything imports grpc
from mpfora.store.etcd.client import Etcd as Etcd
from mpfora.store.etcd.server import Status as Status
from mpfora.store.etcd.server import space_of as space_of

__all__ = ["Etcd", "Status"]
