"""What people do to nodes by the API of a real `mpfora web`: new code, good and bad, and a restart."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from etcd_server import EtcdServer
from node import LIMIT_S, Site, until
from shop import Shop
from web_site import TOKENS, Web, with_tokens

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def shop(site: Site, tmp_path: Path) -> Shop:
    folder = tmp_path / "shop"
    folder.mkdir()
    return Shop(site, folder)


def version(site: Site, task_id: str) -> Any:
    site.submit(task_id, "version")
    return site.wait_end(task_id).result


def test_a_node_is_reloaded_and_says_what_becomes_of_what_runs(web: Web, site: Site, shop: Shop) -> None:
    site.submit("long", "work")
    until(lambda: site.get(site.layout.checkpoint("long")) == "1", "it runs in the first code")
    with web.client("ann") as ann:
        shop.write(2)
        done = ann.post("api/v1/nodes/n1/reload", json={}).json()["outcome"]
        told = "new runs are of generation 2 of its code; 1 running task stays in the former code until it ends"
        assert re.fullmatch(rf"reloaded after \d+\.\d s: {told}", done)
        assert version(site, "second") == 2
        assert site.get(site.layout.checkpoint("long")) == "1"
        shop.write(3)
        done = ann.post("api/v1/nodes/n1/reload", json={"within": "1m", "timeout": "2m"}).json()["outcome"]
        assert done.endswith("generation 3 of its code; 1 running task is asked to save and go on in the new code")
        until(lambda: site.get(site.layout.checkpoint("long")) == "3", "it has gone on in the newest")
        code = ann.get("api/v1/nodes/n1").json()["node"]["code"]
        assert (code["generation"], code["reload"]["state"], code["reload"]["renewed"]) == (3, "done", 1)


def test_code_that_cannot_be_imported_is_told_with_its_traceback_and_noted_in_a_line(
    web: Web, site: Site, shop: Shop
) -> None:
    shop.spoil()
    with web.client("ann") as ann:
        refused = ann.post("api/v1/nodes/n1/reload", json={})
        assert refused.status_code == 409
        first, *traceback = refused.json()["error"].split("\n")
        assert first.startswith("node 'n1' was not reloaded and goes on with the code that it has: handler ")
        assert traceback[0] == "Traceback (most recent call last):"
        assert any("shop.py" in line for line in traceback)
        assert any("KeyError: 'pear'" in line for line in traceback)
        noted = ann.get("api/v1/actions").json()["actions"][0]
        assert (noted["who"], noted["what"], noted["on"], noted["refused"]) == ("ann", "reload", "node n1", True)
        assert noted["outcome"] == first
        assert version(site, "still") == 1
        needs = until(
            lambda: [one for one in ann.get("api/v1/overview").json()["attention"] if one["kind"] == "reload"], "it"
        )
        assert (needs[0]["level"], needs[0]["node"]) == ("warning", "n1")
        shop.write(22)
        assert "generation 2" in ann.post("api/v1/nodes/n1/reload", json={}).json()["outcome"]
        assert version(site, "mended") == 22
        until(lambda: ann.get("api/v1/overview").json()["attention"] == [], "nothing needs attention any more")


def test_a_node_is_restarted_and_waited_for_until_it_is_back(web: Web, site: Site, shop: Shop) -> None:
    again = shop.start_again()
    with web.client("ann") as ann:
        shop.write(2)
        done = ann.post("api/v1/nodes/n1/restart", json={"timeout": LIMIT_S})
        assert re.fullmatch(r"restarted: n1 is back after \d+\.\d s", done.json()["outcome"]), done.text
        again.join(LIMIT_S)
        assert shop.starts == 2
        assert version(site, "t") == 2
        noted = ann.get("api/v1/actions").json()["actions"][0]
        assert (noted["what"], noted["on"], noted["refused"]) == ("restart", "node n1", False)
        late = ann.post("api/v1/nodes/n1/restart", json={"timeout": 3})
        assert late.status_code == 504, "nobody starts it again"
        assert "was not started again" in late.json()["error"] or "has not left" in late.json()["error"]


def test_new_code_and_restarts_are_for_admins_who_say_what_can_be_meant(web: Web, site: Site) -> None:
    with web.client("ole") as ole, web.client("ann") as ann:
        for verb in ("reload", "restart"):
            assert ole.post(f"api/v1/nodes/n1/{verb}", json={}).status_code == 403, verb
            assert ann.post(f"api/v1/nodes/n1/{verb}", json={}).status_code == 404, verb
            assert ann.post(f"api/v1/nodes/n1/{verb}", json={"timeout": "x"}).status_code == 400, verb
            assert ann.post(f"api/v1/nodes/n1/{verb}", json={"task": "t"}).status_code == 400, verb
        for body in ({"within": "soon"}, {"within": -1}, {"within": []}, {"within": True}):
            refused = ann.post("api/v1/nodes/n1/reload", json=body)
            assert (refused.status_code, "within" in refused.text) == (400, True), body
        for verb in ("restart", "drain"):
            refused = ann.post(f"api/v1/nodes/n1/{verb}", json={"within": 5})
            assert refused.json() == {"error": f"within: it is for reload, and not for {verb}"}


def test_read_only_reloads_and_restarts_nothing(etcd: EtcdServer, namespace: str, tmp_path: Path) -> None:
    with with_tokens(etcd.endpoint, namespace, tmp_path, "--read-only") as web, web.client("ann") as ann:
        for verb in ("reload", "restart"):
            assert ann.post(f"api/v1/nodes/n1/{verb}", json={}).status_code == 403, verb


def test_a_page_of_another_site_reloads_and_restarts_nothing(web: Web) -> None:
    with web.client(None) as tab:
        kind = {"content-type": "application/json"}
        own, foreign = kind | {"sec-fetch-site": "same-origin"}, kind | {"sec-fetch-site": "cross-site"}
        tab.post("api/v1/session", json={"token": TOKENS["ann"][1]}, headers=own)
        for verb in ("reload", "restart"):
            assert tab.post(f"api/v1/nodes/n1/{verb}", content="{}", headers=own).status_code == 404, verb
            assert tab.post(f"api/v1/nodes/n1/{verb}", content="{}", headers=foreign).status_code == 403, verb
