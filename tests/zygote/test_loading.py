"""Handlers are imported once, and what cannot work is refused there, with a text that says why."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from places import ROOT

from mpfora.child.run.loaded_handler import Form, LoadedHandler
from mpfora.child.zygote.load_handlers import LoadError, load_handlers
from mpfora.config.handler_spec import HandlerSpec, parse_spec


@pytest.fixture(autouse=True)
def _fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test starts in a folder of its own, with modules and sys.path as they were."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = dict(sys.modules)
    # left by a test that imported a script as the zygote does: a script is imported once per process
    sys.modules.pop("__mp_main__", None)
    # another test's module of the name that the modules here have
    sys.modules.pop("jobs", None)
    yield
    sys.modules.clear()
    sys.modules.update(before)


def write(name: str, text: str) -> None:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def load(spec: str, source: str) -> LoadedHandler:
    """Load `spec` with `source` as the module jobs."""
    write("jobs.py", "from mpfora import Handler\nimport mpfora\n" + source)
    return next(iter(load_handlers([parse_spec(spec)]).values()))


def refusal(spec: str, source: str = "") -> LoadError:
    with pytest.raises(LoadError) as info:
        load(spec, source)
    assert "\n" not in str(info.value)
    return info.value


def test_a_module_of_the_current_directory() -> None:
    handler = load("jobs:run", "def run(task, ctx): return 1")
    assert handler.name == "jobs:run"
    assert handler.form is Form.FUNCTION
    assert handler.target(None, None) == 1


def test_names_dotted_modules_and_attributes() -> None:
    write("pkg/__init__.py", "")
    write("pkg/train.py", "class Jobs:\n    class Inner:\n        @staticmethod\n        def run(task, ctx): return 2")
    found = load_handlers([parse_spec("train=pkg.train:Jobs.Inner.run")])
    assert found["train"].target(None, None) == 2


def test_several_are_loaded_and_a_shared_module_is_imported_once() -> None:
    write("jobs.py", "print('imported')\ndef a(task, ctx): pass\ndef b(task, ctx): pass")
    found = load_handlers([parse_spec("jobs:a"), parse_spec("second=jobs:b")])
    assert list(found) == ["jobs:a", "second"]
    assert found["jobs:a"].target.__globals__ is found["second"].target.__globals__


@pytest.mark.parametrize(
    ("source", "form"),
    [
        ("def run(task, ctx): pass", Form.FUNCTION),
        ("def run(*args): pass", Form.FUNCTION),
        ("def run(task, ctx, extra=1): pass", Form.FUNCTION),
        ("async def run(task, ctx): pass", Form.FUNCTION),
        ("import functools\nrun = functools.partial(lambda a, task, ctx: a, 1)", Form.FUNCTION),
        ("class C:\n    def __call__(self, task, ctx): pass\nrun = C()", Form.FUNCTION),
        ("class run(Handler):\n    def run(self): pass\n    def stop(self): pass", Form.CLASS),
        (
            "class run(Handler):\n def __init__(self, task, ctx): pass\n def run(self): pass\n def stop(self): pass",
            Form.CLASS_CTX,
        ),
    ],
)
def test_forms(source: str, form: Form) -> None:
    assert load("jobs:run", source).form is form


def test_settings_of_a_decorated_handler() -> None:
    handler = load("jobs:run", "@mpfora.handler(stop_timeout='5s', memory_limit='2GiB')\ndef run(task, ctx): pass")
    assert handler.settings.stop_timeout_s == 5
    assert handler.settings.memory_limit == 2 << 30


def test_settings_are_seen_through_a_partial() -> None:
    source = (
        "import functools\n@mpfora.handler(stop_timeout=5)\ndef f(a, task, ctx): pass\nrun = functools.partial(f, 1)"
    )
    assert load("jobs:run", source).settings.stop_timeout_s == 5


def test_without_settings() -> None:
    assert load("jobs:run", "def run(task, ctx): pass").settings.stop_timeout_s is None


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("def rum(task, ctx): pass", ["jobs has no attribute 'run'", "'rum' meant"]),
        ("run = 5", ["of type int", "mpfora.Handler"]),
        ("class run: pass", ["not a subclass of mpfora.Handler"]),
        ("class run(Handler):\n    def run(self): pass", ["is abstract", "stop()"]),
        (
            "class run(Handler):\n    async def run(self): pass\n    def stop(self): pass",
            ["run() must be a plain method"],
        ),
        (
            "class run(Handler):\n    def __init__(self): pass\n    def run(self): pass\n    def stop(self): pass",
            ["(task) or (task, ctx)", "declared as ()"],
        ),
        ("def run(task): pass", ["must accept (task, ctx)", "declared as (task)"]),
        ("def run(task, ctx, more): pass", ["must accept (task, ctx)"]),
        ("def run(task, ctx, *, more): pass", ["must accept (task, ctx)"]),
        ("def run(task, ctx): yield 1", ["generator"]),
        ("async def run(task, ctx): yield 1", ["generator"]),
    ],
)
def test_what_cannot_be_a_handler(source: str, words: list[str]) -> None:
    error = refusal("jobs:run", source)
    assert error.spec == "jobs:run"
    for word in [*words, "handler jobs:run: "]:
        assert word in str(error)
    assert error.traceback.endswith(str(error))


def test_the_spec_is_named_as_it_was_typed() -> None:
    assert refusal("mine=jobs:run").spec == "mine=jobs:run"


def test_no_such_module() -> None:
    error = refusal("nowhere:run")
    assert "there is no module 'nowhere'" in str(error)
    assert str(Path.cwd()) in str(error)
    assert refusal("nowhere.at.all:run").args[0].count("no module 'nowhere'") == 1


def test_a_module_that_lacks_a_module_of_its_own() -> None:
    error = refusal("jobs:run", "import not_installed")
    assert "its import fails: ModuleNotFoundError: No module named 'not_installed'" in str(error)
    assert 'jobs.py", line 3' in error.traceback
    assert "importlib" not in error.traceback


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import sys; sys.exit(3)", "calls sys.exit(3)"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("raise GeneratorExit", "GeneratorExit"),
        ("class E(BaseException): pass\nraise E('why')", "jobs.E: why"),
        ("def f(:", "SyntaxError"),
        ("raise ValueError('x' * 10**7)", "ValueError: xxx"),
        ("@mpfora.handler(stop_timeout='soon')\ndef run(task, ctx): pass", "stop_timeout: 'soon' is not a duration"),
    ],
)
def test_whatever_an_import_raises(source: str, words: str) -> None:
    error = refusal("jobs:run", source)
    assert words in str(error)
    assert len(str(error)) < 2000
    assert len(error.traceback) < 20_000


def test_an_attribute_that_raises_is_looked_up_plainly() -> None:
    assert "no attribute" in str(refusal("jobs:a.b", "def a(task, ctx): pass"))


def test_open_files_of_imports_are_known() -> None:
    handler = load("jobs:run", "kept = open(__file__)\ndef run(task, ctx): pass")
    fd = handler.target.__globals__["kept"].fileno()
    (file,) = [file for file in handler.open_files if file.fd == fd]
    assert file.still_open()
    handler.target.__globals__["kept"].close()
    assert not file.still_open()


# -- the running script -----------------------------------------------------------------------------------------------

SCRIPT = """
import sys
if __name__ == "__main__":
    raise SystemExit("the guard does not hold")
