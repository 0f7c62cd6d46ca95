"""Who may import whom: pure modules import no I/O, and children nothing of the supervisor's, read from the sources and
held against a fresh interpreter."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import mpfora

ROOT = Path(mpfora.__file__).parent
#: no clock, no socket, no thread, no process, no file: what a pure module never imports
IMPURE = frozenset({
    "asyncio", "concurrent", "ctypes", "etcd3", "fcntl", "grpc", "logging", "mmap", "multiprocessing", "psutil",
    "select", "setproctitle", "shutil", "signal", "socket", "ssl", "subprocess", "tempfile", "threading", "time",
})  # fmt: skip
PURE = [
    "model", "states", "outcome", "wire", "units", "retry", "handlers", "keys",
    "history", "task_settings",
    *[f"supervisor.{name}" for name in (
        "answers", "balance", "changes", "claiming", "commands", "coordinator", "core", "designations", "ending",
        "events", "holdings", "key_changes", "lease", "lifecycle", "mirror", "moves", "posture", "session", "timers",
        "slot", "suspects", "transactions", "zygote_care",
    )],
    *[f"supervisor.{name}" for name in ("adviser", "counts", "plan", "told", "upkeep", "views")],
    *[f"supervisor.{name}" for name in ("cost_plan", "levels", "meter", "node_costs", "prices")],
    "child.deadman", "child.schema", "child.schema_pydantic", "child.schema_values",
    "client.pending", "client.submission", "errors",
]  # fmt: skip
#: in these a name of an impure module is allowed, and why
ALLOWED = {
    ("outcome", "signal"): "the name of a signal number, when it is needed",
    ("config", "socket"): "the default name of a node",
}


class Import:
    """One import: `name` is what is imported, dotted; `at_top` whether it happens when the module is imported."""

    def __init__(self, name: str, at_top: bool, is_typing: bool) -> None:
        self.name, self.at_top, self.is_typing = name, at_top, is_typing
        self.root = name.partition(".")[0]


@cache
def modules() -> dict[str, Path]:
    """Every module of the package by its name without `mpfora.`; a package's own is its name."""
    found = {}
    for path in ROOT.rglob("*.py"):
        parts = list(path.relative_to(ROOT).with_suffix("").parts)
        if parts[-1] == "__init__":
            parts.pop()
        found[".".join(parts)] = path
    return found


@cache
def imports(module: str) -> tuple[Import, ...]:
    path = modules()[module]
    return tuple(_walk(ast.parse(path.read_text(), str(path)), at_top=True, is_typing=False))


def _walk(node: ast.AST, at_top: bool, is_typing: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(alias.name, at_top, is_typing) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, "imports are absolute"
            yield Import(child.module or "", at_top, is_typing)
            yield from (Import(f"{child.module}.{alias.name}", at_top, is_typing) for alias in child.names)
        else:
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            typing = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test)
            yield from _walk(child, at_top and not inside, is_typing or typing)


def under(package: str) -> list[str]:
    return [name for name in modules() if name == package or name.startswith(package + ".")]


def test_the_reader_sees_the_package() -> None:
    assert {"model", "supervisor.core", "child.zygote", "supervisor", "child"} <= set(modules())
    assert {"asyncio", "mpfora.supervisor.core"} <= {one.name for one in imports("supervisor.loop")}


@pytest.mark.parametrize("module", PURE)
def test_pure_modules_import_no_io(module: str) -> None:
    found = {one.root for one in imports(module)} & IMPURE
    assert {root for root in found if (module, root) not in ALLOWED} == set()


@pytest.mark.parametrize("module", PURE)
def test_pure_modules_import_only_pure_ones_of_the_package(module: str) -> None:
    ours = {
        one.name.removeprefix("mpfora.") for one in imports(module) if one.root == "mpfora" and one.name != "mpfora"
    }
    imported = {name for name in ours if name in modules() and name != "supervisor"}
    assert imported - set(PURE) - {"config", "kv"} == set()


@pytest.mark.parametrize("module", [*PURE, "config"])
def test_pure_modules_call_no_clock_and_no_chance_of_their_own(module: str) -> None:
    """datetime.now and the functions of the module `random` are hidden clocks and dice; random.Random(...) is passed
    in. A Message.sleep(timedelta) of a handler's is the one exception."""
    tree = ast.parse(modules()[module].read_text())
    calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    forbidden = {call for call in calls if call.endswith((".now", ".today", ".utcnow"))}
    forbidden |= {call for call in calls if call.startswith("random.") and call != "random.Random"}
    assert forbidden - ({"datetime.now"} if module == "states" else set()) == set()


@pytest.mark.parametrize("module", under("child"))
def test_children_import_nothing_of_the_supervisor_s(module: str) -> None:
    for one in imports(module):
        assert not one.name.startswith("mpfora.supervisor"), module
        assert one.root not in {"etcd3", "grpc", "google", "click", "rich"}, module
        runs_later = not one.at_top or one.is_typing
        assert one.root != "asyncio" or runs_later, f"{module}: asyncio only where an async handler is run"


@pytest.mark.parametrize("module", under("supervisor"))
def test_the_supervisor_executes_the_child_and_does_not_import_it(module: str) -> None:
    assert not [one.name for one in imports(module) if one.name.startswith("mpfora.child")]


@pytest.mark.parametrize("module", sorted(modules()))
def test_only_the_etcd_modules_import_its_client(module: str) -> None:
    roots = {one.root for one in imports(module) if not one.is_typing}
    if roots & {"etcd3", "grpc"}:
        assert module.startswith("etcd.")


def test_the_package_itself_imports_nothing_heavy() -> None:
    assert loaded("import mpfora") & {"etcd3", "grpc", "asyncio", "psutil", "click", "rich"} == set()


def test_no_module_of_a_kind_imports_in_a_circle() -> None:
    graph = {
        name: {one.name.removeprefix("mpfora.") for one in imports(name) if one.at_top and not one.is_typing}
        & set(modules())
        for name in modules()
    }
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, " -> ".join((*way, name))
        if name not in done:
            for other in sorted(other for other in graph[name] if not f"{name}.".startswith(f"{other}.")):
                visit(other, (*way, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def loaded(statement: str) -> set[str]:
    """Top-level names of the modules that a fresh interpreter has after `statement`, beyond those it starts with."""
    program = f"import sys\nbefore = set(sys.modules)\n{statement}\nprint(*(set(sys.modules) - before))"
    environment = {"PYTHONPATH": str(ROOT.parent), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize("module", ["mpfora.child.zygote", "mpfora.child.entry", "mpfora.child.run"])
def test_a_fresh_zygote_has_loaded_the_standard_library_and_two_packages(module: str) -> None:
    names = loaded(f"import {module}")
    assert module in names
    ours = {name for name in names if name.partition(".")[0] == "mpfora"}
    assert not [name for name in ours if name.startswith(("mpfora.supervisor", "mpfora.etcd", "mpfora.cli"))]
    others = {name.partition(".")[0] for name in names - ours}
    third_party = others - sys.stdlib_module_names - {"mpfora"}
    assert third_party <= {"psutil", "setproctitle", "_psutil_linux", "_psutil_posix"}
    assert not others & {"asyncio", "concurrent", "multiprocessing", "ssl", "grpc", "etcd3"}
