"""The API of a real `mpfora web` over a real etcd: who comes in, what it answers, what it refuses."""

from __future__ import annotations

import contextlib
import itertools
import json
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from authorities import issue, make_authority
from etcd_server import EtcdServer
from node import Site, until
from web_site import TOKENS, Web, with_tokens, write_tokens

from mpfora import Message
from mpfora.client import NewTask
from mpfora.web.entry import hash_password

SAME = {"sec-fetch-site": "same-origin"}


def said(answer: httpx.Response) -> str:
    return f"{answer.status_code} {answer.text[:500]}"


# -- nobody comes in -------------------------------------------------------------------------------------------------


def test_without_auth_one_link_lets_one_in_once(etcd: EtcdServer, namespace: str) -> None:
    with Web(etcd.endpoint, namespace, "--listen", "127.0.0.1:0") as web, web.client(None) as nobody:
        assert nobody.get("api/v1/overview").status_code == 401
        assert nobody.get("").headers["location"] == "/login"
        first = web.link
        wrong = nobody.get("enter?link=guess")
        assert wrong.headers["location"] == "/login?wrong"
        assert not wrong.cookies
        came = nobody.get(first)
        assert came.status_code == 303
        assert came.headers["location"] == "/"
        cookie = came.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert nobody.get("api/v1/overview").status_code == 200
        until(lambda: web.link != first, "a new link")
        with web.client(None) as thief:
            assert thief.get(first).headers["location"] == "/login?wrong"
            assert thief.get("api/v1/overview").status_code == 401
            assert thief.get(web.link).headers["location"] == "/"
        until(lambda: any("tess came in" in line for line in web.log), "the log says who came in")
        assert not [line for line in web.log if "link=" in line]


def test_a_cookie_of_one_s_own_making_is_nobody_s(web: Web, namespace: str) -> None:
    name = f"mpfora_{web.url.rstrip('/').rpartition(':')[2]}"
    for value in ("YW5u.9999999999.00", "YW5u", "..", "%00", "é"):
        with web.client(None) as nobody:
            answer = nobody.get("api/v1/overview", headers={"cookie": f"{name}={value}".encode()})
            assert answer.status_code == 401, value


def test_a_name_that_points_here_is_not_ours(etcd: EtcdServer, namespace: str) -> None:
    """A site whose name resolves to 127.0.0.1 could else read the page with the browser of who has come in."""
    with Web(etcd.endpoint, namespace, "--listen", "127.0.0.1:0") as web, web.client(None) as nobody:
        assert nobody.get("api/v1/entry", headers={"host": "evil.example:80"}).status_code == 421
        assert nobody.get("api/v1/entry", headers={"host": "localhost:1"}).status_code == 200


def test_every_path_but_the_doors_asks_who_it_is(web: Web) -> None:
    with web.client(None) as nobody:
        document = web.client("vic").get("api/v1/openapi.json").json()
        for path, methods in document["paths"].items():
            for method in methods:
                where = path.replace("{task_id}", "t").replace("{name}", "n").lstrip("/")
                answer = nobody.request(method, where, headers={"content-type": "application/json"} | SAME)
                assert answer.status_code == 401, (method, where, said(answer))
        assert nobody.get("livez").json() == {"ok": True}
        assert nobody.get("nodes").headers["location"] == "/login"
        wrong = nobody.get("api/v1/tasks", headers={"authorization": "Bearer wrong"})
        assert wrong.status_code == 401


