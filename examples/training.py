"""Fit a line through noisy points by gradient descent: a handler as a class, for work that is told to stop.

    python -m mpfora.supervisor training:Training   # in one terminal
    python training.py 20                           # in another: a training run for each of 20 customers

`run` does the work in the main thread of its process. `stop` is called from another thread when the run is to end; here
it sets a flag that `run` looks at after each epoch. A class has no result to return (True: done, False: released): what
is learned goes where the models are kept, here into a folder.
"""

from __future__ import annotations

import json
import os
import random
import secrets
import sys
import tempfile
import threading
from pathlib import Path

from mpfora import Client, Context, Handler, Task

EPOCHS = 400
RATE = 0.5
SLOPE, OFFSET = 3.0, -1.0


class Training(Handler):
    """props: customer (seeds the data), path (where the model goes)."""

    def __init__(self, task: Task, ctx: Context) -> None:
        super().__init__(task)
        self._ctx = ctx
        self._asked = threading.Event()
        rng = random.Random(task.props["customer"])
        self._points = [(x, SLOPE * x + OFFSET + rng.gauss(0, 0.1)) for x in (rng.random() for _ in range(1000))]

    def run(self) -> bool:
        model = self._ctx.checkpoint or {"epoch": 0, "slope": 0.0, "offset": 0.0}
        while model["epoch"] < EPOCHS:
            if self._asked.is_set():
                self._ctx.save(model)
                return False
            self._ctx.beat(model["epoch"] / EPOCHS)
            self._learn(model)
        self._keep(model)
        return True

    def stop(self) -> None:
        self._asked.set()

    def _learn(self, model: dict[str, float]) -> None:
        """One epoch over all points."""
        errors = [(model["slope"] * x + model["offset"] - y, x) for x, y in self._points]
        model["slope"] -= RATE * 2 * sum(error * x for error, x in errors) / len(errors)
        model["offset"] -= RATE * 2 * sum(error for error, _ in errors) / len(errors)
        model["epoch"] += 1

    def _keep(self, model: dict[str, float]) -> None:
        """Whole or not at all. The fence in the name keeps a run that should be dead from writing over a newer one."""
        path = Path(self.task.props["path"])
        temporary = path.with_suffix(f".{self._ctx.fence}")
        temporary.write_text(json.dumps(model))
        os.replace(temporary, path)


def main(customers: int) -> None:
    name = f"training-{secrets.token_hex(3)}"
    with Client() as client, tempfile.TemporaryDirectory() as folder:
        paths = {f"{name}-{customer}": f"{folder}/{customer}.json" for customer in range(customers)}
        for customer, (task_id, path) in enumerate(paths.items()):
            client.submit(task_id, {"customer": customer, "path": path}, handler="training:Training")
        for info in client.wait(paths):
            model = json.loads(Path(paths[info.id]).read_text())
            print(f"{info.id}: {info.state}, y = {model['slope']:.2f} x + {model['offset']:.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
