"""The page in a real browser, over a real etcd and real nodes: what people see and do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from etcd_server import EtcdServer
from node import LIMIT_S, Site, until
from shop import Shop
from web_site import Web, browser, enter, why_no_browser, with_tokens

from mpfora import Message
from mpfora.client import NewTask
from mpfora.supervisor.node.node_commands import RESTART

pytestmark = [
    pytest.mark.skipif(bool(why_no_browser()), reason=f"no page is looked at: {why_no_browser()}"),
    pytest.mark.timeout(300),
    pytest.mark.keeps_processes("one browser serves all tests of the module"),
]

#: markup, an event, a script's address, terminal sequences, marks that turn text, and half a surrogate pair
HOSTILE = (
    "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
    "\x1b[2J\x1b]0;owned\x07\u202e'\"&{{7*7}}"
)
_SLOW_MS = 60_000


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser() as made:
        yield made


@pytest.fixture
def tabs(chromium: Any) -> Iterator[Any]:
    context = chromium.new_context(viewport={"width": 1280, "height": 800})
    context.set_default_timeout(_SLOW_MS)
    yield context
    context.close()


def run_node(site: Site, name: str, *handlers: str) -> Any:
    return site.start(*(f"{one}=web_handlers:{one}" for one in handlers), name=name, max_tasks=4)


def test_every_page_is_shown_asks_no_other_host_and_breaks_nothing(web: Web, site: Site, tabs: Any) -> None:
    run_node(site, "n1", "crunch")
    site.submit("busy", "crunch", seconds=600, group="night")
    site.client.submit_many([NewTask(f"w{n:03d}", {}, "train") for n in range(120)])
    tab = enter(tabs, web)
    for name, there in (
        ("Tasks", "Tasks"), ("Nodes", "Nodes"), ("Groups", "Groups"), ("Schedules", "Schedules"),
        ("Events", "What people did here"),
        ("Overview", "Handlers"),
    ):  # fmt: skip
        tab.get_by_role("navigation", name="Pages").get_by_role("link", name=name).click()
        tab.get_by_role("heading", name=there).first.wait_for()
    tab.get_by_role("link", name="Tasks", exact=True).click()
    tab.get_by_text(re.compile("1.50 of 121")).wait_for()
    tab.get_by_role("link", name="Next").click()
    tab.get_by_text(re.compile("51.100 of 121")).wait_for()
    tab.get_by_role("button", name="Previous").click()
    tab.get_by_text(re.compile("1.50 of 121")).wait_for()
    tab.get_by_role("searchbox").fill("state:runnable busy")
    tab.keyboard.press("Enter")
    tab.get_by_text("1 match").wait_for()
    assert "q=state" in tab.url
    tab.get_by_role("link", name="busy").click()
    tab.get_by_role("tab", name="Now").wait_for()
    for name, there in (("Data", "Props"), ("Runs", "No run of it has ended yet"), ("Stack", "Look now")):
        tab.get_by_role("tab", name=name).click()
        tab.get_by_text(there).first.wait_for()
    tab.get_by_role("button", name="Look now").click()
    tab.get_by_text("by the task itself").wait_for()
    tab.goto(f"{web.url}nodes/n1")
    tab.get_by_role("heading", name="Its tasks").wait_for()
    tab.goto(f"{web.url}tasks?q=stat:failed")
    tab.get_by_text("is not a field").wait_for()
    assert not tab.wrong or all("400" in one for one in tab.wrong), tab.wrong
    assert not tab.strange


def test_a_task_that_does_not_heed_is_killed_and_the_page_says_how(web: Web, site: Site, tabs: Any) -> None:
    run_node(site, "n1", "stubborn")
    site.submit("stuck", "stubborn")
    site.wait_owner("stuck", "n1")
    tab, other = enter(tabs, web), enter(tabs, web)
    for one in (tab, other):
        one.goto(f"{web.url}tasks/stuck")
        one.get_by_text("running for").wait_for()
    tab.get_by_role("button", name="Kill").click()
    dialog = tab.get_by_role("dialog")
    dialog.get_by_role("button", name="Cancel").click()
    assert site.kept("stuck").state == "runnable"
    tab.get_by_role("button", name="Kill").click()
    dialog.get_by_role("button", name="Kill").click()
    dialog.get_by_text("killed after").wait_for()
    assert site.kept("stuck").state == "killed"
    other.locator(".head .state.killed").wait_for()  # the other tab sees it without being asked
    assert not tab.wrong


def test_a_schedule_is_paused_and_resumed_from_the_page(web: Web, site: Site, tabs: Any) -> None:
    site.client.schedule("nightly", cron="0 3 * * *", handler="crunch")
    tab = enter(tabs, web)
    tab.get_by_role("navigation", name="Pages").get_by_role("link", name="Schedules").click()
    tab.get_by_role("cell", name="nightly", exact=True).wait_for()
    tab.get_by_text("The next 5 times, and what is made").click()
    tab.get_by_text("overlap").wait_for()
    for verb, there in (("Pause", "paused"), ("Resume", "in ")):
        tab.get_by_role("button", name=f"{verb} the schedule nightly").click()
        dialog = tab.get_by_role("dialog")
        dialog.get_by_role("button", name=verb).click()
        dialog.get_by_text(f"{verb.lower()}d").first.wait_for()
        dialog.get_by_role("button", name="Close").click()
        tab.get_by_role("row", name="nightly").get_by_text(there).first.wait_for()
    tab.get_by_role("navigation", name="Pages").get_by_role("link", name="Events").click()
    tab.get_by_text("resumed: its next task is nightly@").wait_for()
    assert not tab.wrong
    assert not tab.strange


def test_many_are_killed_by_a_filter_when_their_number_was_typed(web: Web, site: Site, tabs: Any) -> None:
    site.client.submit_many([NewTask(f"t{n:02d}", {}, "train") for n in range(30)])
    tab = enter(tabs, web)
    tab.goto(f"{web.url}tasks?q=handler:train")
    tab.get_by_role("button", name="Actions for all 30 tasks that match").click()
    tab.get_by_role("menuitem", name="Kill").click()
    dialog = tab.get_by_role("dialog")
    act = dialog.get_by_role("button", name="Kill 30")
    assert act.is_disabled()
    dialog.get_by_label("Type 30 to confirm").fill("30")
    site.submit("t99", "train")  # what was seen is not what is
    until(lambda: web.client("vic").get("api/v1/tasks").json()["total"] == 31, "the mirror has it")
    act.click()
    dialog.get_by_text("the filter matches 31 tasks now, not 30").wait_for()
    assert site.client.tasks(state="killed").total == 0
    dialog.get_by_role("button", name="Cancel").or_(dialog.get_by_role("button", name="Close")).first.click()
    tab.get_by_role("button", name="Actions for all 31 tasks that match").click()
    tab.get_by_role("menuitem", name="Kill").click()
    dialog.get_by_label("Type 31 to confirm").fill("31")
    dialog.get_by_role("button", name="Kill 31").click()
    dialog.get_by_text("31 of 31 done").wait_for()
    assert site.client.tasks(state="killed").total == 31


def test_a_node_that_is_killed_while_one_looks(web: Web, site: Site, tabs: Any) -> None:
    node = site.start("crunch=web_handlers:crunch", name="n1", max_tasks=4, lease_ttl=3)
    site.submit("busy", "crunch", seconds=600)
    site.wait_owner("busy", "n1")
    tab = enter(tabs, web)
    tab.goto(f"{web.url}nodes/n1")
    tab.get_by_role("link", name="busy").wait_for()
    node.send(9)
    tab.get_by_text("no such node is live").wait_for()
    tab.goto(f"{web.url}tasks/busy")
    tab.locator(".head .state.pending").wait_for()
    tab.get_by_text("no node is live in this namespace").wait_for()


def command(tab: Any, verb: str) -> Any:
    """Choose it in the node's menu, and confirm. Returns the dialog."""
    tab.get_by_role("button", name="More actions").click()
    tab.get_by_role("menuitem", name=verb).click()
    dialog = tab.get_by_role("dialog")
    dialog.get_by_role("button", name=verb).click()
    return dialog


