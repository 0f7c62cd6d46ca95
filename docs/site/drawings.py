"""The drawings of the site as SVG: `python docs/site/drawings.py` writes them into docs/pictures/.

They stand on a light ground of their own, so that they read the same on a dark page. A test holds that what lies in
docs/pictures/ is what this makes.
"""

from __future__ import annotations

from html import escape
from pathlib import Path

PICTURES = Path(__file__).resolve().parents[1] / "pictures"

INK, LINE, GROUND = "#17212b", "#5b6b7a", "#f6f8fa"
#: fill of a box by what it stands for
FILLS = {"etcd": "#dbe9ff", "supervisor": "#d5f0e8", "zygote": "#fdebc8", "child": "#fbd9d3", "person": "#e6e0f5"}


def box(x: int, y: int, width: int, height: int, fill: str, title: str, *lines: str) -> str:
    """A box with a title and lines below it, in its middle."""
    middle = x + width // 2
    first = y + height // 2 - 9 * len(lines) + 5
    texts = [f'<text x="{middle}" y="{first}" class="t">{escape(title)}</text>']
    texts += [f'<text x="{middle}" y="{first + 18 * n}">{escape(line)}</text>' for n, line in enumerate(lines, 1)]
    return f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="6" fill="{FILLS[fill]}"/>' + "".join(texts)


def arrow(x1: int, y1: int, x2: int, y2: int, text: str = "", side: int = 8) -> str:
    """An arrow, with a text to the right of its middle."""
    label = ""
    if text:
        x, y = (x1 + x2) // 2 + side, (y1 + y2) // 2 + 4
        label = f'<text x="{x}" y="{y}" class="l">{escape(text)}</text>'
    return f'<path d="M{x1} {y1}L{x2} {y2}" marker-end="url(#a)"/>{label}'


def svg(width: int, height: int, title: str, *parts: str) -> str:
    style = (
        f"text{{font:13px system-ui,sans-serif;fill:{INK};text-anchor:middle}}"
        ".t{font-weight:600;font-size:14px}.l{text-anchor:start;font-size:12px}"
        f"rect{{stroke:{LINE}}}path{{stroke:{LINE};fill:none;stroke-width:1.5}}"
    )
    marker = (
        '<marker id="a" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path d="M0 0L8 4L0 8z" style="fill:{LINE};stroke:none"/></marker>'
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img"'
        f' aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title><style>{style}</style><defs>{marker}</defs>"
        f'<path d="M0 0H{width}V{height}H0z" style="fill:{GROUND};stroke:none"/>' + "\n".join(parts) + "</svg>\n"
    )


def processes() -> str:
    """The processes of a node, and what goes between them."""
    return svg(
        720, 470, "The processes of a node",
        box(20, 20, 300, 56, "etcd", "etcd", "tasks, claims on leases, states"),
        box(20, 150, 300, 74, "supervisor", "supervisor", "asyncio; claims, balances, commands,", "writes states"),
        arrow(120, 150, 120, 76, "claims, renewals, states", side=8), arrow(90, 76, 90, 150),
        box(20, 300, 300, 56, "zygote", "zygote", "has imported the handlers; forks, kills, reaps"),
        arrow(120, 224, 120, 300, "frames; deadlines and kills, which wait for nothing"),
        box(20, 394, 140, 56, "child", "child", "task a"), box(180, 394, 140, 56, "child", "child", "task b"),
        arrow(90, 356, 90, 394, "fork"), arrow(250, 356, 250, 394, "fork"),
        box(400, 394, 300, 56, "child", "each in a session of its own", "runs the handler in its main thread"),
        box(400, 300, 300, 56, "zygote", "guard", "kills what a dead zygote leaves"),
        arrow(400, 328, 320, 328),
        box(400, 20, 300, 56, "person", "mpfora, Client, mpfora web", "look and command, through etcd"),
        arrow(400, 48, 320, 48),
    )  # fmt: skip


def way_of_a_task() -> str:
    """From its submission to its end."""
    steps = (
        ("person", "submitted", "the task and its props, in one transaction"),
        ("etcd", "assigned", "all nodes fold the same events, and so agree who is to claim it"),
        ("supervisor", "claimed", "a key on the node's lease; its revision is the fence"),
        ("zygote", "forked", "a process of its own, warm from the imports of the zygote"),
        ("child", "runs", "beats in shared memory, checkpoints to etcd, lines to the log"),
        ("zygote", "ends", "reaped with all that it left; one cause says how"),
        ("supervisor", "settled", "state and result written and the claim given up, if the fence still holds"),
    )
    parts = []
    for n, (fill, title, line) in enumerate(steps):
        y = 16 + 70 * n
        parts.append(box(20, y, 560, 48, fill, title, line))
        if n:
            parts.append(arrow(300, y - 22, 300, y))
    return svg(600, 16 + 70 * len(steps), "The way of a task", *parts)


DRAWINGS = {"processes.svg": processes, "way_of_a_task.svg": way_of_a_task}

if __name__ == "__main__":
    for name, draw in DRAWINGS.items():
        (PICTURES / name).write_text(draw())
