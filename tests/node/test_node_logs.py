"""What tasks print, asked of real nodes: through retries, moves and the deaths of nodes."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from etcd_server import EtcdServer
from node import Node, Site, until

from mpfora.client.logs import local_log, logs, run_log
from mpfora.client.logs.log_lines import LogLine
from mpfora.client.logs.logs_of_many import MOST_LOGS
from mpfora.client.questions.asker import Asker
from mpfora.store.question_records import Question

HANDLERS = ("counts=log_handlers:counts", "prints=log_handlers:prints")


def start(site: Site, folder: Path, name: str = "n1", **options: Any) -> Node:
    return site.start(
        *HANDLERS, name=name, **{"lease_ttl": 3, "log_dir": folder / "logs", "retry": "delay=0", **options}
    )


def cli(site: Site, *arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "mpfora.cli", "--etcd", site.etcd.endpoint, "--namespace", site.namespace, *arguments]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)


class Follower(threading.Thread):
    """Reads a log to its end."""

    def __init__(self, site: Site, task_id: str) -> None:
        super().__init__(daemon=True)
        self.lines: list[LogLine] = []
        self.error: Exception | None = None
        self._logs = site.client.logs(task_id, follow=True)
        self.start()

    def run(self) -> None:
        try:
            for line in self._logs:
                self.lines.append(line)
        except Exception as error:  # noqa: BLE001 - told by `ended`
            self.error = error

    def wait(self, pattern: str) -> LogLine:
        found = until(
            lambda: [line for line in self.lines if re.search(pattern, line.text)], lambda: self.told(pattern)
        )
        return found[-1]

    def wait_number(self, least: int) -> None:
        until(lambda: self.numbers() and self.numbers()[-1] >= least, lambda: self.told(f"{least}"))

    def numbers(self) -> list[int]:
        return [int(line.text.split()[1]) for line in self.lines if re.fullmatch(r"t1 \d+", line.text)]

    def told(self, what: str) -> str:
        return f"{what} in the log: {[line.text for line in self.lines[-20:]]}, {self.error!r}"

    def ended(self) -> list[str]:
        """The notes, when it has ended."""
        self.join(60)
        assert not self.is_alive(), self.told("its end")
        assert self.error is None, self.told("its end")
        return [line.text for line in self.lines if line.note]


@pytest.fixture(params=["here", "elsewhere"])
def reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where logs are read: on the node's machine, from its files, or elsewhere, through etcd."""
    if request.param == "elsewhere":
        monkeypatch.setattr(logs, "machine", lambda: "")
    return str(request.param)


def check_numbers(numbers: list[int]) -> None:
    """A run begins where the last checkpoint was: what it repeats it prints again, and nothing is left out."""
    for before, after in itertools.pairwise(numbers):
        assert after == before + 1 or after <= before, numbers


def test_the_log_of_a_task_that_has_not_run_says_so(etcd: EtcdServer, namespace: str) -> None:
    with Site(etcd, namespace) as site:
        site.client.submit("t1")
        assert cli(site, "logs", "t1").stdout == "[no log: it has not run yet]\n"


def test_a_follower_sees_every_line_once_through_a_retry_and_a_move(
    etcd: EtcdServer, namespace: str, tmp_path: Path, reader: str
) -> None:
    with Site(etcd, namespace) as site:
        start(site, tmp_path)
        site.submit("t1", "counts", folder=str(tmp_path))
        follower = Follower(site, "t1")
        follower.wait_number(10)
        (tmp_path / "fail").touch()
        follower.wait("run 2 on n1")
        first = [line for line in follower.lines if line.run == 1 and not line.note]
        assert [line.text for line in first] == [f"t1 {number}" for number in range(len(first))]
        start(site, tmp_path, "n2")
        site.tell_node("n1", "drain")
        follower.wait("run 3 on n2")
        follower.wait_number(follower.numbers()[-1] + 10)
        (tmp_path / "stop").touch()
        notes = follower.ended()
        assert [line.text for line in follower.lines if not line.note][-1] == "the end"
        check_numbers(follower.numbers())
        assert len({(line.run, line.text) for line in follower.lines}) == len(follower.lines)  # none twice
        assert "raised: ValueError: as it was told" in notes[0]
        assert notes[-1] == "run 3 on n2 ended: completed; the task is completed"
        assert {line.node for line in follower.lines} == {"n1", "n2"}
        assert sorted(line.time for line in follower.lines if line.time) == [
            line.time for line in follower.lines if line.time
        ]
        assert not [key for key in site.content() if key.startswith(("requests/", "answers/"))]


