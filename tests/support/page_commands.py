"""The files and commands of a page of docs/, as a reader would type them.

A block of code whose first line is `# NAME` is a file. A block of the language `console` is a session: lines that
begin with `$ ` are commands, `> ` goes on with one, and what follows is its output. A command that ends in `&` goes on
beside the others. Numbers, times and blanks may differ from those of the page; `...` on a line of its own stands for
any lines, and elsewhere for any text.

`python tests/support/page_commands.py docs/start.md` runs a page's commands, and puts what they print into the page.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

ROOT = Path(__file__).resolve().parents[2]
FILES = re.compile(r"```\w+\n# (\S+\.\w+)\n(.*?)```", re.DOTALL)
SESSIONS = re.compile(r"```console\n(.*?)```", re.DOTALL)
#: on standard error: what users of an embedded etcd say on each command, and what is said where something takes long
NOTICE = re.compile(r"^mpfora: (?:no --etcd given|waiting for|[a-z]+:? (?:done for )?\d+ of \d+).*\n", re.MULTILINE)
LIMIT_S = 100


@dataclass(frozen=True, slots=True)
class Step:
    """A command, and what it prints by the page."""

    command: str
    output: tuple[str, ...]


def files(page: str) -> dict[str, str]:
    return {name: f"# {name}\n{text}" for name, text in FILES.findall(page)}


def steps(session: str) -> list[Step]:
    """The commands of a session, each with its output."""
    found: list[tuple[list[str], list[str]]] = []
    for line in session.splitlines():
        if line.startswith("$ "):
            found.append(([line[2:]], []))
        elif line.startswith("> "):
            found[-1][0].append(line[2:])
        else:
            found[-1][1].append(line)
    return [Step("\n".join(command), tuple(output)) for command, output in found]


class Reader:
    """Types the commands of a page in a folder of its own. Ends what goes on beside them when it is closed."""

    def __init__(self, folder: Path, environment: Mapping[str, str] = MappingProxyType({})) -> None:
        self._folder = folder
        self._env = {
            "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(folder), "LANG": "C.UTF-8", "COLUMNS": "100",
            "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1",
            "MPFORA_DATA_DIR": str(folder / "etcd"), "MPFORA_ETCD_LINGER": "1", **environment,
        }  # fmt: skip
        self.beside: list[subprocess.Popen[bytes]] = []

    def write(self, page: str) -> None:
        for name, text in files(page).items():
            (self._folder / name).write_text(text)

    def type(self, command: str) -> list[str]:
        """What it prints, without the notices of the embedded etcd. Its exit code is the page's affair."""
        if command.endswith("&"):
            with (self._folder / f"beside-{len(self.beside)}.log").open("wb") as log:
                self.beside.append(
                    subprocess.Popen(["bash", "-c", f"exec {command[:-1]}"], cwd=self._folder, env=self._env,
                                     stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
                )  # fmt: skip
            return []
        done = subprocess.run(
            ["bash", "-c", command], cwd=self._folder, env=self._env, stdin=subprocess.DEVNULL, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=LIMIT_S, check=False,
        )  # fmt: skip
        text = NOTICE.sub("", done.stdout).replace(str(self._folder), "/home/ann/app")
        return [line.rstrip() for line in text.splitlines()]

    def close(self) -> None:
        for process in self.beside:
            process.send_signal(signal.SIGINT)
        for process in self.beside:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def differences(step: Step, printed: list[str]) -> str:
    """What of a command's output is not as on the page; "" where all is."""
    lines = [_pattern(line) for line in step.output]
    wanted = "".join(rf"(?:{line}\n)" if line is not None else r"(?:.*\n)*?" for line in lines)
    if re.fullmatch(wanted, "".join(f"{_spaced(line)}\n" for line in printed)):
        return ""
    return "\n".join([f"$ {step.command}", "--- on the page", *step.output, "--- printed", *printed])


def _spaced(line: str) -> str:
    return " ".join(line.split())


#: a figure with its units, a time, an address: they differ from run to run
_VARYING = re.compile(r"0x[0-9a-f]+|\d[\d.,:TZ-]*(?:[smhd]\d+)*(?: ?(?:ms|us|[KMG]iB|[smhd%])(?!\w))?")


def _pattern(line: str) -> str | None:
    """A regular expression for the line; None for one that stands for any lines."""
    text = _spaced(line)
    if text == "...":
        return None
    return r".*".join(_figures(part) for part in text.split("..."))


def _figures(text: str) -> str:
    kept = [re.escape(part) for part in _VARYING.split(text)]
    return f"(?:{_VARYING.pattern})".join(kept)


def run_page(page: str, reader: Reader) -> Iterator[tuple[Step, list[str]]]:
    """Write the page's files, and type its commands one after the other."""
    reader.write(page)
    for session in SESSIONS.findall(page):
        for step in steps(session):
            yield step, reader.type(step.command)


def rewritten(page: str, reader: Reader) -> str:
    """The page with what its commands print now. Where the page's pattern holds, its own text stays."""
    reader.write(page)

    def session(found: re.Match[str]) -> str:
        lines: list[str] = []
        for step in steps(found[1]):
            printed = reader.type(step.command)
            kept = step.output and not differences(step, printed)
            lines += ["$ " + step.command.replace("\n", "\n> "), *(step.output if kept else printed)]
        return "```console\n" + "\n".join(lines) + "\n```"

    return SESSIONS.sub(session, page)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        with tempfile.TemporaryDirectory(prefix="page") as at:
            reader = Reader(Path(at))
            try:
                path = Path(name)
                path.write_text(rewritten(path.read_text(), reader))
            finally:
                reader.close()