def test_a_node_is_reloaded_and_what_cannot_be_imported_is_shown(
    web: Web, site: Site, tmp_path: Path, tabs: Any
) -> None:
    shop = Shop(site, tmp_path)
    site.submit("long", "work")
    site.wait_owner("long", "n1")
    until(lambda: site.get(site.layout.checkpoint("long")), "it runs")
    tab = enter(tabs, web)
    tab.goto(f"{web.url}nodes/n1")
    shop.write(2)
    dialog = command(tab, "Reload")
    told = "new runs are of generation 2 of its code; 1 running task stays in the former code until it ends"
    dialog.get_by_text(told).wait_for()
    dialog.get_by_role("button", name="Close").click()
    tab.get_by_text("generation 2; runs of 1 go on").wait_for()
    assert not tab.wrong
    shop.spoil()
    dialog = command(tab, "Reload")
    traceback = dialog.locator("pre")
    traceback.wait_for()
    assert "cannot be imported" in dialog.locator(".outcome.failed").inner_text()
    first, *lines = traceback.inner_text().split("\n")
    assert first == "Traceback (most recent call last):"
    assert any("shop.py" in line for line in lines)
    assert "KeyError: 'pear'" in lines
    assert traceback.evaluate("(one) => getComputedStyle(one).whiteSpace") == "pre-wrap"
    shop.write(3)
    dialog.get_by_role("button", name="Try again").click()
    dialog.get_by_text("generation 3 of its code").wait_for()
    shop.spoil()
    dialog.get_by_role("button", name="Close").click()
    command(tab, "Reload").locator("pre").wait_for()
    tab.get_by_role("dialog").get_by_role("button", name="Close").click()
    tab.locator(".trouble").get_by_text("Not reloaded").wait_for()
    assert "KeyError: 'pear'" in tab.locator(".trouble pre").inner_text()
    tab.goto(f"{web.url}nodes")
    tab.get_by_role("cell", name="generation 3; runs of 1 go on; reload failed").wait_for()


