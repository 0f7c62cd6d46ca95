"""Every example does what it says, as a reader starts it: its handler on a real node, its program beside it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from places import ROOT

from mpfora.embedded import acquire

pytestmark = pytest.mark.keeps_processes("one etcd and two nodes serve all examples")

EXAMPLES = ROOT / "examples"
HANDLERS = ("primes:count", "mandelbrot:tile", "simulation:planets", "training:Training", "probes:look",
            "run=mpfora.koalemos:run", "fencing_sqlite:count")  # fmt: skip
WITHIN_S = 60


def start(arguments: list[str], environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    with open(log, "wb") as file:
        return subprocess.Popen(arguments, cwd=EXAMPLES, env=environment, stdout=file, stderr=file)


def gone(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """An embedded etcd and nodes: one with the handlers of most examples, and those that examples start themselves."""
    folder = tmp_path_factory.mktemp("examples")
    values = {key: value for key, value in os.environ.items() if not key.startswith("MPFORA_")}
    values |= {"MPFORA_DATA_DIR": str(folder / "etcd"), "PYTHONPATH": str(ROOT)}
    with acquire(folder / "etcd", linger_s=0.1, fsync=False) as etcd:
        server = psutil.Process(etcd.etcd_pid)
        node = [sys.executable, "-m", "mpfora.supervisor", "--name", "examples", "--max-tasks", "8", *HANDLERS]
        own = [[sys.executable, f"{name}.py", "node"] for name in ("textstats", "fencing_etcd")]
        nodes = [start(argv, values, folder / f"{number}.log") for number, argv in enumerate([node, *own])]
        try:
            yield values
        finally:
            for process in nodes:
                process.terminate()
            codes = [process.wait(20) for process in nodes]
    assert codes == [0, 0, 0], [log.read_text() for log in folder.glob("*.log")]
    ends = time.monotonic() + 10
    while not gone(server):
        assert time.monotonic() < ends, "etcd goes on after the last of its users"
        time.sleep(0.05)


def run(environment: dict[str, str], *arguments: str) -> str:
    """What the program prints."""
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=EXAMPLES, env=environment, capture_output=True, text=True, timeout=WITHIN_S)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_primes(environment: dict[str, str]) -> None:
    assert "1229 primes below 10000" in run(environment, "primes.py", "10000")


def test_mandelbrot(environment: dict[str, str], tmp_path: Path) -> None:
    picture = tmp_path / "picture.pgm"
    said = run(environment, "mandelbrot.py", "48", str(picture))
    assert "computed on examples" in said
    head, size, pixels = picture.read_bytes().partition(b"48 48 255\n")
    assert head == b"P5 "
    assert size
    assert len(pixels) == 48 * 48
    assert pixels[0] >= 254  # the corner escapes at once
    assert 0 in pixels  # the inside is black


def test_textstats(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "deep" / "deeper").mkdir(parents=True)
    (tmp_path / "a.txt").write_text("one two\nthree\n")
    (tmp_path / "b.bin").write_text("not counted\n")
    (tmp_path / "deep" / "deeper" / "c.md").write_text("four\n")
    said = run(environment, "textstats.py", "count", str(tmp_path))
    assert f"{tmp_path}: 1 texts, 2 lines, 3 words" in said
    assert f"{tmp_path / 'deep'}: 1 texts, 1 lines, 1 words" in said


def test_textstats_tells_what_cannot_be_read(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "loop.txt").symlink_to("/proc/self/mem")
    said = run(environment, "textstats.py", "count", str(tmp_path))
    assert re.search(r"broken: failed: OSError: ", said), said
    assert f"{tmp_path}: 0 texts" in said


def test_simulation(environment: dict[str, str]) -> None:
    said = run(environment, "simulation.py", "3")
    distances = {line.split()[0]: float(line.split()[1]) for line in said.splitlines() if "AU" in line}
    assert distances.keys() == {"venus", "earth", "mars", "jupiter"}
    assert distances["earth"] == pytest.approx(1.0, abs=0.02)
    assert distances["jupiter"] == pytest.approx(5.203, abs=0.05)


def test_training(environment: dict[str, str]) -> None:
    said = run(environment, "training.py", "2").splitlines()
    assert len(said) == 2
    for line in said:
        found = re.search(r"completed, y = ([\d.]+) x \+ (-[\d.]+)", line)
        assert found, line
        assert float(found[1]) == pytest.approx(3, abs=0.1)
        assert float(found[2]) == pytest.approx(-1, abs=0.1)


def test_probes(environment: dict[str, str]) -> None:
    said = run(environment, "probes.py", "2")
    assert "localhost:1: reached in 0 of 2 rounds" in said
    assert re.search(r"unix:\S+: reached in 2 of 2 rounds", said), said


def test_fencing_sqlite(environment: dict[str, str], tmp_path: Path) -> None:
    assert "303 primes below 2000" in run(environment, "fencing_sqlite.py", str(tmp_path / "primes.db"), "2000")


def test_fencing_etcd(environment: dict[str, str]) -> None:
    assert re.search("303 primes below 2000, at /counts/fenced-", run(environment, "fencing_etcd.py", "count", "2000"))


def test_koalemos(environment: dict[str, str], tmp_path: Path) -> None:
    submit = "koalemos/submit.py"
    said = run(
        environment, submit, "--wait", "--env", "WHO=me", "--", "sh", "-c", "echo hello $WHO in task $MPFORA_TASK"
    )
    name = re.match(r"submitted (sh-\w+)\n", said)
    assert name, said
    assert f"{name[1]}: completed on examples in" in said
    assert said.endswith(f"hello me in task {name[1]}\n")
    (tmp_path / "lines").write_text("one\n\ntwo words\n")
    said = run(environment, submit, "--wait", "--id", "each", "--each", f"{tmp_path}/lines", "--", "echo", "got:{}!")
    assert "got:one!\n" in said
    assert "got:two words!\n" in said
    assert "submitted each-0002\n" in said


def test_koalemos_tells_what_did_not_complete(environment: dict[str, str]) -> None:
    command = [
        sys.executable,
        "koalemos/submit.py",
        "--id",
        "bad",
        "--retries",
        "1",
        "--wait",
        "--",
        "sh",
        "-c",
        "exit 3",
    ]
    done = subprocess.run(command, cwd=EXAMPLES, env=environment, capture_output=True, text=True, timeout=WITHIN_S)
    assert (done.returncode, done.stderr) == (1, "")
    assert "bad: failed: mpfora.koalemos.ExitError: sh: exit code 3" in done.stdout
    again = subprocess.run(command, cwd=EXAMPLES, env=environment, capture_output=True, text=True, timeout=WITHIN_S)
    assert again.returncode == 1
    assert "submit.py: task 'bad': the state of a finished task of this id exists already; replace it" in again.stderr


def test_koalemos_says_what_nobody_runs_while_it_waits(environment: dict[str, str]) -> None:
    command = [sys.executable, "koalemos/submit.py", "--id", "odd", "--label", "gpu=yes", "--wait", "--", "true"]
    waiting = subprocess.Popen(command, cwd=EXAMPLES, env=environment, stderr=subprocess.PIPE, text=True)
    assert waiting.stderr is not None
    with waiting.stderr:
        said = waiting.stderr.readline()
    waiting.kill()
    waiting.wait()
    assert said.startswith("waiting for odd: pending: no live node with its handler has its labels gpu=yes"), said


def test_koalemos_refuses_what_cannot_be_meant(environment: dict[str, str]) -> None:
    command = [sys.executable, "koalemos/submit.py", "--retries", "0", "--", "true"]
    done = subprocess.run(command, cwd=EXAMPLES, env=environment, capture_output=True, text=True, timeout=WITHIN_S)
    assert (done.returncode, done.stdout) == (1, "")
    assert "props.retry.max_errors: 0: a whole number from 1" in done.stderr


def test_every_example_stands_in_the_list() -> None:
    listed = set(re.findall(r"\]\((\w+\.py)\)", (EXAMPLES / "README.md").read_text()))
    assert listed == {path.name for path in EXAMPLES.glob("*.py")}
