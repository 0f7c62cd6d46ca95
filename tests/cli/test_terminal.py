"""What a terminal shows: within its width, with the colours of tasks, and without obeying what they print."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from mpfora.cli import doctor, logs, printing, render
from mpfora.cli.task_colours import coloured
from mpfora.cli.top_board import Board
from mpfora.cli.top_scene import Scene
from mpfora.cli.top_screen import once
from mpfora.client.info.task_info import TaskInfo
from mpfora.client.logs.log_lines import LogLine
from mpfora.doctor.findings import bad, fine
from mpfora.model.state import TaskError

LONG = "no live node has its handler 'train': there are " + ", ".join(f"handler-{n} (n1, n2)" for n in range(20))


@pytest.fixture(params=[40, 80, 120, 200])
def width(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    columns: int = request.param
    monkeypatch.setattr(printing, "is_terminal", lambda: True)
    monkeypatch.setattr(printing, "width", lambda: columns)
    return columns


def task(**fields: object) -> TaskInfo:
    return TaskInfo("t1", "pending", **fields)  # type: ignore[arg-type]


def test_a_long_field_stands_below_its_beginning(width: int, capsys: pytest.CaptureFixture[str]) -> None:
    render.print_task(task(reason=LONG))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(cell_len, lines)) <= width
    reason = [line for line in lines if line.startswith("reason:") or line.startswith(" " * 12)]
    assert " ".join(line[12:] for line in reason) == LONG


def test_a_traceback_keeps_its_lines(width: int, capsys: pytest.CaptureFixture[str]) -> None:
    text = f'ValueError: {LONG}\nTraceback (most recent call last):\n  File "{"x" * 200}", line 1'
    render.print_task(task(errors=(TaskError(1.0, text, "raised"),)))
    lines = capsys.readouterr().out.splitlines()
    assert f'            Traceback (most recent call last):\n              File "{"x" * 200}", line 1' in "\n".join(
        lines
    )


def test_in_a_pipe_a_field_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    render.print_task(task(reason=LONG))
    assert f"reason:     {LONG}\n" in capsys.readouterr().out


def test_the_doctor_s_lines_fit(width: int) -> None:
    for finding in (bad("tasks", LONG, LONG, LONG), fine("nodes", LONG)):
        shown = "\n".join(line.plain for line in doctor._lines(finding))
        assert max(map(cell_len, shown.splitlines())) <= width
        assert all(line.startswith(" " * 22) for line in shown.splitlines()[1:])
        assert " ".join(shown.split()).count(LONG) == (3 if finding.mend else 1)


def test_what_is_printed_once_of_top_fits(width: int) -> None:
    tasks = tuple(task(reason=LONG) for _ in range(3))
    scene = Scene("ns", 1000.0, {"pending": 3}, tasks=tasks, total=3)
    lines = once(Board(), scene, width)
    assert max(cell_len(line.plain) for line in lines) <= width
    assert lines[-1].plain.startswith("t1")


def test_colours_of_a_task_are_colours_and_nothing_else_is_obeyed() -> None:
    text = coloured("\x1b[31mred\x1b[0m \x1b[1;4mbold\x1b[m \x1b[2Jcleared \x1b]8;;http://x\x07link \x9b31m\ttab")
    assert text.plain == "red bold \\x1b[2Jcleared \\x1b]8;;http://x\\x07link \\x9b31m\ttab"
    red = next(span for span in text.spans if text.plain[span.start : span.end] == "red")
    assert "color(1)" in str(red.style)
    assert "\x1b" not in text.plain


def test_odd_colours_are_shown() -> None:
    for odd in ("\x1b[999m", "\x1b[38;5m", "\x1b[;;;m", "\x1b[m\x1b[m", "\x1b[38;2;1;2m", "[31m", "\x1b["):
        assert "end" in coloured(f"{odd}end").plain


def test_a_line_of_a_pipe_has_its_tabs_and_no_colours(capsys: pytest.CaptureFixture[str]) -> None:
    line = LogLine("t1", "n1", 1, 1, None, "\x1b[31ma\tb")
    assert logs._print(iter([line]), None, timestamps=False, as_json=False) == 1
    assert capsys.readouterr().out == "\\x1b[31ma\tb\n"


def test_the_column_of_tasks_grows(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [LogLine(task_id, "n1", 1, 1, None, "x") for task_id in ("t1", "longer", "t1")]
    logs._print(iter(lines), 0, timestamps=False, as_json=False)
    assert capsys.readouterr().out == "t1 | x\nlonger | x\nt1     | x\n"