def test_roles(web: Web, site: Site) -> None:
    site.submit("t")
    until(lambda: web.client("vic").get("api/v1/tasks/t").status_code == 200, "the task is there")
    with web.client("vic") as vic, web.client("ole") as ole, web.client("ann") as ann:
        assert vic.get("api/v1/tasks").status_code == 200
        for path in ("tasks/t/pause", "tasks/t/stack", "bulk", "nodes/n1/drain"):
            assert vic.post(f"api/v1/{path}", json={}).status_code == 403, path
        assert vic.delete("api/v1/tasks/t", headers={"content-type": "application/json"}).status_code == 403
        assert ole.post("api/v1/tasks/t/pause", json={}).json()["outcome"].startswith("paused after")
        assert ole.delete("api/v1/tasks/t", headers={"content-type": "application/json"}).status_code == 403
        assert ole.post("api/v1/nodes/n1/drain", json={}).status_code == 403
        assert ole.post("api/v1/bulk", json={"verb": "delete", "q": "", "expect": 1}).status_code == 403
        gone = ann.delete("api/v1/tasks/t", headers={"content-type": "application/json"})
        assert gone.json()["outcome"].startswith("deleted after"), said(gone)
        actions = ann.get("api/v1/actions").json()["actions"]
    assert [(one["who"], one["what"], one["refused"]) for one in actions[:2]] == [
        ("ann", "delete", False), ("ole", "delete many", True)
    ]  # fmt: skip
    assert ("ole", "pause", "task t") in {(one["who"], one["what"], one["on"]) for one in actions}
    until(lambda: any("ole: pause task t: paused after" in line for line in web.log), lambda: str(web.log))


def test_read_only_makes_everybody_a_looker(etcd: EtcdServer, namespace: str, tmp_path: Path) -> None:
    with with_tokens(etcd.endpoint, namespace, tmp_path, "--read-only") as web, web.client("ann") as ann:
        assert ann.get("api/v1/entry").json()["user"] == {"name": "ann", "role": "view"}
        assert ann.post("api/v1/tasks/t/kill", json={}).status_code == 403


def test_passwords(etcd: EtcdServer, namespace: str, tmp_path: Path) -> None:
    path = tmp_path / "people"
    path.write_text(f"ann admin {hash_password('pässword')}\n")
    path.chmod(0o640)
    options = ("--listen", "127.0.0.1:0", "--auth", f"basic:{path}")
    with Web(etcd.endpoint, namespace, *options) as web, web.client(None) as nobody:
        asked = nobody.get("")
        assert asked.status_code == 401
        assert asked.headers["www-authenticate"].startswith("Basic")
        assert nobody.get("api/v1/nodes", auth=("ann", "wrong")).status_code == 401
        assert nobody.get("api/v1/nodes", auth=("bob", "pässword")).status_code == 401
        for _ in range(2):
            assert nobody.get("api/v1/nodes", auth=("ann", "pässword".encode())).status_code == 200
        # a browser sends a password by itself, whoever's page has asked
        foreign = {"origin": "https://evil.example", "content-type": "application/json"}
        auth = ("ann", "pässword".encode())
        assert nobody.post("api/v1/tasks/t/kill", content="{}", auth=auth, headers=foreign).status_code == 403


def test_a_header_counts_from_a_proxy_that_is_trusted_and_from_nobody_else(
    etcd: EtcdServer, namespace: str, tmp_path: Path
) -> None:
    options = ("--listen", "127.0.0.1:0", "--auth", "header:X-User", "--role", "operate")
    with Web(etcd.endpoint, namespace, *options, "--trusted-proxy", "127.0.0.0/8") as web, web.client(None) as proxy:
        known = proxy.get("api/v1/entry", headers={"x-user": "carl"}).json()["user"]
        assert known == {"name": "carl", "role": "operate"}
        assert proxy.get("api/v1/nodes").status_code == 401
        assert proxy.get("api/v1/nodes", headers=[("x-user", "a"), ("x-user", "b")]).status_code == 401
    with Web(etcd.endpoint, namespace, *options, "--trusted-proxy", "192.0.2.0/24") as web, web.client(None) as liar:
        forged = {"x-user": "carl", "x-forwarded-for": "192.0.2.1"}
        assert liar.get("api/v1/nodes", headers=forged).status_code == 401


def test_certificates(etcd: EtcdServer, namespace: str, tmp_path: Path) -> None:
    authority = make_authority(tmp_path / "ca")
    cert, key = issue(authority, "localhost")
    mine, my_key = issue(authority, "carla")
    options = ("--listen", "127.0.0.1:0", "--cert", str(cert), "--key", str(key), "--client-ca", str(authority.path))
    with Web(etcd.endpoint, namespace, *options, "--role", "admin") as web:
        assert web.url.startswith("https://")
        context = ssl.create_default_context(cafile=str(authority.path))
        context.check_hostname = False
        with pytest.raises(httpx.TransportError):
            httpx.get(f"{web.url}api/v1/nodes", verify=context)
        context.load_cert_chain(mine, my_key)
        answer = httpx.get(f"{web.url}api/v1/entry", verify=context)
        assert answer.json()["user"] == {"name": "carla", "role": "admin"}
        assert "strict-transport-security" in answer.headers


