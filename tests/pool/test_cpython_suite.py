"""The tests of concurrent.futures that the running Python brings, with Pool as the executor.

Their mixins are subclassed as they are; nothing of them is copied. Left out is what is about worker processes that live
on, which a pool has none of, or about a broken pool, which there is not.
"""

from __future__ import annotations

import functools
import importlib
import unittest
from types import ModuleType
from typing import Any

import pytest

import mpfora

PACKAGE = "test.test_concurrent_futures"
pytest.importorskip(f"{PACKAGE}.util", reason="this Python is installed without its tests of concurrent.futures")

#: module -> the mixins of it that are run
MIXINS = {
    "test_wait": ("WaitTests",),
    "test_as_completed": ("AsCompletedTests",),
    "test_shutdown": ("ExecutorShutdownTest", "ProcessPoolShutdownTest"),
    "test_process_pool": ("ProcessPoolExecutorTest",),
    "test_deadlock": ("ExecutorDeadlockTest",),
    "test_init": ("InitializerMixin", "FailingInitializerMixin"),
}
_WORKERS = "is about worker processes that live on and their internals; here each call has its own process"
_OWN_ERROR = "expects the whole pool to break; here it is the call's own error, which test_what_is_left_out shows"
#: what does not apply, and why
LEFT_OUT = {
    "test_processes_terminate": _WORKERS,
    "test_context_manager_shutdown": f"makes a ProcessPoolExecutor by name; {_WORKERS}",
    "test_del_shutdown": f"makes a ProcessPoolExecutor by name; {_WORKERS}",
    "test_shutdown_no_wait": f"makes a ProcessPoolExecutor by name; {_WORKERS}",
    "test_killed_child": f"kills a worker process; {_WORKERS}",
    "test_ressources_gced_in_workers": "the process of a call ends when it has returned, without collecting garbage",
    "test_saturation": _WORKERS,
    "test_idle_process_reuse_one": _WORKERS,
    "test_idle_process_reuse_multiple": _WORKERS,
    "test_max_tasks_per_child": _WORKERS,
    "test_max_tasks_per_child_defaults_to_spawn_context": _WORKERS,
    "test_max_tasks_early_shutdown": f"asks for max_tasks_per_child=1, which is always so; {_WORKERS}",
    "test_python_finalization_error": "replaces a private function of threading to fail inside ProcessPoolExecutor",
    "test_force_shutdown_workers": _WORKERS,
    "test_traceback": "asks for the private class of ProcessPoolExecutor's causes; the rest is test_what_is_left_out's",
    "test_gh105829_should_not_deadlock_if_wakeup_pipe_full": "replaces private parts of ProcessPoolExecutor",
    "test_shutdown_deadlock_pickle": f"looks at the manager thread of ProcessPoolExecutor; {_WORKERS}",
    "test_error_at_task_unpickle": _OWN_ERROR,
    "test_error_during_result_unpickle_in_result_handler": _OWN_ERROR,
    "test_exit_during_result_unpickle_in_result_handler": _OWN_ERROR,
    "test_exit_during_func_exec_on_worker": "expects SystemExit, which would end this program; here it is RunDied",
    "test_exit_during_result_pickle_on_worker": "expects SystemExit, which would end this program; here it is RunDied",
    "test_initializer": "a pool has no initializer: `preload` imports once, and a child is a copy of what is there",
}


class PoolOfTests(mpfora.Pool):
    """Takes, and has no use of, what tells multiprocessing how to start workers."""

    def __init__(self, max_workers: int | None = None, mp_context: None = None) -> None:
        super().__init__(max_workers)


PoolOfTests.__name__ = "Pool"


def _in_a_script(assert_ok: Any) -> Any:
    """Scripts of the suite import the executor from concurrent.futures, by its name."""

    @functools.wraps(assert_ok)
    def run(option: str, script: str, **kwargs: Any) -> Any:
        return assert_ok(
            option, script.replace("from concurrent.futures import Pool", "from mpfora import Pool"), **kwargs
        )

    return run


def _cases() -> list[Any]:
    found = []
    for name, mixins in MIXINS.items():
        module = importlib.import_module(f"{PACKAGE}.{name}")
        for mixin in mixins:
            case = _case(module, mixin)
            for test in unittest.defaultTestLoader.getTestCaseNames(case):
                found.append(pytest.param(module, case, test, id=f"{mixin}-{test}"))
    return found


def _set_up(self: Any) -> None:
    """A pool starts with its first call, and some tests expect that calls begin at once."""
    super(type(self), self).setUp()
    self.executor.submit(int).result()


def _case(module: ModuleType, mixin: str) -> type[unittest.TestCase]:
    util = importlib.import_module(f"{PACKAGE}.util")
    own = {
        "executor_type": PoolOfTests,
        "get_context": lambda self: None,
        "setUp": _set_up,
        "__module__": module.__name__,
    }
    bases = (getattr(module, mixin), util.ExecutorMixin, util.BaseTestCase)
    return type("Case", tuple(dict.fromkeys(bases)), own)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("module", "case", "test"), _cases())
def test_as_the_standard_library_s_executors(
    module: ModuleType, case: type[unittest.TestCase], test: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if test in LEFT_OUT:
        pytest.skip(LEFT_OUT[test])
    if hasattr(module, "assert_python_ok"):
        monkeypatch.setattr(module, "assert_python_ok", _in_a_script(module.assert_python_ok))
    if hasattr(module, "BrokenProcessPool"):
        monkeypatch.setattr(module, "BrokenProcessPool", mpfora.RunDied)
    result = unittest.TestResult()
    case(test).run(result)
    for _, problem in (*result.errors, *result.failures):
        pytest.fail(problem)
    for _, why in result.skipped:
        pytest.skip(why)


def test_what_is_left_out_is_there() -> None:
    names = {param.values[2] for param in _cases()}
    assert set(LEFT_OUT) - names <= {"test_force_shutdown_workers"}  # of newer Pythons


def test_what_is_left_out_for_its_error_has_one_of_its_own_here() -> None:
    deadlock = importlib.import_module(f"{PACKAGE}.test_deadlock")
    from pickle import UnpicklingError

    with mpfora.Pool(2) as pool:
        with pytest.raises(UnpicklingError):
            pool.submit(id, deadlock.ErrorAtUnpickle()).result()
        with pytest.raises(UnpicklingError):
            pool.submit(deadlock._return_instance, deadlock.ErrorAtUnpickle).result()
        with pytest.raises(mpfora.RemoteError, match="SystemExit"):
            pool.submit(deadlock._return_instance, deadlock.ExitAtUnpickle).result()
        for args in ((deadlock._exit,), (deadlock._return_instance, deadlock.ExitAtPickle)):
            with pytest.raises(mpfora.RunDied) as caught:
                pool.submit(*args).result()
            assert caught.value.exit_code == 1
        assert pool.submit(pow, 2, 3).result() == 8
