"""The commands on the pages of docs/ print what stands below them, with the files that stand above them."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from page_commands import SESSIONS, Reader, Step, differences, files, run_page, steps
from places import ROOT

PAGES = sorted(page for page in (ROOT / "docs").rglob("*.md") if SESSIONS.search(page.read_text()))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT / "docs").as_posix())
def test_the_commands_of_a_page_print_what_it_says(page: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="page") as folder:  # short, for the sockets of the embedded etcd
        reader = Reader(Path(folder))
        try:
            wrong = [differences(step, printed) for step, printed in run_page(page.read_text(), reader)]
        finally:
            reader.close()
    assert [difference for difference in wrong if difference] == []


def test_pages_with_commands_are_found() -> None:
    assert {"start.md", "trouble.md", "celery.md"} <= {page.name for page in PAGES}


def test_the_programs_of_others_that_a_page_shows_can_be_read() -> None:
    for page in sorted((ROOT / "docs" / "coming_from").glob("*.md")):
        for part in page.read_text().split("```python\n")[1:]:
            compile(part.partition("```")[0], page.name, "exec")


@pytest.mark.parametrize(
    ("output", "printed"),
    [
        (["p1 completed 5"], ["p1 completed 17"]),
        (["ID   STATE"], ["ID STATE"]),
        (["started: 2026-11-29T00:28:44Z (12s ago)"], ["started: 2027-01-02T03:04:05Z (9m ago)"]),
        (["kept until: x (in 6d23h)"], ["kept until: x (in 5d)"]),
        (["n1 live ... primes:count"], ["n1 live 0 0 vm kill - primes:count"]),
        (["first", "...", "last"], ["first", "last"]),
        (["first", "...", "last"], ["first", "a", "b", "last"]),
        (["thread 0x00007f"], ["thread 0x1a2b"]),
        (["2.91s  15.0 MiB"], ["950ms  1.2 GiB"]),
    ],
)
def test_what_differs_from_run_to_run_may_differ(output: list[str], printed: list[str]) -> None:
    assert differences(Step("x", tuple(output)), printed) == ""


@pytest.mark.parametrize(
    ("output", "printed"),
    [
        (["completed"], ["failed"]),
        (["completed"], []),
        (["completed"], ["completed", "and more"]),
        (["n1 live ... primes:count"], ["n1 live 0 train:run"]),
        (["first", "...", "last"], ["first", "a"]),
        (["5 tasks"], ["no tasks"]),
    ],
)
def test_what_is_another_thing_is_seen(output: list[str], printed: list[str]) -> None:
    assert "$ x" in differences(Step("x", tuple(output)), printed)


def test_a_session_is_read_command_by_command() -> None:
    session = "$ cat <<E\n> text\n> E\ntext\n$ true\n"
    assert steps(session) == [Step("cat <<E\ntext\nE", ("text",)), Step("true", ())]
    assert files("```python\n# a.py\nx = 1\n```\n```python\ny = 2\n```\n") == {"a.py": "# a.py\nx = 1\n"}


def test_a_reader_hears_its_commands_and_ends_what_goes_on(tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    assert reader.type("sleep 60 &") == []
    assert reader.type('echo "$HOME"; echo wrong >&2; exit 3') == ["/home/ann/app", "wrong"]
    reader.close()
    assert [process.returncode for process in reader.beside] == [-2]
