"""Programs as tasks, in real children: what becomes of each way in which a program may end, stop, print or linger."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from mpfora import Message, testing
from mpfora.koalemos import MOST_TAIL, Program, run
from mpfora.testing.benches import Benches

pytest_plugins = ["mpfora.testing.plugin"]
pytestmark = pytest.mark.keeps_processes("one zygote serves all runs of a handler")

PYTHON = sys.executable


@pytest.fixture(autouse=True)
def _bench(handler_bench: Benches) -> None:
    """One zygote for all of these."""
    global bench
    bench = handler_bench


bench: Benches


def conduct(*args: str, **options: Any) -> testing.TestRun:
    names = ("steps", "stop_timeout", "stall_timeout", "stall_by", "task_id", "attempt", "timeout", "kept")
    ours = {name: options.pop(name) for name in names if name in options}
    return (bench if ours.pop("kept", True) else testing.run)(run, {"args": list(args), **options}, **ours)


def shell(script: str, **options: Any) -> testing.TestRun:
    return conduct("sh", "-c", script, **options)


def still_runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


# -- how it ends ------------------------------------------------------------------------------------------------------


def test_exit_0_completes_with_the_end_of_the_output() -> None:
    done = shell("echo one; echo two >&2; printf three")
    assert done.cause == "completed"
    assert done.result["exit_code"] == 0
    assert done.result["output"] == "one\ntwo\nthree"
    assert done.result["seconds"] >= 0
    assert done.lines == ("one", "two", "three")


def test_another_code_is_an_error_that_is_told_with_the_output() -> None:
    done = shell("echo reading; echo no such table >&2; exit 3")
    assert done.cause == "raised"
    assert done.error_kind == "mpfora.koalemos.ExitError"
    assert done.error == "mpfora.koalemos.ExitError: sh: exit code 3; its output ends in: reading no such table"


def test_codes_decide() -> None:
    codes = {"ok_codes": [0, 7], "release_codes": [75], "fail_codes": [2]}
    assert shell("exit 7", **codes).result["exit_code"] == 7
    given_back = shell("exit 75", **codes)
    assert (given_back.cause, given_back.message) == ("released", Message.release())
    assert shell("exit 2", **codes).error_kind == "mpfora.koalemos.GivenUp"
    assert shell("exit 3", **codes).error_kind == "mpfora.koalemos.ExitError"
    assert shell("exit 0", ok_codes=[1]).cause == "raised"


def test_a_signal_that_nobody_sent_is_an_error() -> None:
    assert "sh: ended by SIGSEGV; its output" in shell("kill -SEGV $$").error


def test_a_program_or_a_folder_that_is_not_there_is_named() -> None:
    assert conduct("no-such-program").error == (
        "FileNotFoundError: [Errno 2] cannot start 'no-such-program': No such file or directory"
    )
    assert "cannot start cwd '/no/folder': No such file" in shell("true", cwd="/no/folder").error
    assert "cannot start '/etc/passwd': Permission denied" in conduct("/etc/passwd").error


# -- what it finds ----------------------------------------------------------------------------------------------------


def test_arguments_are_handed_on_as_they_are() -> None:
    words = ["a b", "$HOME", "", "'\"", "é\n*"]
    show = "import sys, json; print(json.dumps(sys.argv[1:]))"
    assert conduct(PYTHON, "-c", show, *words).result["output"] == '["a b", "$HOME", "", "\'\\"", "\\u00e9\\n*"]\n'


def test_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KOALEMOS_KEPT", "kept")
    monkeypatch.setenv("KOALEMOS_GONE", "gone")
    script = 'echo "$KOALEMOS_KEPT/$KOALEMOS_GONE/$NEW/$MPFORA_TASK/$MPFORA_ATTEMPT/$MPFORA_FENCE"'
    env = {"KOALEMOS_GONE": None, "NEW": "new"}
    assert shell(script, env=env, task_id="t1", attempt=3, kept=False).result["output"] == "kept//new/t1/3/1\n"
    assert shell(script, env=env, clean_env=True, kept=False).result["output"] == "//new/test/1/1\n"


def test_folder_and_standard_input(tmp_path: Path) -> None:
    assert shell("pwd", cwd=str(tmp_path)).result["output"] == f"{tmp_path}\n"
    assert shell("cat").result["output"] == ""
    assert conduct("cat", stdin="one\nzwei é").result["output"] == "one\nzwei é"
    large = "x" * 300_000
    assert conduct("wc", "-c", stdin=large).result["output"].strip() == "300000"


def test_signals_are_as_a_program_expects_them() -> None:
    found = conduct("cat", "/proc/self/status").result["output"]
    masks = {
        line.split(":")[0]: int(line.split()[1], 16) for line in found.splitlines() if line.startswith(("SigB", "SigI"))
    }
    assert masks["SigBlk"] == 0
    of_the_c_library = 1 << 31 | 1 << 32  # signals 32 and 33, which no program can set
    assert masks["SigIgn"] & ~of_the_c_library == 0


def test_its_last_line_is_the_note() -> None:
    done = shell("echo one; echo at 7; sleep 60", steps=[testing.stop(when=lambda run: run.note == "at 7")])
    assert done.cause == "released"


# -- its output -------------------------------------------------------------------------------------------------------


def test_only_the_end_of_much_output_is_kept() -> None:
    done = shell("yes 0123456 | head -c 400000; echo end", tail_bytes=100)
    assert len(done.result["output"]) == 100
    assert done.result["output"].endswith("0123456\nend\n")
    assert shell("echo x", tail_bytes=0).result["output"] == ""


def test_output_that_is_no_text_and_lines_without_end() -> None:
    done = conduct(PYTHON, "-c", "import sys; sys.stdout.buffer.write(bytes(range(256)) * 200)", tail_bytes=MOST_TAIL)
    assert done.cause == "completed"
    assert len(done.result["output"]) <= MOST_TAIL


def test_a_program_that_closes_its_output_goes_on() -> None:
    assert shell("exec >&- 2>&-; sleep 0.3; exit 0").cause == "completed"


def test_a_program_that_says_nothing_is_watched_by_its_output_or_by_its_cpu() -> None:
    assert shell("sleep 60", stall_timeout=0.3).cause == "stalled"
    busy = "import time; ends = time.monotonic() + 0.9\nwhile time.monotonic() < ends: pass"
    assert conduct(PYTHON, "-c", busy, stall_timeout=0.5, stall_by="cpu").cause == "completed"
    assert shell("for n in 1 2 3 4 5; do echo $n; sleep 0.1; done", stall_timeout=0.45).cause == "completed"


# -- stopping ---------------------------------------------------------------------------------------------------------


def test_it_is_asked_to_stop_and_the_task_does_what_was_asked() -> None:
    script = "trap 'echo stopping; exit 0' TERM; echo ready; while :; do sleep 0.05; done"
    done = shell(script, steps=[testing.stop(Message.pause(), when=testing.printed("ready"))])
    assert (done.cause, done.message) == ("released", Message.pause())
    assert "stopping" in done.lines
    assert any(line.startswith("koalemos: asked to stop (test): SIGTERM") for line in done.lines)


def test_one_that_finishes_what_it_does_may_complete() -> None:
    script = "trap 'echo done' INT; echo ready; sleep 60 & wait; exit 0"
    steps = [testing.stop(when=testing.printed("ready"))]
    options = {"stop_signal": "SIGINT", "completes_when_stopped": True, "stop_timeout": 1.0}
    assert shell(script, steps=steps, **options).cause == "completed"
    assert shell("trap 'exit 1' TERM; echo ready; sleep 60 & wait", steps=steps, **options | {"stop_signal": "SIGTERM"}
                 ).cause == "released"  # fmt: skip


def test_the_group_gets_the_signal(tmp_path: Path) -> None:
    """A shell does not hand SIGTERM on."""
    inner = f"trap 'echo inner stopped > {tmp_path}/said; exit 0' TERM; echo ready; while :; do sleep 0.05; done"
    script = f'sh -c "{inner}"; echo after'
    done = shell(script, steps=[testing.stop(when=testing.printed("ready"))])
    assert done.cause == "released"
    assert (tmp_path / "said").read_text() == "inner stopped\n"


def test_what_a_shell_had_started_has_the_rest_of_the_time(tmp_path: Path) -> None:
    """The shell dies of the signal at once; what it waited for ends in order, or is killed before the time is up."""
    inner = f"trap 'sleep 0.3; echo saved > {tmp_path}/said; exit 0' TERM; echo ready; while :; do sleep 0.05; done"
    shell(f'sh -c "{inner}"; echo after', steps=[testing.stop(when=testing.printed("ready"))])
    assert (tmp_path / "said").read_text() == "saved\n"
    deaf = "trap '' TERM; echo ready $$; while :; do sleep 0.05; done"
    done = shell(f'sh -c "{deaf}"; echo after', steps=[testing.stop(when=testing.printed("ready"))], stop_timeout=1.0)
    assert done.cause == "released"


def test_one_that_does_not_obey_is_killed_in_time_for_the_transition() -> None:
    script = "trap '' TERM; echo ready $$; while :; do sleep 0.05; done"
    done = shell(script, steps=[testing.stop(Message.pause(), when=testing.printed("ready"))], stop_timeout=1.0)
    assert (done.cause, done.message) == ("released", Message.pause())
    assert not still_runs(int(done.lines[0].split()[1]))
    assert any("ended by SIGKILL when it was asked to stop" in line for line in done.lines)


def test_one_that_was_stopped_by_sigstop_can_still_be_ended() -> None:
    script = "trap 'echo obeyed; exit 0' TERM; echo ready; kill -STOP $$; while :; do sleep 0.05; done"
    done = shell(script, steps=[testing.stop(when=testing.printed("ready"))], stop_timeout=5)
    assert done.cause == "released"
    assert "obeyed" in done.lines


# -- what it leaves behind --------------------------------------------------------------------------------------------


def test_what_it_leaves_behind_ends_with_it() -> None:
    script = "sleep 300 & echo $!; setsid sleep 300 & echo $!"
    begun = time.monotonic()
    done = shell(script)
    assert done.cause == "completed"
    assert time.monotonic() - begun < 30
    first, second = (int(line) for line in done.result["output"].split())
    ends = time.monotonic() + 10
    while (still_runs(first) or still_runs(second)) and time.monotonic() < ends:
        time.sleep(0.02)
    assert not still_runs(first)
    assert not still_runs(second)


def test_zombies_of_what_it_abandons_do_not_add_up() -> None:
    """Twenty orphans end while it runs; none of them is left as a zombie of the task's process."""
    count = "ps -o stat= --ppid $PPID | grep -c Z || true"
    script = f"for n in 1 2 3 4 5 6 7 8 9 10; do (sleep 0.01 &) ; done; sleep 0.6; {count}"
    assert shell(script).result["output"] == "0\n"


