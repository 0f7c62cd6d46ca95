"""The screenshots of the site: `python docs/site/screenshots.py` takes them anew into docs/pictures/.

It starts an etcd, two nodes, tasks of every kind and the page, all of its own, and ends them. It needs Chromium and
playwright (extra `dev`).
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "support"), str(ROOT)]

from rich.console import Console  # noqa: E402
from rich.terminal_theme import MONOKAI  # noqa: E402
from rich.text import Text  # noqa: E402
from terminal import on_terminal  # noqa: E402
from web_gallery import cluster  # noqa: E402
from web_site import browser, enter  # noqa: E402

PICTURES = ROOT / "docs" / "pictures"
#: rich's own form loads a font from another host
TERMINAL = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {terminal_width} {terminal_height}" role="img"
aria-label="mpfora top"><title>mpfora top</title><style>
.{unique_id}-matrix {{ font: {char_height}px "DejaVu Sans Mono", Menlo, Consolas, monospace; }}
{styles}
</style>
<rect width="100%" height="100%" rx="8" fill="#1e2227"/><defs>{lines}</defs>
<g transform="translate(8,8)">{backgrounds}<g class="{unique_id}-matrix">{matrix}</g></g></svg>
"""


def page(web: Any) -> None:
    with browser() as chromium:
        for theme in ("light", "dark"):
            context = chromium.new_context(viewport={"width": 1200, "height": 720}, color_scheme=theme)
            tab = enter(context, web)
            tab.wait_for_timeout(2_000)
            tab.screenshot(path=PICTURES / f"page-{theme}.png")
            context.close()


def top(site: Any) -> None:
    """What `mpfora top` shows on a terminal of 110 columns."""
    env = os.environ | {"COLUMNS": "110", "LINES": "24", "TERM": "xterm-256color", "PYTHONPATH": str(ROOT)}
    printed = on_terminal([*_mpfora(site), "top", "--once", "state:runnable,paused,pending"], env)
    console = Console(record=True, width=112, file=open(os.devnull, "w"), legacy_windows=False)  # noqa: SIM115
    for line in printed.replace("\r", "").splitlines()[:22]:
        console.print(Text.from_ansi(line), no_wrap=True, overflow="crop")
    console.save_svg(
        str(PICTURES / "top.svg"), title="mpfora top", theme=MONOKAI, code_format=TERMINAL, unique_id="top"
    )


def flame(site: Any, folder: Path) -> None:
    """The flame graph of a task that computes."""
    file = folder / "flame.html"
    command = [*_mpfora(site), "profile", "crunch-3", "--for", "5s", "-o", str(file)]
    subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    with browser() as chromium:
        tab = chromium.new_context(viewport={"width": 1000, "height": 420}).new_page()
        tab.goto(file.as_uri())
        tab.wait_for_timeout(500)
        tab.screenshot(path=PICTURES / "flame.png")


def _mpfora(site: Any) -> list[str]:
    return [sys.executable, "-m", "mpfora.cli", "--etcd", site.etcd.endpoint, "--namespace", "gallery"]


def main() -> None:
    with tempfile.TemporaryDirectory() as made, cluster(Path(made)) as (site, web):
        time.sleep(11)
        page(web)
        top(site)
        flame(site, Path(made))


if __name__ == "__main__":
    main()