def test_a_node_is_restarted_and_the_page_waits_until_it_is_back(
    web: Web, site: Site, tmp_path: Path, tabs: Any
) -> None:
    shop = Shop(site, tmp_path)
    tab = enter(tabs, web)
    tab.goto(f"{web.url}nodes/n1")
    dialog = command(tab, "Restart")
    assert shop.node.process.wait(LIMIT_S) == RESTART
    tab.get_by_text("no such node is live").wait_for()
    assert dialog.get_by_text("waiting for its end").is_visible(), "what was asked is still waited for"
    shop.start_again().join(LIMIT_S)
    dialog.get_by_text("restarted: n1 is back after").wait_for()
    dialog.get_by_role("button", name="Close").click()
    tab.get_by_role("button", name="Freeze").wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_narrow_screen_a_menu_has_its_width_and_the_header_one_row(
    own_etcd: EtcdServer, tmp_path: Path, chromium: Any, scheme: str
) -> None:
    namespace = f"the-namespace-of-a-team-{'x' * 40}"
    with Site(own_etcd, namespace) as site, with_tokens(own_etcd.endpoint, namespace, tmp_path) as web:
        site.start("crunch=web_handlers:crunch", name="n1", has=["gpus=2"])
        context = chromium.new_context(viewport={"width": 360, "height": 740}, color_scheme=scheme)
        context.set_default_timeout(_SLOW_MS)
        tab = enter(context, web)
        tab.goto(f"{web.url}nodes/n1")
        tab.get_by_text("gpus: 2 of 2 free").wait_for()
        tab.get_by_role("button", name="More actions").click()
        menu, main = tab.get_by_role("menu").bounding_box(), tab.locator(".head").bounding_box()
        assert (menu["x"], menu["width"]) == (main["x"], main["width"])
        wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert tab.evaluate(wide) <= 0
        boxes = [tab.locator(f"header {one}").bounding_box() for one in (".brand", ".lamp", ".user", ".theme")]
        pages = tab.get_by_role("navigation", name="Pages").bounding_box()
        middles = [box["y"] + box["height"] / 2 for box in boxes]
        assert max(middles) - min(middles) < 3
        assert max(middles) < pages["y"]
        tab.get_by_role("menuitem", name="Restart").click()
        tab.get_by_role("dialog").get_by_role("button", name="Cancel").click()
        context.close()


