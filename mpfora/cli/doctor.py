"""The command that says what is wrong: `mpfora doctor`."""

from __future__ import annotations

import click
from rich.text import Text

from mpfora.cli import printing
from mpfora.cli.session import Session
from mpfora.doctor.examine import examine
from mpfora.doctor.findings import BAD, FINE, NOTE, Finding
from mpfora.doctor.gather import gather
from mpfora.model.printable import printable_line

_STYLES = {FINE: "green", NOTE: "yellow", BAD: "bold red"}
_WIDTH = 16
_INDENT = 5 + _WIDTH + 1


@click.command("doctor", short_help="Say what is wrong with etcd, nodes and machines.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array of objects.")
@click.pass_obj
def doctor(session: Session, as_json: bool) -> int:
    """Look at etcd, the nodes and their machines, and say what is wrong.

    Each line says what, why that matters, and the command that mends it. Reads all tasks once, and asks each node.
    Exits 1 if something is to be mended.
    """
    findings = examine(session.client()._run(gather))
    if as_json:
        printing.say_rows([finding.to_json() for finding in findings])
    elif printing.is_terminal():
        printing.say_texts([line for finding in findings for line in _lines(finding)])
    else:
        printing.say("\n".join(line.plain for finding in findings for line in _lines(finding)))
    count = sum(finding.level == BAD for finding in findings)
    if count and not as_json:
        printing.tell(f"{count} {'thing needs' if count == 1 else 'things need'} mending")
    return 1 if count else 0


def _lines(finding: Finding) -> list[Text]:
    first = Text(f"{finding.level:<5}", _STYLES[finding.level])
    first.append(f"{finding.check:<{_WIDTH}} ", "bold").append(_folded(finding.what))
    indent = " " * _INDENT
    lines = [first]
    if finding.why and finding.level != FINE:
        lines.append(Text(f"{indent}{_folded(finding.why)}", "dim"))
    if finding.mend:
        lines.append(Text(f"{indent}-> {_folded(finding.mend, _INDENT + 3)}"))
    return lines


def _folded(text: str, indent: int = _INDENT) -> str:
    return printing.folded(printable_line(text), indent)


COMMANDS = (doctor,)
