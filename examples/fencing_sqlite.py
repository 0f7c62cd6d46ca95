"""Count primes into a row of an SQLite database that no late process can spoil: the row keeps the highest fence.

    python -m mpfora.supervisor fencing_sqlite:count       # in one terminal
    python fencing_sqlite.py primes.db 20000               # in another

Each claim of a task has a fence, higher than that of every claim before. A run first puts its fence into the row (it
takes over), then reads what is there, and from then on each write asks whether the row's fence is still its own. A
process of an earlier claim that is still alive somewhere (its machine was paused, say) finds a higher fence, and can
neither write nor take over. PostgreSQL takes the same statements.
"""

from __future__ import annotations

import secrets
import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path

from mpfora import Client, Context, Message, Task

TABLE = """
CREATE TABLE IF NOT EXISTS primes
(task TEXT PRIMARY KEY, fence INTEGER NOT NULL, next INTEGER NOT NULL, found INTEGER NOT NULL)
"""
TAKE_OVER = """
INSERT INTO primes VALUES (:task, :fence, 2, 0)
ON CONFLICT (task) DO UPDATE SET fence = :fence WHERE fence <= :fence
"""
WRITE = "UPDATE primes SET next = :next, found = :found WHERE task = :task AND fence = :fence"


class Stale(Exception):
    """A later claim of this task has written: this process is one too many."""


class Row:
    """The row of one task, as seen under one fence."""

    def __init__(self, db: sqlite3.Connection, task_id: str, fence: int) -> None:
        """Take over. Raises Stale."""
        self._db, self._key = db, {"task": task_id, "fence": fence}
        self._change(TAKE_OVER, self._key)
        # the row is ours from here on: nobody with a lower fence changes what is read now
        self.next, self.found = db.execute("SELECT next, found FROM primes WHERE task = :task", self._key).fetchone()

    def write(self, following: int, found: int) -> None:
        """Raises Stale, and then nothing was written."""
        self._change(WRITE, self._key | {"next": following, "found": found})
        self.next, self.found = following, found

    def _change(self, statement: str, values: dict[str, int | str]) -> None:
        with self._db:
            if self._db.execute(statement, values).rowcount != 1:
                raise Stale(f"{self._key['task']}: fence {self._key['fence']} is not the newest")


def count(task: Task, ctx: Context) -> Message | dict[str, int]:
    """props: database, below; step_s: between two writes (0)."""
    with closing(sqlite3.connect(task.props["database"], timeout=30)) as db:
        db.execute(TABLE)
        row, below = Row(db, task.id, ctx.fence), task.props["below"]
        while row.next < below:
            if ctx.stopping:
                return ctx.leave()
            end = min(row.next + 100, below)
            row.write(end, row.found + sum(is_prime(n) for n in range(row.next, end)))
            ctx.beat(end / below)
            time.sleep(task.props.get("step_s", 0))
        return {"found": row.found}


def is_prime(number: int) -> bool:
    return number > 1 and all(number % divisor for divisor in range(2, int(number**0.5) + 1))


def main(database: str, below: str) -> None:
    with Client() as client:
        task_id = f"fenced-{secrets.token_hex(3)}"
        props = {"database": str(Path(database).resolve()), "below": int(below)}
        client.submit(task_id, props, handler="fencing_sqlite:count")
        print(f"{client.wait(task_id).result['found']} primes below {below}, in {database}")


if __name__ == "__main__":
    main(*sys.argv[1:])