def test_etcd_is_restarted_while_one_looks(own_etcd: EtcdServer, namespace: str, tmp_path: Path, tabs: Any) -> None:
    with Site(own_etcd, namespace) as site, with_tokens(own_etcd.endpoint, namespace, tmp_path) as web:
        site.submit("before", "train")
        tab = enter(tabs, web)
        tab.goto(f"{web.url}tasks")
        tab.get_by_role("link", name="before").wait_for()
        own_etcd.kill()
        tab.locator(".strip").get_by_text("What is shown is what etcd said last").wait_for()
        assert tab.get_by_role("link", name="before").is_visible()
        own_etcd.start()
        tab.locator(".strip").wait_for(state="detached")
        site.submit("then", "train")
        tab.get_by_role("link", name="then").wait_for()


def test_the_server_is_restarted_while_one_looks(etcd: EtcdServer, site: Site, tmp_path: Path, tabs: Any) -> None:
    site.submit("t", "train")
    with with_tokens(etcd.endpoint, site.namespace, tmp_path) as web:
        tab = enter(tabs, web)
        tab.goto(f"{web.url}tasks")
        tab.get_by_role("link", name="t", exact=True).wait_for()
        port = web.url.rstrip("/").rpartition(":")[2]
        web.stop()
        tab.locator(".strip").get_by_text("mpfora web does not answer").wait_for()
        again = ("--listen", f"127.0.0.1:{port}", "--auth", f"token:{tmp_path / 'tokens'}")
        with Web(etcd.endpoint, site.namespace, *again):
            tab.locator(".strip").wait_for(state="detached")


def test_what_a_hostile_task_says_is_text_wherever_it_stands(web: Web, site: Site, tabs: Any) -> None:
    """In the id (Go's clients check none), props, handler, group, note, error, result, checkpoint, labels, the state
    that cannot be read."""
    site.start("hostile=web_handlers:hostile", name="n1", max_tasks=8, label="x=<b>y</b>")
    spoiled = "<b>id<img src=x>"
    site.put(site.layout.task(spoiled), "")
    site.put(site.layout.state(spoiled), '{"state":"<b>odd</b>"}')
    more = {"group": HOSTILE[:60], HOSTILE: HOSTILE}
    for name, ends in (("runs", ""), ("raises", "raise"), ("returns", "return")):
        site.client.submit(name, {"text": HOSTILE, "ends": ends, **more}, "hostile")
    site.client.submit("named", more, HOSTILE[:40])
    site.wait_state("raises", "failed")
    site.wait_end("returns")
    tab = enter(tabs, web)
    pages = ["", "tasks", "groups", "nodes", "nodes/n1", "events"]
    names = "runs", "raises", "returns", "named"
    pages += [f"tasks/{name}{shown}" for name in names for shown in ("", "?tab=data", "?tab=runs")]
    pages += ["tasks/%3Cb%3Eid%3Cimg%20src%3Dx%3E", "tasks?q=%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E", "nodes/%3Cb%3E"]
    for page in pages:
        tab.goto(web.url + page)
        tab.locator("main *").first.wait_for()
        tab.wait_for_timeout(1_200)
        assert "owned" not in tab.title().replace(HOSTILE, ""), page
        assert tab.locator("#app img, #app script, #app b b, main iframe").count() == 0, page
        assert "\x1b" not in tab.inner_text("body"), page
        assert "\u202e" not in tab.inner_text("body"), page
    assert not tab.strange
    assert not [one for one in tab.wrong if "404" not in one and "400" not in one], tab.wrong


