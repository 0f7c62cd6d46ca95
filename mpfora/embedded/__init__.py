"""The embedded etcd: one real etcd per data folder, shared by all processes that ask for it.

`keeper_client` is the users' end of it, `keeper` the process that runs it and belongs to nobody, `users` whoever is
connected to the keeper, `server` the etcd process itself, `folder` the files of a data folder, `data_folder` where that
is.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mpfora.embedded.data_folder import default_data_dir as default_data_dir
    from mpfora.embedded.keeper_client import Embedded as Embedded
    from mpfora.embedded.keeper_client import acquire as acquire

__all__ = ["Embedded", "acquire", "default_data_dir"]


def __getattr__(name: str) -> Any:
    """Imported at their first use: a client of another etcd needs nothing of it."""
    if name not in __all__:
        raise AttributeError(f"module 'mpfora.embedded' has no attribute {name!r}")
    module = "data_folder" if name == "default_data_dir" else "keeper_client"
    value = getattr(importlib.import_module(f"mpfora.embedded.{module}"), name)
    globals()[name] = value
    return value