def test_an_address_that_others_reach_needs_auth_and_a_port_that_is_taken_is_named(
    etcd: EtcdServer, namespace: str, web: Web, tmp_path: Path
) -> None:
    def run(*options: str) -> subprocess.CompletedProcess[str]:
        where = ("--etcd", etcd.endpoint, "--namespace", namespace)
        argv = [sys.executable, "-m", "mpfora.cli", *where, "web", *options]
        return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)

    open_door = run("--listen", "0.0.0.0:0")
    assert open_door.returncode == 2
    assert open_door.stderr.count("\n") == 1
    assert "--auth" in open_door.stderr
    port = web.url.rstrip("/").rpartition(":")[2]
    taken = run("--listen", f"127.0.0.1:{port}", "--auth", f"token:{write_tokens(tmp_path)}")
    assert taken.returncode == 2
    assert port in taken.stderr


# -- what is sent and what is said -----------------------------------------------------------------------------------


def test_what_changes_something_comes_from_our_own_page(web: Web) -> None:
    port = web.url.rstrip("/").rpartition(":")[2]
    with web.client(None) as tab:
        assert tab.post("api/v1/session", json={"token": TOKENS["ann"][1]}, headers=SAME).status_code == 200
        good = {"content-type": "application/json", **SAME}
        assert tab.post("api/v1/tasks/x/kill", content="{}", headers=good).status_code == 404
        for bad in (
            {"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"}, {"sec-fetch-site": "none"},
            {"origin": "https://evil.example"}, {"origin": "null"}, {},
        ):  # fmt: skip
            answer = tab.post("api/v1/tasks/x/kill", content="{}", headers={"content-type": "application/json", **bad})
            assert answer.status_code == 403, bad
        for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
            answer = tab.post("api/v1/tasks/x/kill", content="{}", headers={**good, "content-type": kind})
            assert answer.status_code == 415, kind
        own = {"content-type": "application/json", "origin": f"http://127.0.0.1:{port}"}
        assert tab.post("api/v1/tasks/x/kill", content="{}", headers=own).status_code == 404
        assert tab.get("api/v1/tasks/x/kill").status_code == 405


def test_every_answer_carries_the_headers_that_keep_a_page_to_itself(web: Web) -> None:
    with web.client("vic") as vic:
        for path in ("", "login", "static/js/app.js", "api/v1/nodes", "api/v1/none", "nowhere", "static/../x"):
            answer = vic.get(path)
            policy = answer.headers["content-security-policy"]
            assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
            assert "unsafe" not in policy
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["x-frame-options"] == "DENY"
            assert "uvicorn" not in answer.headers.get("server", "")


def test_bodies_and_values_that_cannot_be_meant(web: Web) -> None:
    with web.client("ann") as ann:
        kind = {"content-type": "application/json"}
        for body in ("[1]", "{", '"x"', "nul", "[" * 50_000):
            answer = ann.post("api/v1/tasks/t/kill", content=body, headers=kind)
            assert answer.status_code == 400, said(answer)
        assert ann.post("api/v1/tasks/t/kill", content=b"x" * (3 << 20), headers=kind).status_code == 413

        def endless() -> Iterator[bytes]:
            for _ in range(64):
                yield b"[" * (1 << 16)

        with contextlib.suppress(httpx.TransportError), web.client("ann") as other:  # the server may hang up
            assert other.post("api/v1/tasks/t/kill", content=endless(), headers=kind).status_code >= 400
        for path in (
            "tasks?limit=0", "tasks?limit=x", "tasks?limit=99999", "tasks?sort=size", "tasks?after=x&sort=since",
            "tasks?q=stat:x", "tasks?q=%22", "stream", "stream?view=x",
        ):  # fmt: skip
            answer = ann.get(f"api/v1/{path}")
            assert answer.status_code == 400, said(answer)
            assert set(answer.json()) == {"error"}
        for body in ({"timeout": 0}, {"timeout": "x"}, {"timeout": -1}, {"timeout": 1e9}, {"timeout": None}):
            assert ann.post("api/v1/tasks/t/kill", json=body).status_code in (400, 404), body
        for body in ({}, {"for": "x"}, {"until": 5}, {"until": "x"}, {"for": []}):
            assert ann.post("api/v1/tasks/t/sleep", json=body).status_code == 400, body