def test_it_fits_from_360_to_1920_pixels_in_both_themes_and_nothing_jumps(web: Web, site: Site, chromium: Any) -> None:
    site.client.submit_many([NewTask(f"{'long-name-' * 9}{n:02d}", {"group": "g" * 90}, "train") for n in range(60)])
    for width in (360, 768, 1920):
        for scheme in ("light", "dark"):
            context = chromium.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
            context.set_default_timeout(_SLOW_MS)
            tab = enter(context, web)
            for page in ("", "tasks", f"tasks/{'long-name-' * 9}00", "nodes", "groups", "events"):
                tab.goto(web.url + page)
                tab.locator("main section, main table, main dl, main .empty").first.wait_for()
                wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
                assert tab.evaluate(wide) <= 0, (width, page)
            tab.goto(f"{web.url}tasks")
            tab.get_by_text(re.compile("1.50 of 60")).wait_for()
            tab.evaluate(
                "window.jumps = 0; new PerformanceObserver((list) => { for (const one of list.getEntries())"
                " window.jumps += one.value; }).observe({type: 'layout-shift', buffered: false})"
            )
            site.client.command_many([f"{'long-name-' * 9}0{n}" for n in range(5)], Message.pause(), wait=False)
            tab.locator("tbody .state.paused").first.wait_for()
            site.client.command_many([f"{'long-name-' * 9}0{n}" for n in range(5)], Message.run(), wait=False)
            tab.locator("tbody .state.paused").first.wait_for(state="detached")
            assert tab.evaluate("window.jumps") == 0, width
            context.close()


def test_keys_lead_everywhere_and_everything_has_a_name(web: Web, site: Site, tabs: Any) -> None:
    site.client.submit_many([NewTask(f"t{n}", {}, "train") for n in range(3)])
    tab = enter(tabs, web)
    tab.keyboard.type("gt")
    tab.get_by_role("heading", name="Tasks").wait_for()
    tab.get_by_role("link", name="t1").wait_for()
    tab.keyboard.type("/")
    until(lambda: tab.evaluate("document.activeElement.id") == "q", "the filter has the focus")
    tab.keyboard.press("Escape")
    tab.evaluate("document.activeElement.blur()")
    tab.keyboard.type("jj")
    tab.keyboard.press("Enter")
    tab.get_by_role("heading", name="t1").wait_for()
    tab.keyboard.type("?")
    tab.get_by_role("dialog", name="Keys").wait_for()
    tab.keyboard.press("Escape")
    tab.get_by_role("dialog").wait_for(state="detached")
    nameless = tab.evaluate(
        "[...document.querySelectorAll('button, a, input, select, [role=tab]')].filter((one) => !(one.innerText"
        " || one.ariaLabel || one.labels?.length || one.title).toString().trim()).map((one) => one.outerHTML)"
    )
    assert nameless == []


def test_who_may_only_look_sees_no_button_that_does(web: Web, site: Site, tabs: Any) -> None:
    site.submit("t", "train")
    tab = enter(tabs, web, "vic")
    tab.goto(f"{web.url}tasks/t")
    tab.get_by_text("Why it does not run").wait_for()
    assert tab.locator(".actions button").count() == 0
    tab.goto(f"{web.url}tasks")
    tab.get_by_role("link", name="t", exact=True).wait_for()
    assert tab.get_by_role("button", name="All 1").count() == 0