# -- its props --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("props", "problem"),
    [
        ({}, "props.args: missing; a list (of a text) is needed"),
        ({"args": []}, "props: args: the program's name is needed"),
        ({"args": ["x", 1]}, "props.args[1]: a text is needed, not 1"),
        ({"args": "ls -l"}, 'props.args: a list (of a text) is needed, not "ls -l"'),
        ({"args": ["a\0b"]}, "cannot hold a zero byte"),
        ({"args": ["x"], "env": {"A=B": "x"}}, "env: 'A=B' is not a name of a variable"),
        ({"args": ["x"], "env": {"": "x"}}, "env: '' is not a name of a variable"),
        ({"args": ["x"], "env": {"A": 1}}, "props.env.A: a text or null is needed, not 1"),
        ({"args": ["x"], "ok_codes": [256]}, "exit codes are from 0 to 255"),
        ({"args": ["x"], "fail_codes": [0]}, "exit code 0 is in two of ok_codes, release_codes and fail_codes"),
        ({"args": ["x"], "stop_signal": "SIGTREM"}, "is 'SIGTERM' meant?"),
        ({"args": ["x"], "tail_bytes": 9000}, "tail_bytes: from 0 to 8192"),
        ({"args": ["x"], "arg": []}, "props.arg: there is no such field; is 'args' meant?"),
    ],
)
def test_props_that_cannot_be_meant(props: dict[str, Any], problem: str) -> None:
    from mpfora.child.schema import BadProps, compile_schema

    with pytest.raises(BadProps) as caught:
        compile_schema(Program).build(props)
    assert problem in str(caught.value)


def test_settings_of_the_task_stand_beside_them() -> None:
    assert shell("true", handler="run", labels={"gpu": "yes"}, retry={"max_errors": 2}).cause == "completed"