def test_the_url_prefix(etcd: EtcdServer, namespace: str, tmp_path: Path) -> None:
    with (
        with_tokens(etcd.endpoint, namespace, tmp_path, "--url-prefix", "/ops/mpfora/") as web,
        web.client("vic") as vic,
    ):
        assert web.url.endswith("/ops/mpfora/")
        assert '<base href="/ops/mpfora/">' in vic.get("").text
        assert vic.get("api/v1/nodes").status_code == 200
        assert vic.get(web.url.rstrip("/")).headers["location"] == "/ops/mpfora/"
        assert vic.get(web.url.replace("ops/mpfora/", "api/v1/nodes")).status_code == 404
        assert vic.get("api/v1/openapi.json").json()["servers"] == [{"url": "/ops/mpfora"}]


# -- what there is ---------------------------------------------------------------------------------------------------


def test_tasks_have_the_shape_of_the_command_line_and_hide_what_is_secret(web: Web, site: Site) -> None:
    client = site.client
    client.submit_many(
        [NewTask(f"t{n}", {"n": n, "group": "g", "db": {"password": "hunter2"}}, "train") for n in range(5)]
    )
    with web.client("vic") as vic:
        until(lambda: vic.get("api/v1/tasks").json()["total"] == 5, "five tasks")
        page = vic.get("api/v1/tasks", params={"limit": 2, "q": "handler:train"}).json()
        assert [task["id"] for task in page["tasks"]] == ["t0", "t1"]
        rest = vic.get("api/v1/tasks", params={"limit": 3, "q": "handler:train", "after": page["next"]}).json()
        assert [task["id"] for task in rest["tasks"]] == ["t2", "t3", "t4"]
        assert rest["next"] is None
        listed = client.tasks(q="t3")[0].to_json()
        assert page["tasks"][0].keys() == listed.keys()
        detail = vic.get("api/v1/tasks/t3").json()
        assert detail["props"]["db"] == {"password": "[hidden]"}
        assert "hunter2" not in json.dumps(detail)
        assert detail["task"]["reason"]
        # what is hidden cannot be guessed letter by letter either
        guess = vic.get("api/v1/tasks", params={"q": "props.db.password:h*"})
        assert guess.status_code == 400
        assert vic.get("api/v1/tasks", params={"q": "props.n:3"}).json()["total"] == 1
        groups = vic.get("api/v1/groups").json()
        assert groups["groups"] == [{"group": "g", "states": {"pending": 5}}]
        overview = vic.get("api/v1/overview").json()
        assert overview["states"] == {"pending": 5}
        assert vic.get("api/v1/tasks/none").status_code == 404
        assert vic.get("api/v1/nodes/none").status_code == 404


