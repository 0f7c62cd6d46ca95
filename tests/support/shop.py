"""A node whose code a test writes anew, with the service manager that starts it again."""

from __future__ import annotations

import threading
from pathlib import Path

from node import LIMIT_S, Node, Site

from mpfora.supervisor.node.node_commands import RESTART

#: `version` ends with the version of its code, `work` saves it and goes on until it is asked to stop
_CODE = """
import mpfora

@mpfora.handler(stop_timeout=5)
def version(task, ctx):
    return {version}

@mpfora.handler(stop_timeout=5)
def work(task, ctx):
    ctx.save({version})
    while not ctx.wait(0.2):
        pass
    return mpfora.Message.release()
"""


class Shop:
    """starts: how often the node was started."""

    def __init__(self, site: Site, folder: Path, name: str = "n1") -> None:
        self._site, self._folder, self._name = site, folder, name
        self.starts = 0
        self.write(1)
        self.node = self._start()

    def write(self, version: int) -> None:
        """The code in this version. Python tells a changed file from its cache by its time and size."""
        (self._folder / "shop.py").write_text(f"{_CODE.replace('{version}', str(version))}\n# {'x' * version}\n")

    def spoil(self) -> None:
        """Code that cannot be imported."""
        (self._folder / "shop.py").write_text("PRICES = {'apple': 1}\nPRICE = PRICES['pear']\n")

    def _start(self) -> Node:
        self.starts += 1
        return self._site.start("version=shop:version", "work=shop:work", cwd=self._folder, name=self._name)

    def start_again(self) -> threading.Thread:
        """Once, when the node has left for that. Join the thread."""
        thread = threading.Thread(target=self._start_again, daemon=True)
        thread.start()
        return thread

    def _start_again(self) -> None:
        if self.node.process.wait(LIMIT_S) == RESTART:
            self.node = self._start()
