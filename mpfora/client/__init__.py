"""What a program submits tasks and looks at the cluster with: `AsyncClient`, and `Client` for programs without an event
loop.

The two are thin: what they do is in a module for each thing (submission, commanding, listing, looking, waiting,
purging, and pending, standing and outlook, which say why a task waits and which moves would follow), as functions over
a KV.
"""

from mpfora.client.asynchronous import AsyncClient as AsyncClient
from mpfora.client.blocking import Client as Client
from mpfora.client.listing import NodeInfo as NodeInfo
from mpfora.client.listing import TaskInfo as TaskInfo
from mpfora.client.purging import Purged as Purged
from mpfora.client.standing import Standing as Standing
from mpfora.client.standing import told_together as told_together
from mpfora.client.submission import NewTask as NewTask
from mpfora.client.submission import Submitted as Submitted
from mpfora.history import Run as Run

__all__ = [
    "AsyncClient",
    "Client",
    "NewTask",
    "NodeInfo",
    "Purged",
    "Run",
    "Standing",
    "Submitted",
    "TaskInfo",
    "told_together",
]
