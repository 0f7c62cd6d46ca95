"""`mpfora web` as users run it, for tests: a process of its own, and people with tokens."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
from node import until
from places import ROOT, SUPPORT

#: who may do what
TOKENS = {"ann": ("admin", "a" * 20), "ole": ("operate", "o" * 20), "vic": ("view", "v" * 20)}
_LIMIT_S = 90.0


def write_tokens(folder: Path) -> Path:
    path = folder / "tokens"
    path.write_text("# people\n" + "".join(f"{name} {role} {token}\n" for name, (role, token) in TOKENS.items()))
    path.chmod(0o600)
    return path


class Web:
    """A running `mpfora web`. lines: what it has printed; log: what it has logged."""

    def __init__(self, endpoint: str, namespace: str, *options: str, env: dict[str, str] | None = None) -> None:
        command = [sys.executable, "-m", "mpfora.cli", "--etcd", endpoint, "--namespace", namespace, "web", *options]
        kept = {key: value for key, value in os.environ.items() if not key.startswith("MPFORA_")}
        path = os.pathsep.join((str(ROOT), str(SUPPORT)))
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=kept | {"PYTHONPATH": path, "USER": "tess"} | (env or {}),
        )  # fmt: skip
        self.lines: list[str] = []
        self.log: list[str] = []
        self._threads = [self._follow(self.process.stdout, self.lines), self._follow(self.process.stderr, self.log)]
        served = until(self._served, lambda: f"mpfora web serves; it says {self.lines + self.log}", _LIMIT_S)
        self.url = served

    def _follow(self, stream: Any, lines: list[str]) -> threading.Thread:
        def read() -> None:
            for line in stream:
                lines.append(line.rstrip("\n"))

        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        return thread

    def _served(self) -> str | None:
        found = [match[1] for line in tuple(self.lines) if (match := re.search(r"serves .* at (http\S+/)$", line))]
        assert found or self.process.poll() is None, self.lines + self.log
        return found[0] if found else None

    @property
    def link(self) -> str:
        """The newest link."""
        return until(lambda: next((x for x in reversed(self.lines) if "/enter?link=" in x), None), "a link")

    def client(self, who: str | None = "ann", **options: Any) -> httpx.Client:
        headers = {} if who is None else {"authorization": f"Bearer {TOKENS[who][1]}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=60, **options)

    def stop(self, number: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(15)
        for thread in self._threads:
            thread.join(5)
        return code

    def __enter__(self) -> Web:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for thread in self._threads:
            thread.join(5)
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()


def with_tokens(endpoint: str, namespace: str, folder: Path, *options: str) -> Web:
    return Web(endpoint, namespace, "--listen", "127.0.0.1:0", "--auth", f"token:{write_tokens(folder)}", *options)


# -- a browser ----------------------------------------------------------------------------------------------------

CHROMIUM = next((path for path in ("/usr/bin/chromium", "/usr/bin/chromium-browser") if os.access(path, os.X_OK)), None)
_QUIET = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--force-color-profile=srgb",
]  # fmt: skip


def why_no_browser() -> str:
    """ "" where there is one."""
    try:
        import playwright  # noqa: F401
    except ImportError:
        return "playwright is not installed"
    return "" if CHROMIUM else "there is no Chromium (apt-get install chromium)"


@contextmanager
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=CHROMIUM, args=_QUIET)
        try:
            yield chromium
        finally:
            chromium.close()


def enter(context: Any, web: Web, who: str = "ann") -> Any:
    """A new tab of somebody who is let in, on the first page. What goes wrong on it is in `tab.wrong`; what it asks of
    other hosts in `tab.strange`."""
    tab = context.new_page()
    tab.wrong, tab.strange = [], []
    tab.on("pageerror", lambda error: tab.wrong.append(str(error)))
    tab.on("console", lambda said: tab.wrong.append(said.text) if said.type == "error" else None)
    tab.on(
        "request",
        lambda asked: None if asked.url.startswith((web.url, "data:", "blob:")) else tab.strange.append(asked.url),
    )
    tab.goto(f"{web.url}login")
    token, first = tab.get_by_label("Your token"), tab.get_by_role("heading", name="Needs attention")
    token.or_(first).first.wait_for()
    if token.is_visible():  # else another tab has come in before
        token.fill(TOKENS[who][1])
        tab.get_by_role("button", name="Enter").click()
    first.wait_for()
    return tab