class Value: pass
count = 0
def run(task, ctx):
    global count
    count += 1
    return sys.modules["__main__"].count
"""


def test_a_handler_of_a_script() -> None:
    write("scripts/job", SCRIPT)
    write("scripts/beside.py", "")
    path = str(Path("scripts/job").resolve())
    handler = load_handlers([HandlerSpec("run", "__main__", "run", main_path=path)])["run"]
    assert handler.target.__module__ == "__mp_main__"
    assert handler.target(None, None) == 1, "the function and its module have one set of globals"
    assert sys.modules["__main__"] is sys.modules["__mp_main__"]
    import beside  # type: ignore[import-not-found]  # noqa: F401

    value = sys.modules["__main__"].Value
    assert pickle.loads(pickle.dumps(value())).__class__ is value
    assert pickle.loads(b"c__main__\nValue\n.") is value


def test_a_handler_of_a_module_run_with_m() -> None:
    write("pkg/__init__.py", "")
    write("pkg/near.py", "x = 4")
    write("pkg/job.py", "from . import near\n" + SCRIPT)
    spec = HandlerSpec("run", "__main__", "run", main_module="pkg.job")
    assert load_handlers([spec])["run"].target(None, None) == 1


def test_two_handlers_of_one_script_are_of_one_module() -> None:
    write("job.py", SCRIPT + "def more(task, ctx): return count")
    path = str(Path("job.py").resolve())
    found = load_handlers([HandlerSpec(n, "__main__", n, main_path=path) for n in ("run", "more")])
    found["run"].target(None, None)
    assert found["more"].target(None, None) == 1


def test_a_script_that_fails_leaves_no_half_module() -> None:
    write("job.py", "raise ValueError('no')")
    main = sys.modules["__main__"]
    with pytest.raises(LoadError, match="no"):
        load_handlers([HandlerSpec("run", "__main__", "run", main_path=str(Path("job.py").resolve()))])
    assert sys.modules["__main__"] is main
    assert "__mp_main__" not in sys.modules


def test_a_script_that_is_gone() -> None:
    with pytest.raises(LoadError, match="No such file"):
        load_handlers([HandlerSpec("run", "__main__", "run", main_path="/nowhere/job.py")])


def test_a_folder_that_was_run_is_found_by_its_path() -> None:
    write(
        "app/__main__.py",
        "from mpfora.config.handler_spec import *\ndef run(task, ctx): pass\nprint(spec_of(run).main_path)",
    )
    done = subprocess.run(
        [sys.executable, "app"], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert done.stdout.strip() == str(Path("app/__main__.py").resolve()), done.stderr


def test_a_main_module_without_a_name_of_its_own_is_refused() -> None:
    with pytest.raises(LoadError, match="put the handler into a module"):
        load_handlers([HandlerSpec("run", "__main__", "run", main_module="__main__")])


def test_a_handler_of_a_script_may_start_processes_of_multiprocessing() -> None:
    write(
        "job.py",
        "import multiprocessing\n"
        "def work(q): q.put('worked')\n"
        "def run(task, ctx):\n"
        "    mp = multiprocessing.get_context('spawn')\n"
        "    q = mp.SimpleQueue()\n"
        "    p = mp.Process(target=work, args=(q,))\n"
        "    p.start(); p.join(30)\n"
        "    return p.exitcode or q.get()\n",
    )
    spec = HandlerSpec("run", "__main__", "run", main_path=str(Path("job.py").resolve()))
    assert load_handlers([spec])["run"].target(None, None) == "worked"


def test_every_animal_of_the_zoo_loads_and_says_what_it_does() -> None:
    import zoo

    names = [n for n, v in vars(zoo).items() if getattr(v, "__module__", "") == "zoo" and not n.startswith("_")]
    names.remove("Unspeakable")
    assert len(names) >= 28
    found = load_handlers([HandlerSpec(name, "zoo", name) for name in names])
    for name, handler in found.items():
        assert handler.target.__doc__, name
    assert found["stalls_by_declaration"].settings.stall_timeout_s == 0.5


def test_loading_imports_neither_asyncio_nor_grpc_nor_supervisor() -> None:
    code = (
        "import sys, mpfora.child.run.process, mpfora.child.zygote.load_handlers, mpfora.child.run.context\n"
        "bad = {'asyncio', 'grpc', 'etcd3', 'mpfora.supervisor', 'multiprocessing'} & set(sys.modules)\n"
        "sys.exit(str(bad) if bad else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
