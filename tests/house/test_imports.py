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
#: the folders whose modules are pure, all of them
PURE_ROOMS = (
    "model",
    "cluster",
    "cluster/plans",
    "cluster/assignment",
    "supervisor/node",
    "supervisor/tasks",
    "child/schema",
    "client/info",
    "client/filters",
)
#: and single modules elsewhere
PURE_MODULES = (
    "ipc.frames", "store.keys", "store.json_format", "store.claim_records",
    "store.usage_records",
    "store.node_records", "store.command_records", "store.state_records", "store.history_records",
    "store.schedule_records", "config.props",
    "retry", "handlers", "errors", "child.zygote.kill_decisions", "child.zygote.watch_list",
    "supervisor.core", "supervisor.reports", "supervisor.events", "supervisor.actions", "supervisor.timers",
    "supervisor.balance.balancer", "supervisor.balance.guarded", "supervisor.balance.load_balancing",
    "supervisor.balance.meter",
    "supervisor.balance.rebalancer", "supervisor.balance.views", "supervisor.coordinator.interface",
    "supervisor.coordinator.transactions", "supervisor.zygote.output",
    "client.tasks.go_notices", "client.tasks.submit", "client.tasks.unowned",
    "client.snapshot.assignments", "client.snapshot.snapshot", "client.snapshot.why_pending",
    "client.snapshot.why_not_running", "client.logs.log_lines",
)  # fmt: skip
#: no clock, no process and no file of their own, but for the reason given
NOT_PURE = {"cluster.clocks": "compares this machine's clock with the others'"}
#: in these a name of an impure module is allowed, and why
ALLOWED = {
    ("model.outcome", "signal"): "the name of a signal number, when it is needed",
    ("config.settings", "socket"): "the default name of a node",
}
#: the rooms from the ground up: a room imports from itself and from below. A module that is in no folder is a room
ROOMS = (
    "_version", "errors", "model", "profiles", "retry", "handlers", "shadowed_modules", "linux", "run_logs", "ipc",
    "store", "config", "store/etcd", "embedded", "cluster", "cluster/plans", "cluster/assignment",
    "child/schema", "child/run", "child/zygote", "child/pool",
    "koalemos", "metric_forms", "child",
    "supervisor/coordinator", "supervisor/zygote", "supervisor/output",
    "supervisor/tasks", "pool", "supervisor/node", "supervisor/balance",
    "supervisor",
    "client/info", "client/filters", "client/loop", "client/snapshot", "client/tasks", "client/schedules",
    "client/questions", "client/reading", "client/mirror", "client/logs", "client/calls", "client/groups", "client",
    "web", "testing/conformance", "testing", "demo", "doctor", "monitoring", "cli", "",
)  # fmt: skip
#: modules that those below them in their own floor speak in: what happens to a node, and what it does
VOCABULARY = frozenset({"supervisor.events", "supervisor.actions", "supervisor.timers", "supervisor.reports"})
#: arrows that still go up. None may be added
DEBTS: frozenset[tuple[str, str]] = frozenset()


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


def room(module: str) -> str:
    folder = modules()[module].parent.relative_to(ROOT).as_posix()
    return module if folder == "." and module else "" if folder == "." else folder


@cache
def pure() -> tuple[str, ...]:
    found = {name for name in modules() if room(name) in PURE_ROOMS} | set(PURE_MODULES)
    return tuple(sorted(found - set(NOT_PURE)))


def targets(module: str) -> set[str]:
    """The modules of the package that a module imports."""
    names = {one.name.removeprefix("mpfora.") for one in imports(module) if one.root == "mpfora"}
    found = {name for name in names if name in modules() and name != module}
    return {name for name in found if not any(other.startswith(f"{name}.") for other in found)}


def under(package: str) -> list[str]:
    return [name for name in modules() if name == package or name.startswith(package + ".")]


def test_the_reader_sees_the_package() -> None:
    assert {"model", "supervisor.core", "child.zygote", "supervisor", "child"} <= set(modules())
    assert set(PURE_MODULES) | set(NOT_PURE) <= set(modules())
    assert {"asyncio", "mpfora.supervisor.core"} <= {one.name for one in imports("supervisor.loop")}