def test_many_at_once_if_they_are_as_many_as_were_seen(web: Web, site: Site) -> None:
    site.client.submit_many([NewTask(f"t{n}", {}, "train") for n in range(30)])
    with web.client("ann") as ann:
        until(lambda: ann.get("api/v1/tasks").json()["total"] == 30, "thirty tasks")
        changed = ann.post("api/v1/bulk", json={"verb": "kill", "q": "t1", "expect": 12})
        assert changed.status_code == 409
        assert changed.json()["count"] == 11
        assert ann.get("api/v1/tasks", params={"q": "state:pending"}).json()["total"] == 30
        done = ann.post("api/v1/bulk", json={"verb": "kill", "q": "t1", "expect": 11}).json()
        assert (done["done"], done["states"], done["refused"]) == (11, {"killed": 11}, []), done
        lines = ann.post(
            "api/v1/bulk", json={"verb": "kill", "q": "handler:train", "expect": 30},
            headers={"accept": "application/x-ndjson"},
        ).text.splitlines()  # fmt: skip
        result = json.loads(lines[-1])["result"]
        assert (result["done"], len(result["refused"])) == (19, 11)
        late = ann.post(
            "api/v1/bulk", json={"verb": "delete", "q": "", "expect": 1}, headers={"accept": "application/x-ndjson"}
        )
        assert late.status_code == 409
        gone = ann.post("api/v1/bulk", json={"verb": "delete", "q": "", "expect": 30}).json()
        assert gone["count"] == 30
        for body in (
            {"verb": "complete"},
            {"verb": "kill", "q": 1, "expect": 1},
            {"verb": "kill", "q": "", "expect": True},
        ):
            assert ann.post("api/v1/bulk", json=body).status_code == 400


def test_a_finished_task_is_submitted_again(web: Web, site: Site) -> None:
    site.submit("t", "train")
    with web.client("ann") as ann:
        until(lambda: ann.get("api/v1/tasks").json()["total"] == 1, "a task")
        assert ann.post("api/v1/tasks/t/retry", json={}).status_code == 409
        ann.post("api/v1/tasks/t/kill", json={})
        assert ann.post("api/v1/tasks/t/retry", json={}).json()["task"]["state"] == "pending", "it keeps its props"
        site.client.delete("t")
        site.put(site.layout.state("t"), '{"state":"completed","handler":"train"}')
        until(lambda: ann.get("api/v1/tasks/t").json()["task"]["state"] == "completed", "a completed task")
        without = ann.post("api/v1/tasks/t/retry", json={})
        assert without.status_code == 400
        assert "not kept" in without.json()["error"]
        assert ann.post("api/v1/tasks/t/retry", json={"props": [1]}).status_code == 400
        again = ann.post("api/v1/tasks/t/retry", json={"props": {"n": 1}}).json()
        assert (again["task"]["state"], again["task"]["handler"]) == ("pending", "train")


class Stream:
    """Reads the events of a live stream in a thread."""

    def __init__(self, web: Web, **params: str) -> None:
        self.events: list[tuple[float, str, Any]] = []
        self._client = web.client("vic")
        self._context = self._client.stream("GET", "api/v1/stream", params=params)
        self._answer = self._context.__enter__()
        assert self._answer.status_code == 200
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        name = ""
        with contextlib.suppress(httpx.HTTPError, httpx.StreamError):
            for line in self._answer.iter_lines():
                if line.startswith("event: "):
                    name = line[7:]
                elif line.startswith("data: "):
                    self.events.append((time.monotonic(), name, json.loads(line[6:])))

    def close(self) -> None:
        self._context.__exit__(None, None, None)
        self._client.close()


def test_the_stream_tells_what_changed_once_a_second_at_most(web: Web, site: Site) -> None:
    site.submit("t0", "train")
    stream = Stream(web, view="tasks", q="handler:train")
    until(lambda: [e for e in stream.events if e[2].get("total") == 1], "the first look")
    for n in range(1, 40):
        site.submit(f"t{n}", "train")
    until(lambda: [e for e in stream.events if e[2].get("total") == 40], "all are there")
    times = [at for at, name, _ in stream.events if name == "view"]
    assert all(later - before > 0.9 for before, later in itertools.pairwise(times))
    rows = [set(data["tasks"]["rows"]) for _, _, data in stream.events if "tasks" in data]
    assert "t0" in rows[0]
    assert all("t0" not in some for some in rows[1:])
    stream.close()


