"""Screenshots of each page, light and dark, narrow and wide: `python tests/support/web_gallery.py FOLDER [PAGE...]`.

It starts an etcd, two nodes, tasks of every kind and `mpfora web`, all of its own, and ends them.
"""

from __future__ import annotations

import contextlib
import os
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2])]

from etcd_server import EtcdServer  # noqa: E402
from node import Site, environment, until  # noqa: E402
from places import ROOT  # noqa: E402
from web_site import Web, browser, enter, with_tokens  # noqa: E402

from mpfora import Message  # noqa: E402
from mpfora.client import NewTask  # noqa: E402
from mpfora.model.state import State, TaskError, TaskState  # noqa: E402
from mpfora.store.state_records import format_state  # noqa: E402

SIZES = {"wide": (1920, 1000), "usual": (1280, 800), "narrow": (360, 740)}
PAGES = {
    "overview": "", "tasks": "tasks", "failed": "tasks?q=state%3Afailed", "filter-error": "tasks?q=stat%3Afailed",
    "task": "tasks/crunch-3", "stack": "tasks/stuck?tab=stack", "profile": "tasks/crunch-3?tab=profile",
    "runs": "tasks/broken-1?tab=runs", "data": "tasks/crunch-3?tab=data", "pending": "tasks/lost-7",
    "failed-task": "tasks/broken-1", "log": "tasks/crunch-3?tab=log", "nodes": "nodes", "node": "nodes/n1",
    "node-menu": "nodes/n1", "node-restart": "nodes/n1", "node-reload": "nodes/n2", "node-not-reloaded": "nodes/n2",
    "groups": "groups", "schedules": "schedules", "events": "events",
}  # fmt: skip


def fill(site: Site) -> None:
    """Tasks of every kind."""
    draw = random.Random(7)
    client = site.client
    client.submit_many(
        [NewTask(f"crunch-{n}", {"seconds": 900 + 60 * n, "group": "night", "customer": 17, "token": "t"}, "crunch")
         for n in range(6)]
    )  # fmt: skip
    client.submit("stuck", {}, "stubborn")
    client.submit_many([NewTask(f"lost-{n}", {}, "train") for n in range(40)])
    client.submit_many([NewTask(f"gpu-{n}", {"labels": {"gpu": "yes"}}, "crunch") for n in range(3)])
    client.submit_many([NewTask(f"broken-{n}", {"group": "import"}, "fail") for n in range(9)])
    client.submit_many([NewTask(f"short-{n}", {"seconds": 0.5, "group": "import"}, "crunch") for n in range(12)])
    now = time.time()
    for n in range(300):
        state = draw.choice([State.COMPLETED] * 8 + [State.FAILED, State.KILLED])
        cause = {"completed": "completed", "failed": draw.choice(["raised", "stalled", "memory_limit"])}.get(
            state, "stop_timeout"
        )
        ended = now - draw.random() * 850
        errors = (TaskError(ended, "MemoryError: 2.0 GiB of 2 GiB", cause),) if state is State.FAILED else ()
        kept = TaskState(
            state=state, attempt=1, cause=cause, node=draw.choice(["n1", "n2"]),
            started=ended - draw.expovariate(1 / 40),
            ended=ended,
            handler=draw.choice(["crunch", "resize", "train"]), group="night" if n % 3 else "import",
            result={"rows": n} if state is State.COMPLETED else None, errors=errors,
        )  # fmt: skip
        site.put(site.layout.state(f"old-{n:04d}"), format_state(kept))
    client.schedule("nightly", cron="0 3 * * *", tz="Europe/Berlin", handler="crunch", props={"customer": 17})
    client.schedule("every-ten-minutes", every="10m", handler="resize", overlap="queue")
    client.schedule("paused", every="1h", handler="crunch")
    client.pause_schedule("paused")
    client.schedule("hasty", every="1s", handler="stubborn")
    site.put(site.layout.schedule("broken"), '{"cron":"x"}')
    client.command("crunch-5", Message.pause())
    client.command("gpu-2", Message.sleep(now + 3600))
    site.put(site.layout.state("spoiled"), '{"state":"odd"}')
    site.put(site.layout.task("spoiled"), "")


