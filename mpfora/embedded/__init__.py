"""The embedded etcd: one real etcd per data folder, shared by all processes that ask for it (hold.py).

`hold` is what a user has of it, `keeper` the process that keeps it and belongs to nobody, `server` the etcd process
itself, `folder` the files of a data folder.
"""

from mpfora.embedded.hold import Embedded as Embedded
from mpfora.embedded.hold import acquire as acquire
from mpfora.embedded.hold import default_data_dir as default_data_dir

__all__ = ["Embedded", "acquire", "default_data_dir"]