def test_nodes_are_asked_only_while_somebody_looks(web: Web, site: Site) -> None:
    assert not site.range(site.layout.readers, site.layout.readers[:-1] + "0")
    stream = Stream(web, view="task", id="nobody")
    until(lambda: [e for e in stream.events if e[1] == "gone"], "it says that there is none")
    until(lambda: site.range(site.layout.readers, site.layout.readers[:-1] + "0"), "nodes are asked")
    second = Stream(web, view="overview")
    until(lambda: second.events, "a second one looks")
    assert len(site.range(site.layout.readers, site.layout.readers[:-1] + "0")) == 1
    stream.close()
    second.close()
    until(lambda: not site.range(site.layout.readers, site.layout.readers[:-1] + "0"), "nodes are left alone")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_at_once_with_streams_open(web: Web, number: int) -> None:
    stream = Stream(web, view="overview")
    until(lambda: stream.events, "it looks")
    assert web.stop(number) == 0
    assert not [line for line in web.log if "Traceback" in line], web.log
    stream.close()


def test_etcd_goes_and_comes_back(own_etcd: EtcdServer, namespace: str, tmp_path: Path) -> None:
    with with_tokens(own_etcd.endpoint, namespace, tmp_path) as web, Site(own_etcd, namespace) as site:
        site.submit("before", "train")
        stream = Stream(web, view="tasks")
        until(lambda: [e for e in stream.events if e[2].get("total") == 1], "it looks")
        own_etcd.kill()
        until(lambda: [e for e in stream.events if e[2].get("trouble")], "it says that etcd is away")
        with web.client("ann") as ann:
            assert ann.get("api/v1/tasks").json()["total"] == 1
            assert ann.post("api/v1/tasks/before/kill", json={"timeout": 5}).status_code == 503
        own_etcd.start()
        until(lambda: stream.events[-1][2].get("trouble") == "" or [
            e for e in stream.events[-4:] if e[2].get("trouble") == ""
        ], "it says that etcd is back")  # fmt: skip
        site.submit("after", "train")
        until(lambda: [e for e in stream.events if e[2].get("total") == 2], "it goes on")
        stream.close()


def test_what_a_task_prints_is_read_and_followed_to_its_end(web: Web, site: Site) -> None:
    site.start("tell=node_handlers:tell", "hostile=web_handlers:hostile", name="n1", max_tasks=4)
    site.submit("short", "tell")
    site.submit("long", "hostile", text="<b>line</b> \x1b[31mred")
    site.wait_end("short")
    with web.client("vic") as vic:
        until(lambda: "out short" in vic.get("api/v1/tasks/short/log").text, "its lines")
        lines = vic.get("api/v1/tasks/short/log", params={"grep": "^out"}).json()["lines"]
        assert [(line["text"], line["note"]) for line in lines] == [("out short", False)]
        for bad in ("tail=x", "tail=-1", "run=0", "grep=("):
            assert vic.get(f"api/v1/tasks/short/log?{bad}").status_code == 400, bad
        assert vic.get("api/v1/tasks/none/log").status_code == 404
        seen: list[tuple[str, Any]] = []
        with vic.stream("GET", "api/v1/tasks/long/log", params={"follow": "1"}) as answer:
            name = ""
            for line in answer.iter_lines():
                name = line[7:] if line.startswith("event: ") else name
                if line.startswith("data: "):
                    seen.append((name, json.loads(line[6:])))
                    if name == "lines" and len(seen) == 1:
                        site.client.command("long", Message.kill())
        texts = [line["text"] for name, data in seen if name == "lines" for line in data]
        assert "<b>line</b> \x1b[31mred" in texts
        assert seen[-1] == ("end", {"error": ""})
    # nobody asks a node any more
    until(lambda: not site.range(site.layout.requests, site.layout.requests[:-1] + "0"), "no question is left")


# -- schedules, events, metrics ---------------------------------------------------------------------------------------