@contextlib.contextmanager
def cluster(folder: Path) -> Any:
    server = EtcdServer(folder)
    try:
        with Site(server, "gallery") as site:
            handlers = [f"{name}=web_handlers:{name}" for name in ("crunch", "fail", "stubborn", "hostile")]
            code = folder / "market.py"
            code.write_text("def sell(task, ctx): pass\n")
            for name, has in (("n1", ["gpus=2", "cpus=4", "memory=16GiB"]), ("n2", [])):
                more = {"label": f"zone={name}", "has": has} if has else {"label": f"zone={name}"}
                env = environment(PYTHONPATH=os.pathsep.join((str(ROOT), str(folder))))
                site.start(*handlers, "sell=market:sell", name=name, max_tasks=8, env=env, **more).wait_joined()
            fill(site)
            site.client.submit("wide", {"needs": {"gpus": 1, "memory": "2GiB"}, "seconds": 900}, "crunch")
            until(lambda: site.client.tasks(q="state:failed broken").total == 9, "the broken ones have failed")
            site.client.reload_node("n1")
            code.write_text("import market_prices\n")  # there is no such module
            with with_tokens(server.endpoint, "gallery", folder) as web:
                client = site.client  # for the events, which begin with the server
                client.submit_many([NewTask(f"late-{n}", {"seconds": 2}, "crunch") for n in range(4)])
                client.submit("late-broken", {}, "fail")
                client.command("crunch-4", Message.checkpoint())
                yield site, web
    finally:
        server.kill()


def shoot(web: Web, folder: Path, names: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with browser() as chromium:
        for theme in ("light", "dark"):
            for size, (width, height) in SIZES.items():
                context = chromium.new_context(
                    viewport={"width": width, "height": height}, color_scheme=theme, device_scale_factor=1
                )
                tab = enter(context, web)
                for name in names:
                    tab.goto(web.url + PAGES[name])
                    tab.wait_for_timeout(1_600)
                    _prepare(tab, name)
                    tab.screenshot(
                        path=folder / f"{name}-{size}-{theme}.png", full_page=size == "narrow", timeout=120_000
                    )
                    wide = tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
                    print(
                        f"{name} {size} {theme}",
                        "" if wide <= 0 else f"IS {wide} px TOO WIDE",
                        *tab.wrong,
                        *tab.strange,
                    )
                    tab.wrong.clear()
                context.close()


def _prepare(tab: Any, name: str) -> None:
    if name == "stack":
        tab.get_by_role("button", name="Look now").click()
        tab.wait_for_timeout(1_500)
    if name == "profile":
        tab.get_by_role("button", name="5 s", exact=True).click()
        tab.get_by_role("tree").wait_for(timeout=20_000)
    if name.startswith("node-"):
        tab.get_by_role("button", name="More actions").click()
    if name == "node-restart":
        tab.get_by_role("menuitem", name="Restart").click()
    if name in ("node-reload", "node-not-reloaded"):
        tab.get_by_role("menuitem", name="Reload").click()
    if name == "node-not-reloaded":
        tab.get_by_role("dialog").get_by_role("button", name="Reload").click()
        tab.get_by_role("dialog").get_by_text("Traceback").wait_for(timeout=60_000)


def main() -> None:
    folder = Path(sys.argv[1])
    names = sys.argv[2:] or list(PAGES)
    with tempfile.TemporaryDirectory() as made, cluster(Path(made)) as (_, web):
        if os.environ.get("STAY"):
            print(web.url, flush=True)
            input()
        time.sleep(11)
        shoot(web, folder, names)


if __name__ == "__main__":
    main()
