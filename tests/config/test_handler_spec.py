"""Handlers as they are typed and as they are given to a Consumer."""

from __future__ import annotations

import subprocess
import sys
from collections import OrderedDict
from os.path import join
from pathlib import Path

import pytest
from places import ROOT

from mpfora.config.handler_spec import HandlerSpec, HandlerSpecError, check_names, parse_spec, spec_of


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("primes:count", HandlerSpec("primes:count", "primes", "count")),
        ("train=jobs.train:run", HandlerSpec("train", "jobs.train", "run")),
        ("a.b:C.d", HandlerSpec("a.b:C.d", "a.b", "C.d")),
        ("  primes:count ", HandlerSpec("primes:count", "primes", "count")),
        ("two words=m:f", HandlerSpec("two words", "m", "f")),
    ],
)
def test_what_is_typed(text: str, spec: HandlerSpec) -> None:
    assert parse_spec(text) == spec
    assert spec_of(text) == spec


@pytest.mark.parametrize("text", ["", "primes", ":f", "m:", "=m:f", "m:f:g", "a b:f", "m:1f", "m/x:f"])
def test_what_cannot_be_meant(text: str) -> None:
    with pytest.raises(HandlerSpecError, match=r"write module:attribute or name=module:attribute"):
        parse_spec(text)


def test_a_function_or_class_of_a_module_is_named_by_it() -> None:
    assert spec_of(join) == HandlerSpec("posixpath:join", "posixpath", "join")
    assert spec_of(OrderedDict) == HandlerSpec("collections:OrderedDict", "collections", "OrderedDict")


def test_what_a_fresh_interpreter_cannot_import_is_refused() -> None:
    def local() -> None: ...

    for handler in (lambda: None, local):
        with pytest.raises(HandlerSpecError, match="top level of a module"):
            spec_of(handler)


SCRIPT = """
from mpfora.config.handler_spec import spec_of
def work(task, ctx): ...
spec = spec_of(work)
print(spec.name, spec.module, spec.attribute, spec.main_path, spec.main_module, sep="|")
"""


def run(folder: Path, *arguments: str) -> list[str]:
    root = str(ROOT)
    env = {"PYTHONPATH": root, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, *arguments], cwd=folder, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().split("|")


def test_a_handler_of_the_running_script_is_known_by_its_path_or_by_its_module(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    assert run(tmp_path, "script.py") == ["work", "__main__", "work", str(tmp_path / "script.py"), "None"]
    assert run(tmp_path, "-m", "script") == ["work", "__main__", "work", "None", "script"]


def test_a_handler_typed_into_a_shell_is_refused(tmp_path: Path) -> None:
    caught = "try:\n spec_of(work)\nexcept Exception as e: print(e)"
    (told,) = run(tmp_path, "-c", SCRIPT.replace("spec = spec_of(work)", caught).rpartition("print")[0])
    assert told == "handler work: is not in a file; put it into a module"


def test_there_is_one_at_least_and_no_name_twice() -> None:
    check_names([parse_spec("a:f"), parse_spec("b=a:f")])
    with pytest.raises(HandlerSpecError, match="name at least one"):
        check_names([])
    with pytest.raises(HandlerSpecError, match="two handlers are called 'b'"):
        check_names([parse_spec("b=a:f"), parse_spec("b=c:f")])