def test_a_follower_gets_what_was_kept_of_a_node_that_was_killed(
    etcd: EtcdServer, namespace: str, tmp_path: Path, reader: str
) -> None:
    with Site(etcd, namespace) as site:
        first = start(site, tmp_path)
        site.submit("t1", "counts", folder=str(tmp_path))
        follower = Follower(site, "t1")
        follower.wait_number(10)
        first.process.kill()
        first.wait_empty()
        start(site, tmp_path)
        follower.wait("run . on n1$")
        (tmp_path / "stop").touch()
        follower.ended()
        check_numbers(follower.numbers())
        assert len({(line.fence, line.run, line.text) for line in follower.lines}) == len(follower.lines)
        kept = list((tmp_path / "logs").rglob("*.log"))
        on_disk = {text for path in kept for text in path.read_text().splitlines()}
        assert on_disk == {line.text for line in follower.lines if not line.note}


def test_a_follower_goes_on_when_etcd_was_away(
    own_etcd: EtcdServer, namespace: str, tmp_path: Path, reader: str
) -> None:
    with Site(own_etcd, namespace) as site:
        start(site, tmp_path, lease_ttl=15)
        site.submit("t1", "counts", folder=str(tmp_path))
        follower = Follower(site, "t1")
        follower.wait_number(10)
        own_etcd.restart()
        follower.wait_number(follower.numbers()[-1] + 20)
        (tmp_path / "stop").touch()
        follower.ended()
        check_numbers(follower.numbers())
        assert len({(line.run, line.text) for line in follower.lines}) == len(follower.lines)