def test_schedules_are_shown_and_commanded_by_those_who_may(web: Web, site: Site) -> None:
    site.client.schedule("nightly", cron="0 3 * * *", handler="crunch", props={"password": "x", "n": 1})
    site.put(site.layout.schedule("broken"), "{")
    with web.client("vic") as vic, web.client("ole") as ole, web.client("ann") as ann:
        shown = until(lambda: (found := vic.get("api/v1/schedules").json())["total"] == 2 and found, "the schedules")
        broken, nightly = shown["schedules"]
        assert broken["problem"]
        assert (nightly["name"], nightly["cron"], len(nightly["upcoming"])) == ("nightly", "0 3 * * *", 5)
        assert nightly["props"]["n"] == 1
        assert nightly["props"]["password"] != "x"
        for verb in ("pause", "resume", "trigger"):
            assert vic.post(f"api/v1/schedules/nightly/{verb}", json={}).status_code == 403
        assert "paused" in ole.post("api/v1/schedules/nightly/pause", json={}).json()["outcome"]
        until(lambda: vic.get("api/v1/schedules").json()["schedules"][1]["paused"], "it is paused")
        assert "its next task is nightly@" in ole.post("api/v1/schedules/nightly/resume", json={}).json()["outcome"]
        assert "nightly@" in ole.post("api/v1/schedules/nightly/trigger", json={}).json()["outcome"]
        assert ole.post("api/v1/schedules/missing/pause", json={}).status_code == 404
        as_json = {"headers": {"content-type": "application/json"}}
        assert ole.delete("api/v1/schedules/nightly", **as_json).status_code == 403
        assert "deleted" in ann.delete("api/v1/schedules/broken", **as_json).json()["outcome"]
        assert ann.delete("api/v1/schedules/broken", **as_json).status_code == 404
        assert ann.delete("api/v1/schedules/nightly", **as_json).status_code == 200
        until(lambda: vic.get("api/v1/schedules").json()["total"] == 0, "they are gone")
        done = [(one["who"], one["what"], one["on"]) for one in vic.get("api/v1/actions").json()["actions"]]
        assert ("ann", "delete", "schedule nightly") in done
        assert ("ole", "trigger", "schedule nightly") in done


def test_a_schedule_that_cannot_be_read_needs_attention(web: Web, site: Site) -> None:
    site.put(site.layout.schedule("broken"), "{")
    with web.client("vic") as vic:
        found = until(
            lambda: [one for one in vic.get("api/v1/overview").json()["attention"] if one["kind"] == "schedule"], "it"
        )
        assert (found[0]["level"], found[0]["page"]) == ("error", "schedules")


def test_events_are_told_as_they_come(web: Web, site: Site) -> None:
    with web.client("vic") as vic:
        assert until(lambda: vic.get("api/v1/events").status_code == 200, "the mirror")
        stream = Stream(web, view="events")
        site.submit("t1")
        site.tell_task("t1", Message.pause())
        until(lambda: "submitted" in json.dumps(stream.events), "it on the stream")
        kinds = until(
            lambda: (
                (found := [one["kind"] for one in vic.get("api/v1/events?q=t1").json()["events"]])
                and "asked" in found
                and found
            ),
            "both",
        )
        assert kinds[-1] == "submitted"  # the newest first
        assert vic.get("api/v1/events?q=nobody").json()["events"] == []
        stream.close()


def test_the_cluster_s_metrics_are_for_who_may_look(web: Web, site: Site) -> None:
    pytest.importorskip("prometheus_client", reason="prometheus-client (mpfora[metrics]) is not installed")
    site.client.submit_many([NewTask(f"t{n}", {}, "train") for n in range(3)])
    site.client.schedule("nightly", cron="0 3 * * *")
    site.put(site.layout.state("spoiled"), '{"state":"odd"}')
    site.put(site.layout.task("spoiled"), "")
    with web.client(None) as nobody, web.client("vic") as vic:
        assert nobody.get("metrics").status_code == 401

        def told() -> str:
            answer = vic.get("metrics")
            assert answer.headers["content-type"].startswith("text/plain")
            return answer.text

        until(lambda: "mpfora_unreadable_keys 1.0" in told(), "all was read")
        lines = told().splitlines()
        for line in (
            'mpfora_tasks{handler="train",state="pending"} 3.0',
            'mpfora_tasks_pending{handler="train",reason="no_node"} 3.0',
            'mpfora_schedule_late_seconds{schedule="nightly"} 0.0',
            "mpfora_mirror_current 1.0",
            "mpfora_etcd_quota_bytes 2.147483648e+09",
        ):
            assert line in lines, line
        assert [line for line in lines if line.startswith("mpfora_etcd_database_bytes ")]
        assert "t0" not in told()
