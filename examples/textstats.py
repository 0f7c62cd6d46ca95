"""Count lines and words of the texts in a folder, one task for each of its subfolders.

    python textstats.py node                        # in one terminal: a node, started by this program
    python textstats.py count /usr/lib/python3      # in another

The handler stands in the program that starts the node: it needs no module of its own. A folder that cannot be read is
an error of its task, which is tried three times and has then failed; the others are not concerned.
"""

from __future__ import annotations

import secrets
import sys
from pathlib import Path

import mpfora
from mpfora import Client, Consumer, Context, EtcdCoordinator, Message, Retry, Task

SUFFIXES = (".py", ".txt", ".md", ".rst")


@mpfora.handler(retry=Retry(max_errors=3, delay="1s"))
def count_folder(task: Task, ctx: Context) -> Message | dict[str, int]:
    """props: folder, deep (whether its subfolders belong to it)."""
    folder = Path(task.props["folder"])
    found = folder.rglob("*") if task.props["deep"] else folder.iterdir()
    texts = sorted(path for path in found if path.suffix in SUFFIXES and path.is_file())
    at = ctx.checkpoint or {"texts": 0, "lines": 0, "words": 0}
    for path in texts[at["texts"] :]:
        ctx.beat(at["texts"] / len(texts), note=path.name)
        if ctx.stopping:
            return ctx.leave(checkpoint=at)
        data = path.read_bytes()
        at = {
            "texts": at["texts"] + 1,
            "lines": at["lines"] + data.count(b"\n"),
            "words": at["words"] + len(data.split()),
        }
    return at


def run_node() -> None:
    """Until Ctrl-C."""
    print("a node; end it with Ctrl-C", flush=True)
    Consumer(EtcdCoordinator(), count_folder, name="textstats").run()


def count(folder: Path) -> None:
    name = f"textstats-{secrets.token_hex(3)}"
    folders = [folder, *sorted(path for path in folder.iterdir() if path.is_dir())]
    with Client() as client:
        ids = {f"{name}-{n}": path for n, path in enumerate(folders)}
        for task_id, path in ids.items():
            props = {"folder": str(path.resolve()), "deep": path != folder}
            client.submit(task_id, props, handler="count_folder")
        for info in client.wait(ids):
            path = ids[info.id]
            if info.completed:
                print(
                    f"{path}: {info.result['texts']} texts, {info.result['lines']} lines, {info.result['words']} words"
                )
            else:
                print(f"{path}: {info.state}: {info.errors[0].text.splitlines()[0]}")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["node"]:
            run_node()
        case ["count", folder]:
            count(Path(folder))
        case _:
            sys.exit("usage: python textstats.py node | python textstats.py count FOLDER")