def test_a_follower_of_a_group_sees_the_tasks_that_join_it_and_ends_with_the_last(
    etcd: EtcdServer, namespace: str, tmp_path: Path
) -> None:
    with Site(etcd, namespace) as site:
        start(site, tmp_path, max_tasks=20)
        site.submit("before", "prints", text="long ago\n", group="g")
        site.wait_end("before")
        site.submit("t1", "counts", folder=str(tmp_path), group="g")
        argv = ["logs", "--group", "g", "-f"]
        follower = subprocess.Popen(
            [sys.executable, "-m", "mpfora.cli", "--etcd", etcd.endpoint, "--namespace", namespace, *argv],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        lines: list[str] = []
        assert follower.stdout is not None
        reading = threading.Thread(target=lambda: lines.extend(follower.stdout or ()), daemon=True)
        reading.start()
        until(lambda: any("t1 3" in line for line in lines), lambda: f"the first task: {lines}")
        for number in range(MOST_LOGS + 4):  # short ones: more than there are places for
            site.submit(f"join{number:02}", "prints", text=f"hello {number}\n", group="g")
        site.submit("other", "prints", text="of nobody\n")
        for number in range(MOST_LOGS + 4):
            until(lambda n=number: any(f"hello {n}\n" in line for line in lines), lambda: f"all that joined: {lines}")
        (tmp_path / "stop").touch()
        assert follower.wait(60) == 0
        reading.join(10)
        shown = [line.strip() for line in lines]
        assert len([line for line in shown if "hello 3" in line]) == 1
        assert [line for line in shown if line.endswith("| long ago")]
        assert not [line for line in shown if "of nobody" in line]
        assert [line for line in shown if line.endswith("| the end")]


def test_on_the_node_s_machine_the_files_are_read_and_nothing_of_them_goes_through_etcd(
    etcd: EtcdServer, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "".join(f"line {number} {'x' * 90}\n" for number in range(12_000))  # 1.2 MB: 5 s of answers
    with Site(etcd, namespace) as site:
        start(site, tmp_path, retry="max_errors=1")
        site.submit("t1", "prints", text=text)
        site.wait_end("t1")
        answers: list[dict[str, Any]] = []
        asked = Asker.ask

        async def seen(self: Asker, node: str, question: Question, timeout_s: float) -> dict[str, Any]:
            answers.append(await asked(self, node, question, timeout_s))
            return answers[-1]

        monkeypatch.setattr(Asker, "ask", seen)
        lines = [line.text for line in site.client.logs("t1")]
        assert "\n".join(lines) + "\n" == text
        assert [len(answer["data"]) for answer in answers] == [0]
        assert [line.text for line in site.client.logs("t1", tail=2)] == lines[-2:]
        answers.clear()
        monkeypatch.setattr(local_log, "folder_here", lambda answer: None)
        monkeypatch.setattr(run_log, "folder_here", lambda answer: None)
        assert [line.text for line in site.client.logs("t1", tail=3)] == lines[-3:]  # as from another machine
        assert [bool(answer["data"]) for answer in answers] == [False, True]


def test_a_follower_on_the_node_s_machine_asks_for_the_end_of_the_run_alone(
    etcd: EtcdServer, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Site(etcd, namespace) as site:
        start(site, tmp_path)
        questions: list[Question] = []
        asked = Asker.ask

        async def seen(self: Asker, node: str, question: Question, timeout_s: float) -> dict[str, Any]:
            questions.append(question)
            return await asked(self, node, question, timeout_s)

        monkeypatch.setattr(Asker, "ask", seen)
        site.submit("t1", "counts", folder=str(tmp_path))
        follower = Follower(site, "t1")
        follower.wait_number(40)
        (tmp_path / "stop").touch()
        follower.ended()
        check_numbers(follower.numbers())
        assert [line.text for line in follower.lines if not line.note][-1] == "the end"
        assert len(questions) <= 4
        assert questions[-1].is_reading


def test_a_folder_that_is_another_one_here_is_not_read(tmp_path: Path) -> None:
    found = tmp_path.stat()
    named = [str(tmp_path), found.st_dev, found.st_ino]
    assert local_log.folder_here({"folder": named}) == tmp_path
    for odd in ([str(tmp_path), found.st_dev, found.st_ino + 1], [str(tmp_path / "no"), 1, 2], "x", [1, 2, 3], None):
        assert local_log.folder_here({"folder": odd}) is None


def test_the_last_words_of_a_failed_run_outlive_its_node(etcd: EtcdServer, namespace: str, tmp_path: Path) -> None:
    text = "".join(f"line {number}\n" for number in range(500)) + "10 %\r90 %\nand a half"
    with Site(etcd, namespace) as site:
        node = start(site, tmp_path, retry="max_errors=1")
        site.submit("t1", "prints", text=text, fails=True)
        state = site.wait_end("t1")
        assert state.output.endswith("line 499\n90 %\nand a half")
        assert len(state.output) <= 4096
        shown = cli(site, "logs", "t1", "-n", "2", "--timestamps")
        assert re.fullmatch(r"(\S+Z +(90 %|and a half)\n){2}", shown.stdout), shown
        row = json.loads(cli(site, "logs", "t1", "--json", "--grep", "line 7$").stdout)
        assert (row["run"], row["node"], row["text"], row["note"]) == (1, "n1", "line 7", False)
        node.stop()
        words = cli(site, "logs", "t1")
        assert words.stdout.splitlines()[-1] == "and a half"
        assert "its last lines only" in words.stdout.splitlines()[0]
        site.submit("t2", "prints", text="x")


def test_a_completed_task_has_its_log_and_no_last_words_and_a_silent_one_has_none(
    etcd: EtcdServer, namespace: str, tmp_path: Path
) -> None:
    with Site(etcd, namespace) as site:
        start(site, tmp_path)
        site.submit("t1", "prints", text="\xff\x1b[31mred\x00\n")
        site.submit("t2", "prints", text="")
        assert site.wait_end("t1").output == ""
        site.wait_end("t2")
        (line,) = site.client.logs("t1")
        assert line.text == "\ufffd\x1b[31mred\x00"
        assert "\x1b" not in cli(site, "logs", "t1").stdout
        assert list(site.client.logs("t2")) == [] or next(iter(site.client.logs("t2"))).note
        shown = cli(site, "logs", "t1", "t2")
        assert "t1 | \ufffd" in shown.stdout
        assert not (tmp_path / "logs" / namespace / "n1" / "t2").exists()


def test_a_folder_that_cannot_be_written_fails_no_task(etcd: EtcdServer, namespace: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with Site(etcd, namespace) as site:
        node = start(site, tmp_path, log_dir=tmp_path / "file")
        site.submit("t1", "prints", text="hello\n")
        assert site.wait_end("t1").cause == "completed"
        node.log.wait(r"cannot .* in .*Not a directory; tasks go on")


def test_a_full_disk_fails_no_task(etcd: EtcdServer, namespace: str, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", small], check=False).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        with Site(etcd, namespace) as site:
            start(site, tmp_path, log_dir=small)
            site.submit("t1", "prints", text="x" * 79 + "\n" + "y" * 300_000 + "\n")
            site.submit("t2", "prints", text="z" * 100_000)
            assert site.wait_end("t1").cause == "completed"
            assert site.wait_end("t2").cause == "completed"
            lines = list(site.client.logs("t1"))
            assert lines == [] or lines[0].text == "x" * 79 or lines[0].note
    finally:
        subprocess.run(["umount", "-l", small], check=True)
