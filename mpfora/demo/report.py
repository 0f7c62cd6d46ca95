"""What the demo ends with: a table of the tasks, and its claims, each with a tick or a cross."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mpfora.client.info.task_info import TaskInfo
from mpfora.demo.cases import Case, Good
from mpfora.demo.story import claimed
from mpfora.demo.verdict import Evidence, Verdict, innermost, result_holds
from mpfora.demo.view import Marks, marks_of
from mpfora.model.printable import printable


def print_report(console: Console, cases: Sequence[Case], evidence: Evidence, verdicts: Sequence[Verdict]) -> None:
    marks = marks_of(console)
    console.print()
    console.print(_table(cases, evidence, marks))
    console.print()
    for verdict in verdicts:
        console.print(_verdict_line(verdict, marks))
    console.print()


def _table(cases: Sequence[Case], evidence: Evidence, marks: Marks) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("TASK", no_wrap=True)
    table.add_column("RAN ON", no_wrap=True)
    table.add_column("RUNS", justify="right")
    table.add_column("ENDED", no_wrap=True)
    table.add_column("RESULT, OR LAST LINE OF STACK", overflow="fold")
    for case in sorted(cases, key=lambda case: not isinstance(case, Good)):
        info = evidence.infos.get(case.id)
        runs = evidence.runs_of(case.id)
        nodes = marks.to.join(name for name, _ in itertools.groupby(run.node for run in runs))
        table.add_row(case.id, nodes, str(len(runs)), _end(info), _detail(case, info, evidence))
    return table


def _end(info: TaskInfo | None) -> Text:
    if info is None:
        return Text("lost", style="bold red")
    if info.completed:
        return Text("completed", style="green")
    return Text(info.cause or info.state if info.finished else info.state, style="red")


def _detail(case: Case, info: TaskInfo | None, evidence: Evidence) -> Text:
    if info is None:
        return Text("etcd knows nothing of it", style="red")
    if not info.completed:
        return Text(printable(_where(info)))
    results = {case.id: found.result for case in evidence.good if (found := evidence.infos.get(case.id))}
    wrong = isinstance(case, Good) and not result_holds(case, results)
    return Text(f"{claimed(case, info)}{' (WRONG)' if wrong else ''}", style="red" if wrong else "")


def _where(info: TaskInfo) -> str:
    """The last line of its stack; without one, what its last error says."""
    errors = [error for error in info.errors if error.cause]
    if info.stack and (line := innermost(info.stack)):
        return line
    return errors[-1].text.splitlines()[0] if errors else ""


def _verdict_line(verdict: Verdict, marks: Marks) -> Table:
    line = Table.grid(padding=(0, 1))
    line.add_column(no_wrap=True)
    line.add_column(overflow="fold")
    style = "green" if verdict.holds else "bold red"
    line.add_row(Text(marks.yes if verdict.holds else marks.no, style=style), Text(verdict.text))
    return line
