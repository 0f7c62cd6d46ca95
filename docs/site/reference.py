"""What the reference says is made of the code: `python docs/site/reference.py NAME` prints one part.

MADE has the parts by the names that pages put into `<!-- made: NAME -->`.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import mpfora.errors  # noqa: E402
from mpfora.cli.group import MODULES, cli  # noqa: E402
from mpfora.config.etcd_options import PASSWORD_VARIABLE  # noqa: E402
from mpfora.model.outcome import TASK_ERRORS, Cause  # noqa: E402
from mpfora.store import keys  # noqa: E402

#: the files that say which metrics there are, and who serves them
METRICS = {"a node (`--http`)": "mpfora/supervisor/metrics.py", "`mpfora web`": "mpfora/web/metrics.py"}
_MAKERS = {
    "gauge": "gauge",
    "one": "gauge",
    "counter": "counter",
    "histogram": "histogram",
    "plain_histogram": "histogram",
}


def commands() -> str:
    """Every command of `mpfora`: its usage, its help and its options."""
    outer = click.Context(cli, info_name="mpfora")
    parts = [_command(cli, outer, "mpfora")]
    for names in MODULES.values():
        for name in names:
            command = cli.get_command(outer, name)
            assert command is not None
            parts.append(_command(command, click.Context(command, info_name=name, parent=outer), f"mpfora {name}"))
    return "\n\n".join(parts)


def node_command() -> str:
    """`python -m mpfora.supervisor`, with the variable and the default of each option."""
    from mpfora.supervisor.__main__ import main

    name = "python -m mpfora.supervisor"
    return _command(main, click.Context(main, info_name=name), name)


def _command(command: click.Command, context: click.Context, name: str) -> str:
    usage = " ".join([name, *command.collect_usage_pieces(context)])
    parts = [f"### {name}", _prose(command.help or ""), f"```\n{usage}\n```"]
    rows = [row for row in (_option(param, context) for param in command.params) if row]
    if rows:
        parts.append("| option | what it does |\n|---|---|\n" + "\n".join(rows))
    parts.append(_prose(command.epilog or ""))
    return "\n\n".join(part for part in parts if part)


def _prose(text: str) -> str:
    r"""Help as Markdown: a paragraph that begins with \b keeps its lines."""
    paragraphs = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join(_paragraph(paragraph) for paragraph in paragraphs if paragraph.strip("\b\n "))


def _paragraph(text: str) -> str:
    if text.startswith("\b"):
        return f"```text\n{text[1:].strip(chr(10))}\n```"
    return _escaped(" ".join(text.split()))


def _escaped(text: str) -> str:
    """Text that Markdown leaves alone. What stands between backticks is code already."""
    pieces = text.split("`")
    return "`".join(piece if n % 2 else re.sub(r"([*_<\[\]|])", r"\\\1", piece) for n, piece in enumerate(pieces))


def _option(param: click.Parameter, context: click.Context) -> str:
    record = param.get_help_record(context)
    if record is None:
        return ""
    names, text = record
    return f"| `{names.replace('|', chr(92) + '|')}` | {_escaped(' '.join(text.split()))} |"


def variables() -> str:
    """The variables of the environment that options are read from, and those that are none of an option."""
    from mpfora.supervisor.__main__ import main

    rows = {PASSWORD_VARIABLE: "the password of `--etcd-user`"}
    for param in (*cli.params, *main.params):
        if isinstance(param, click.Option) and isinstance(param.envvar, str):
            rows[param.envvar] = f"`{param.opts[0]}`"
    return "| variable | is the same as |\n|---|---|\n" + "\n".join(f"| `{n}` | {t} |" for n, t in sorted(rows.items()))


def causes() -> str:
    """The causes of an end, whether they are errors of the task, and their budgets."""
    told = dict(re.findall(r"^ *([A-Z_]+) {2,}(.+)$", Cause.__doc__ or "", re.M))
    rows = [
        f"| `{cause}` | {_escaped(told[cause.name])} | {'yes' if cause in TASK_ERRORS else 'no'} |" for cause in Cause
    ]
    return "| cause | what happened | an error of the task |\n|---|---|---|\n" + "\n".join(rows)


def key_table() -> str:
    """The keys, as the head of mpfora/store/keys.py has them."""
    text = (keys.__doc__ or "").split("\n\n")[1]
    return f"```text\n{textwrap.dedent(text)}\n```"


def errors() -> str:
    """The family of errors, as the head of mpfora/errors.py draws it."""
    return f"```text\n{(mpfora.errors.__doc__ or '').strip()}\n```"


def metrics() -> str:
    """The metrics of nodes and of `mpfora web`, read from the calls that make them."""
    parts = []
    for who, path in METRICS.items():
        rows = [
            f"| `{name}` | {kind} | {labels} | {_escaped(text)} |" for name, kind, labels, text in _metrics_of(path)
        ]
        parts.append(
            f"## Of {who}\n\n| metric | kind | labels | what it tells |\n|---|---|---|---|\n" + "\n".join(rows)
        )
    return "\n\n".join(parts)


def _metrics_of(path: str) -> Iterator[tuple[str, str, str, str]]:
    """(name, kind, labels, text) of each metric that the file makes."""
    for function in ast.walk(ast.parse((ROOT / path).read_text())):
        if not isinstance(function, ast.FunctionDef):
            continue
        texts = {
            target.id: node.value
            for node in ast.walk(function)
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(function):
            if isinstance(node, ast.Call) and (kind := _MAKERS.get(_called(node))) and len(node.args) >= 2:
                yield _metric(node, kind, texts)


def _metric(call: ast.Call, kind: str, texts: dict[str, ast.expr]) -> tuple[str, str, str, str]:
    name, text, labels = call.args[0], call.args[1], call.args[3:]
    text = texts.get(text.id, text) if isinstance(text, ast.Name) else text
    assert isinstance(name, ast.Constant), ast.unparse(call)
    assert isinstance(text, ast.Constant), ast.unparse(call)
    told = [str(label.value) for label in labels if isinstance(label, ast.Constant)]
    if _called(call) == "histogram":  # metric_forms.py gives it this label itself
        told = ["handler"]
    ending = "_total" if kind == "counter" else ""
    return f"mpfora_{name.value}{ending}", kind, ", ".join(f"`{label}`" for label in told), str(text.value)


def _called(call: ast.Call) -> str:
    return getattr(call.func, "attr", getattr(call.func, "id", ""))


#: name of a marker -> what makes the text in its place
MADE: dict[str, Callable[[], str]] = {
    "causes": causes,
    "commands": commands,
    "errors": errors,
    "keys": key_table,
    "metrics": metrics,
    "node": node_command,
    "variables": variables,
}

if __name__ == "__main__":
    print(MADE[sys.argv[1]]())
