"""Where a task is, asked through etcd of real nodes: of those that answer and of those that do not."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from etcd_server import EtcdServer
from node import Site, until

from mpfora.errors import NodeSilent, NotRunning, TaskNotFound
from mpfora.store.question_records import STACK, Question, format_question


def start(site: Site, *animals: str, name: str = "n1", **options: Any) -> Any:
    return site.start(*(f"{each}=zoo:{each}" for each in animals), name=name, **{"max_tasks": 0, **options})


def cli(site: Site, *arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "mpfora.cli", "--etcd", site.etcd.endpoint, "--namespace", site.namespace, *arguments]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)


def test_a_deadlocked_task_is_shown_from_anywhere_and_nothing_is_left(etcd: EtcdServer, namespace: str) -> None:
    with Site(etcd, namespace) as site:
        node = start(site, "deadlock", "async_deadlock")
        site.submit("hung", "deadlock")
        site.submit("waits", "async_deadlock")
        pid = node.child("hung")
        stack = until(lambda: (s := site.client.stack("hung")) and "in other" in s.text and s, "its two threads")
        assert (stack.node, stack.pid, stack.how) == ("n1", pid, "task")
        assert "in deadlock" in stack.text
        node.child("waits")
        until(lambda: "in second" in site.client.stack("waits").text, "its coroutines")

        shown = cli(site, "stack", "hung")
        assert (shown.returncode, shown.stderr) == (0, "")
        assert shown.stdout.startswith(f"hung on n1, run 1, process {pid}\n")
        (row,) = json.loads(cli(site, "stack", "hung", "--json").stdout)
        assert (row["node"], row["attempt"]) == ("n1", 1)
        assert "in other" in row["stack"]

        until(lambda: not [key for key in site.content() if key.startswith(("requests/", "answers/"))], "nothing left")
        assert site.owner("hung") == "n1"


def test_whom_it_does_not_find_it_names(etcd: EtcdServer, namespace: str) -> None:
    with Site(etcd, namespace) as site:
        node = start(site, "deadlock", "sys_exit")
        with pytest.raises(TaskNotFound):
            site.client.stack("nobody")
        site.submit("done", "sys_exit", code=0)
        site.wait_end("done")
        with pytest.raises(NotRunning, match="no node has it"):
            site.client.stack("done")
        assert cli(site, "stack", "done").returncode == 1

        site.submit("hung", "deadlock")
        node.child("hung")
        node.send(signal.SIGSTOP)
        with pytest.raises(NodeSilent, match="'n1' has not answered within 1 s"):
            site.client.stack("hung", timeout=1)
        silent = cli(site, "stack", "hung", "--timeout", "1s")
        assert silent.returncode == 4
        assert "'n1' has not answered" in silent.stderr
        node.send(signal.SIGCONT)
        until(lambda: "in other" in site.client.stack("hung").text, "it answers again")


def test_a_task_that_sleeps_has_no_process_anywhere(etcd: EtcdServer, namespace: str) -> None:
    with Site(etcd, namespace) as site:
        start(site, "deadlock")
        site.submit("t1", "deadlock", not_before="2100-01-01T00:00:00Z")
        with pytest.raises(NotRunning, match="no node has it"):
            site.client.stack("t1")


def test_questions_that_make_no_sense_are_answered_or_dropped_and_disturb_nothing(
    etcd: EtcdServer, namespace: str
) -> None:
    with Site(etcd, namespace) as site:
        node = start(site, "deadlock")
        site.submit("hung", "deadlock")
        node.child("hung")
        for number, text in enumerate(["", "null", "[]", '{"what":7}', '{"what":"cake","task":"hung"}', "\x00" * 9000]):
            site.put(site.layout.request("n1", str(number)), text)
        for key in ("n1", "n1/", "n1/a/b", "/x", "nobody/1"):
            site.put(site.layout.requests + key, format_question(Question(STACK, "hung")))
        until(lambda: "in other" in site.client.stack("hung").text, "it answers")
        until(lambda: len(_answers(site)) >= 6, "each of them has an answer")
        assert any("cannot be asked for 'cake'" in text for text in _answers(site).values())
        assert "bug in mpfora" not in node.log.text()


def _answers(site: Site) -> dict[str, str]:
    return {key: value for key, value in site.content().items() if key.startswith("answers/")}


def test_a_crowd_of_askers_is_answered_or_told_to_come_again_and_no_renewal_is_late(
    etcd: EtcdServer, namespace: str
) -> None:
    with Site(etcd, namespace) as site:
        node = start(site, "deadlock", lease_ttl="3s")
        site.submit("t1", "deadlock")
        node.child("t1")
        question = format_question(Question(STACK, "t1"))
        with ThreadPoolExecutor(20) as askers:
            tuple(askers.map(lambda number: site.put(site.layout.request("n1", str(number)), question), range(40)))
        until(lambda: len({key.split("/")[1] for key in _answers(site)}) == 40, "each has an answer")
        assert any("ask again" in text for text in _answers(site).values())
        assert site.owner("t1") == "n1"
        assert not node.log.find("lost|late|asked to stop")


def test_a_profile_is_asked_for_from_anywhere_and_written_as_a_page(
    etcd: EtcdServer, namespace: str, tmp_path: Path
) -> None:
    with Site(etcd, namespace) as site:
        node = start(site, "deadlock")
        site.submit("hung", "deadlock")
        node.child("hung")
        until(lambda: "in other" in site.client.stack("hung").text, "it is deadlocked")
        shown = cli(site, "profile", "hung", "--for", "1s", "-o", str(tmp_path / "p.html"))
        assert (shown.returncode, shown.stderr) == (0, "")
        assert re.search(r"50\.0%  deadlock \(.*zoo\.py:\d+\)", shown.stdout)
        assert "deadlock (" in (tmp_path / "p.html").read_text()
        for wrong in (("-o", "p.png"), ("--for", "0s"), ("--for", "11m"), ("--hz", "0"), ("--by", "luck")):
            assert cli(site, "profile", "hung", *wrong).returncode == 2, wrong
        until(lambda: not [key for key in site.content() if key.startswith(("requests/", "answers/"))], "nothing left")


def test_while_etcd_is_nearly_full_nothing_is_answered_and_whoever_asks_is_told_what_to_do(
    etcd: EtcdServer, namespace: str
) -> None:
    with Site(etcd, namespace) as site:
        node = start(site, "deadlock", env={"MPFORA_ETCD_QUOTA": "20KiB"})  # etcd's is never so small
        site.submit("hung", "deadlock")
        node.child("hung")
        shown = until(lambda: (found := cli(site, "stack", "hung")).returncode == 1 and found, "an answer")
        assert "nodes answer no questions while etcd is nearly full" in shown.stderr
        assert "mpfora purge" in shown.stderr
        assert cli(site, "logs", "hung").returncode == 1
        assert cli(site, "task", "hung").returncode == 0  # what needs no answer of a node is shown
        assert site.owner("hung") == "n1"
