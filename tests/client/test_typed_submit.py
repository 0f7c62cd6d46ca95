"""Tasks of handlers that declare their props: wrong ones are refused by checkers of types, and by the call before
anything is written."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from etcd_server import EtcdServer
from places import ROOT, SUPPORT

import mpfora
from mpfora import AsyncClient, Client
from mpfora.child.schema import compile_schema
from mpfora.child.schema.submission import checked_props
from mpfora.client.tasks.declared import declaration_of, props_of
from mpfora.errors import BadValue, InvalidTask

PROJECT = SUPPORT / "typed_project"
sys.path.insert(0, str(PROJECT))

import jobs  # noqa: E402  (a project of its own)
from jobs import Job, Kind, Layer, Page  # noqa: E402


def refused_lines() -> set[int]:
    lines = (PROJECT / "wrong.py").read_text().splitlines()
    return {number for number, line in enumerate(lines, 1) if line.endswith("# refused")}


def lines_told(command: list[str], name: str) -> tuple[set[int], str]:
    """The lines of a file with errors, and all that was said. Errors elsewhere count as line 0."""
    env = os.environ | {"MYPYPATH": str(ROOT), "PYTHONPATH": str(ROOT)}
    said = subprocess.run(command, cwd=PROJECT, env=env, capture_output=True, text=True, timeout=300)
    text = said.stdout + said.stderr
    found = re.findall(r"([\w./]+\.py):(\d+)(?::\d+)?(?: -|:) error", text)
    return {int(line) if path.endswith(name) else 0 for path, line in found}, text


def test_mypy_refuses_what_is_wrong_and_nothing_else(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path), "jobs.py", "wrong.py"]
    lines, said = lines_told(command, "wrong.py")
    assert lines == refused_lines(), said


def test_pyright_refuses_what_is_wrong_and_nothing_else() -> None:
    pyright = shutil.which("pyright", path=str(Path(sys.executable).parent))
    if pyright is None:
        pytest.skip("pyright is not installed here: pip install 'pyright[nodejs]'")
    command = [pyright, "--pythonpath", sys.executable, "jobs.py", "wrong.py"]
    lines, said = lines_told(command, "wrong.py")
    if "error" not in said:
        pytest.skip(f"pyright cannot be run here: {said[:300]}")
    assert lines == refused_lines(), said


FULL = Job(
    17, [Layer(3, Kind.CONV)], 0.5, datetime(2026, 11, 24, 10, tzinfo=UTC), timedelta(seconds=90), Path("/data"),
    frozenset({"b", "a"}), (3, 4),
)  # fmt: skip


@pytest.mark.parametrize("job", [Job(1), FULL])
def test_what_is_submitted_builds_the_same_in_the_task(job: Job) -> None:
    props = checked_props(Job, job)
    assert compile_schema(Job).build(props) == job
    assert props_of(declaration_of(jobs.train), job) == props
    assert compile_schema(Job).build(props | {"handler": "jobs:train", "group": "g1"}) == job


def test_models_of_pydantic_are_submitted_by_their_names() -> None:
    pydantic = pytest.importorskip("pydantic")

    class Model(pydantic.BaseModel):  # type: ignore[misc, name-defined]
        number: int = pydantic.Field(alias="n")
        at: datetime

    model = Model(n=3, at=datetime(2026, 11, 24, tzinfo=UTC))
    props = checked_props(Model, model)
    assert props == {"n": 3, "at": "2026-11-24T00:00:00Z"}
    assert compile_schema(Model).build(props) == model


@pytest.mark.parametrize(
    ("spec", "props", "why"),
    [
        (Job, Job("17"), r"props.customer: a whole number is needed, not \"17\""),  # type: ignore[arg-type]
        (Job, Job(1, [Layer(2, "wide")]), r"props.layers\[0\].kind: .*\"wide\""),  # type: ignore[arg-type]
        (Job, {"customer": 1, "rat": 2}, "props.rat: there is no such field; is 'rate' meant?"),
        (Job, {"customer": 1, 2: 3}, "the names of a JSON object are texts"),
        (Job, Layer(1), "props: Job is needed, not"),
        (Job, None, "props: Job is needed, not None"),
        (Job, Job(1, since=datetime(2026, 11, 24)), "a time needs a zone"),
        (Job, Job(1, rate=float("nan")), "props"),
        (Job, Job(1, tags=frozenset({object()})), "is not JSON"),  # type: ignore[arg-type]
        (Page, {"link": "x"}, "props.url: "),
    ],
)
def test_what_does_not_fit_is_named(spec: Any, props: Any, why: str) -> None:
    with pytest.raises(InvalidTask, match=why):
        checked_props(spec, props)


async def test_nothing_is_written_of_what_does_not_fit(etcd: EtcdServer, namespace: str) -> None:
    async with AsyncClient(etcd.endpoint, namespace) as client:
        with pytest.raises(InvalidTask, match=r"props.customer"):
            await jobs.train.submit(client, "t1", Job("17"))  # type: ignore[arg-type]
        with pytest.raises(InvalidTask, match=r"props.customer"):
            await client.map(jobs.train, [Job("x"), Job(1)], group="g1")  # type: ignore[arg-type]
        assert await client.tasks() == []
        with pytest.raises(BadValue, match=r"a handler that declares its props .*not <function plain"):
            await client.map(jobs.plain, [{"n": 1}], group="g1")  # type: ignore[call-overload]
        await jobs.train.submit(client, "t1", Job(17), group="g1")
        assert (await client.details("t1")).props == checked_props(Job, Job(17)) | {
            "handler": "jobs:train", "group": "g1",
        }  # fmt: skip
        group = await client.map(jobs.train, (Job(n) for n in range(3)), group="g2", ids="u{n}")
        assert len(group) == 3
        assert ((await client.details("u2")).props or {})["customer"] == 2


def test_the_same_without_an_event_loop(etcd: EtcdServer, namespace: str) -> None:
    with Client(etcd.endpoint, namespace) as client:
        jobs.fetch.submit(client, "t1", {"url": "x"}, handler="fetch")
        jobs.Trainer.submit(client, "t2", Job(3))  # type: ignore[attr-defined]
        assert [task.handler for task in client.tasks()] == ["fetch", "jobs:Trainer"]
        assert len(client.map(jobs.fetch, [{"url": "x"}], group="g1")) == 1


def test_a_handler_is_called_as_before() -> None:
    task = mpfora.Task("t1", {}, "train", config=Job(5))
    assert jobs.train(task, None) == 5  # type: ignore[arg-type]
    assert dataclasses.replace(task, id="t2").config == Job(5)

    class Own(mpfora.Handler):
        def submit(self) -> str:
            return "mine"

        def run(self) -> bool:
            return True

        def stop(self) -> None:
            pass

    assert mpfora.handler(props=Job)(Own)(task).submit() == "mine"

    @mpfora.handler(props=Page)
    class Further(jobs.Trainer):
        pass

    assert (declaration_of(Further).target, declaration_of(jobs.Trainer).target) == (Further, jobs.Trainer)