@pytest.mark.parametrize("module", pure())
def test_pure_modules_import_no_io(module: str) -> None:
    found = {one.root for one in imports(module)} & IMPURE
    assert {root for root in found if (module, root) not in ALLOWED} == set()


@pytest.mark.parametrize("module", pure())
def test_pure_modules_import_only_pure_ones_of_the_package(module: str) -> None:
    folders = {name for name in modules() if modules()[name].name == "__init__.py"}
    assert targets(module) - set(pure()) - folders - {"config.settings", "store.kv", "config.handler_spec"} == set()


@pytest.mark.parametrize("module", sorted(modules()))
def test_arrows_go_down(module: str) -> None:
    for target in targets(module) - VOCABULARY:
        if room(target) and (module, target) not in DEBTS and module not in VOCABULARY:
            assert ROOMS.index(room(target)) <= ROOMS.index(room(module)), f"{module} imports {target}, which is above"


def test_no_debt_is_kept_that_is_paid() -> None:
    assert {(module, target) for module, target in DEBTS if target not in targets(module)} == set()


@pytest.mark.parametrize("module", pure())
def test_pure_modules_call_no_clock_and_no_chance_of_their_own(module: str) -> None:
    """datetime.now and the functions of the module `random` are hidden clocks and dice; random.Random(...) is passed
    in. A Message.sleep(timedelta) of a handler's is the one exception."""
    tree = ast.parse(modules()[module].read_text())
    calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    forbidden = {call for call in calls if call.endswith((".now", ".today", ".utcnow"))}
    forbidden |= {call for call in calls if call.startswith("random.") and call != "random.Random"}
    assert forbidden - ({"datetime.now"} if module == "model.state" else set()) == set()


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
        assert module.startswith("store.etcd.")


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


@pytest.mark.parametrize(
    "module", ["mpfora.child.zygote.start", "mpfora.child.run.process", "mpfora.child.run.call_handler"]
)
def test_a_fresh_zygote_has_loaded_the_standard_library_and_two_packages(module: str) -> None:
    names = loaded(f"import {module}")
    assert module in names
    ours = {name for name in names if name.partition(".")[0] == "mpfora"}
    assert not [name for name in ours if name.startswith(("mpfora.supervisor", "mpfora.store.etcd", "mpfora.cli"))]
    others = {name.partition(".")[0] for name in names - ours}
    third_party = others - sys.stdlib_module_names - {"mpfora"}
    assert third_party <= {"psutil", "setproctitle", "_psutil_linux", "_psutil_posix"}
    assert not others & {"asyncio", "concurrent", "multiprocessing", "ssl", "grpc", "etcd3"}


@pytest.mark.parametrize("module", sorted(under("client") + under("cli") + under("web") + under("doctor")))
def test_what_people_use_from_outside_imports_nothing_of_the_supervisor_s(module: str) -> None:
    for one in imports(module):
        assert not one.name.startswith("mpfora.supervisor") or one.is_typing, module


def test_a_command_that_shows_one_task_imports_what_it_needs() -> None:
    """Half of its time is imports: what nodes know of each other, tables for terminals and the embedded etcd are not
    among them."""
    names = loaded("import mpfora.cli, mpfora.cli.tasks")
    ours = {name.removeprefix("mpfora.") for name in names if name.startswith("mpfora.")}
    assert len(ours) <= 111
    assert not names & {"rich", "email", "http", "importlib.metadata"}
    forbidden = (
        "cluster.assignment.assignments",
        "cluster.changes",
        "cluster.mirror",
        "cluster.plans.fair_plan",
        "supervisor",
        "web",
    )
    assert not {name for name in ours if name.startswith(forbidden)}
    assert not ours & {
        "client.mirror.cluster_mirror",
        "client.sync_mirror",
        "embedded.keeper_client",
        "model.schedule",
        "client.logs.logs",
    }
