"""Whole programs that use a Pool: scripts, their ends, and what they leave behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from mpfora.linux.procfs import read_stat

pytest.importorskip("cloudpickle")

LIMIT_S = 90


def run(tmp_path: Path, source: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a script that holds `source`."""
    script = tmp_path / "program.py"
    script.write_text(textwrap.dedent(source))
    return _run([sys.executable, str(script), *arguments], tmp_path)


def _run(command: list[str], folder: Path, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # type: ignore[call-overload, no-any-return]
        command, capture_output=True, text=True, timeout=LIMIT_S, cwd=folder, env=_environment(), check=False, **options
    )


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def start(tmp_path: Path, source: str) -> subprocess.Popen[str]:
    script = tmp_path / "program.py"
    script.write_text(textwrap.dedent(source))
    return subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=_environment()
    )


def wait_until_gone(pids: list[int]) -> None:
    end = time.monotonic() + 30
    while any((stat := read_stat(pid)) is not None and not stat.is_zombie for pid in pids):
        assert time.monotonic() < end, "processes are left"
        time.sleep(0.01)


def test_functions_and_classes_of_a_script(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        """
        import sys
        import mpfora

        class Job:
            def __init__(self, n):
                self.n = n
            def double(self):
                return Job(2 * self.n)

        def argv():
            return sys.argv[1:]

        if __name__ == "__main__":
            with mpfora.Pool(2) as pool:
                print([job.n for job in pool.map(Job.double, [Job(1), Job(2)])])
                print(pool.submit(argv).result(), type(pool.submit(Job(3).double).result()) is Job)
        """,
        "an argument",
    )
    assert (done.stdout, done.stderr) == ("[2, 4]\n['an argument'] True\n", "")


def test_a_module_that_is_run_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "__init__.py").write_text("")
    (tmp_path / "jobs" / "main.py").write_text(
        "import mpfora\ndef f(x):\n    return x + 1\n"
        "if __name__ == '__main__':\n    with mpfora.Pool(1) as pool:\n        print(pool.submit(f, 1).result())\n"
    )
    done = _run([sys.executable, "-m", "jobs.main"], tmp_path)
    assert (done.stdout, done.stderr) == ("2\n", "")


def test_a_script_without_a_guard_is_told_so(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        """
        import mpfora

        def f():
            return 1

        pool = mpfora.Pool(1)
        print(pool.submit(f).result())
        """,
    )
    assert "put what the program does under `if __name__ == '__main__':`" in done.stderr
    assert done.returncode == 1


def test_functions_that_are_typed_in_go_by_cloudpickle(tmp_path: Path) -> None:
    source = "import mpfora\ndef f(x):\n    return x + 1\npool = mpfora.Pool(1)\nprint(pool.submit(f, 1).result())\n"
    done = _run([sys.executable, "-"], tmp_path, input=source)
    assert (done.stdout, done.stderr) == ("2\n", "")


def test_a_module_that_cannot_be_preloaded_is_an_error_of_every_call(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("1 / 0\n")
    done = run(
        tmp_path,
        """
        import mpfora
        if __name__ == "__main__":
            with mpfora.Pool(1, preload=["broken"]) as pool:
                for _ in range(2):
                    print(repr(pool.submit(len, "").exception()))
        """,
    )
    assert done.stdout.count("PreloadError") == 2
    assert "broken: its import fails: ZeroDivisionError: division by zero" in done.stdout


def test_a_killed_program_leaves_no_process(tmp_path: Path) -> None:
    program = start(
        tmp_path,
        """
        import os, signal, subprocess, time
        import mpfora

        def hang():
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
            print(os.getppid(), os.getpid(), child.pid, flush=True)
            time.sleep(1000)

        if __name__ == "__main__":
            pool = mpfora.Pool(2)
            pool.submit(hang)
            pool.submit(hang).result()
        """,
    )
    assert program.stdout is not None
    pids = [int(pid) for _ in range(2) for pid in program.stdout.readline().split()]
    assert len(pids) == 6
    program.kill()
    program.communicate(timeout=LIMIT_S)
    wait_until_gone(pids)


def test_the_end_of_the_interpreter_waits_for_calls_but_not_for_ever(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        """
        import time
        import mpfora

        def say(seconds, word):
            time.sleep(seconds)
            print(word, flush=True)

        if __name__ == "__main__":
            pool = mpfora.Pool(4, stop_timeout=8)
            pool.submit(say, 0.2, "in time")
            endless = pool.submit(say, 1000, "never")
        """,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("in time\n", "", 0)


def test_ctrl_c_ends_the_calls(tmp_path: Path) -> None:
    program = start(
        tmp_path,
        """
        import os, time
        import mpfora

        def hang():
            print(os.getpid(), flush=True)
            time.sleep(1000)

        if __name__ == "__main__":
            with mpfora.Pool(1) as pool:
                pool.submit(hang).result()
        """,
    )
    assert program.stdout is not None
    pid = int(program.stdout.readline())
    program.send_signal(signal.SIGINT)
    _, errors = program.communicate(timeout=LIMIT_S)
    assert "KeyboardInterrupt" in errors
    wait_until_gone([pid])


def test_importing_the_package_does_not_import_the_pool(tmp_path: Path) -> None:
    done = _run(
        [sys.executable, "-c", "import sys, mpfora; print('asyncio' in sys.modules, 'mpfora.pool' in sys.modules)"],
        tmp_path,
    )
    assert done.stdout == "False False\n"


def test_a_pool_s_zygote_and_children_load_the_standard_library_and_two_packages(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        """
        import mpfora
        if __name__ == "__main__":
            with mpfora.Pool(1) as pool:
                print(sorted(pool.submit(eval, "{n.partition('.')[0] for n in __import__('sys').modules}").result()))
        """,
    )
    found = set(eval(done.stdout)) - sys.stdlib_module_names - {"mpfora"}
    assert found <= {
        "psutil",
        "setproctitle",
        "_psutil_linux",
        "_psutil_posix",
        "__main__",
        "__mp_main__",
        "_virtualenv",
    } | {name for name in found if name.startswith(("_distutils", "__editable__", "_editable", "sitecustomize"))}
    assert "asyncio" not in done.stdout
