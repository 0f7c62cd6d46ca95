"""The start of a zygote: the supervisor executes it; it forks from its guard, imports the handlers, says that it is
ready, and serves until its end.
"""

from __future__ import annotations

import dataclasses
import faulthandler
import gc
import json
import os
import resource
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple, NoReturn

from mpfora.child.run import fork_hooks, process, resource_trackers
from mpfora.child.run.loaded_handler import LoadedHandler
from mpfora.child.zygote import last_will
from mpfora.child.zygote.guard import DEAF_TO, block_stray_signals, fork_zygote, tie_to_guard
from mpfora.child.zygote.link import Link
from mpfora.child.zygote.load_handlers import LoadError, load_handlers
from mpfora.child.zygote.loop import Zygote
from mpfora.child.zygote.native_threads import find_threads
from mpfora.child.zygote.opened_at_import import describe_shared
from mpfora.config.handler_spec import HandlerSpec, Preload
from mpfora.ipc import frames
from mpfora.ipc.marks import ZYGOTE_MARK
from mpfora.ipc.slots import SlotTable
from mpfora.linux import syscalls
from mpfora.linux.run_cgroups import RunGroups, why_not_used

#: timers and files that are ready send these
_OF_LIBRARIES = (signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF, signal.SIGIO)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Called by the interpreter that the supervisor executed."""
    # a program that blocks signals hands that down to whatever it executes
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    options = _parse(sys.argv[1:] if arguments is None else arguments)
    # the guard, stopped, would not see that the supervisor is gone
    syscalls.set_pdeathsig(signal.SIGCONT)
    fork_zygote(options.supervisor, f"{options.node}{options.generation_text}", options.groups)
    environment = dict(os.environ)
    environment.pop(ZYGOTE_MARK, None)
    syscalls.set_title(f"mpfora: zygote {options.node}{options.generation_text}")
    syscalls.set_child_subreaper()
    syscalls.lower_nofile_limit(options.nofile)  # the handlers' modules get the limit that handlers get
    link, urgent = Link(options.fd), Link(options.urgent_fd)
    wakeup_fds = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    _listen_for_signals(wakeup_fds)
    resource_trackers.separate()
    handlers = _load(link, options)
    _listen_for_signals(wakeup_fds)  # again: the modules may have set handlers of their own
    _ignore_strays()
    tie_to_guard()
    is_raised = syscalls.raise_nofile_limit() != resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    fork_hooks.settle()
    process.make_ready(options.nofile if is_raised else None)  # done before the fork, this costs a child no pages
    _try_fork(link)
    groups, no_groups = _open_groups(options.groups)
    _announce(link, handlers, no_groups, _files(options))
    zygote = Zygote(link, urgent, SlotTable(options.slots_fd), handlers, wakeup_fds, options.supervisor, groups)
    all_dead = zygote.run()
    accepted = zygote.last_will()
    if all_dead and accepted is not None:
        last_will.execute(accepted, environment)
    os._exit(0 if all_dead else 1)


def _try_fork(link: Link) -> None:
    """Fork once before any task depends on it. What a handler's module has done at each fork (os.register_at_fork,
    pthread_atfork) may end the zygote: then it has not started, and no task is suspected. Or it may end the child: then
    the log says so."""
    try:
        pid = os.fork()
    except OSError:  # no process can be had now: each run says so by itself
        return
    if pid == 0:
        os._exit(0)
    try:
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except ChildProcessError:  # a thread of a module's has taken its exit
        return
    if code != 0:
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        text = f"a forked process ends at once, with {how}: something that a handler's module does at each fork ends it"
        link.send(frames.Notice("error", text))


def _open_groups(base: str | None) -> tuple[RunGroups | None, str]:
    """The groups of runs, and why there are none although the supervisor has a folder for them."""
    if base is None:
        return None, ""
    why_not = why_not_used(base)
    return (None, why_not) if why_not else (RunGroups(base, os.environ.get(ZYGOTE_MARK, "")), "")


class _Options(NamedTuple):
    """fd, urgent_fd, slots_fd, supervisor: of the sockets, of the table, and a pidfd of the supervisor, as they were
    inherited.
    groups: the folder for the control groups of runs.
    argv: what handlers find as sys.argv.
    dump_every_s: while the handlers are imported, the stacks go to stderr that often.
    nofile: the soft limit of open files for handlers.
    generation: how many zygotes of the node have imported the handlers with this one.
    tells_files: what the modules are imported from is told.
    """

    fd: int
    urgent_fd: int
    slots_fd: int
    supervisor: int
    groups: str | None
    node: str
    handlers: list[HandlerSpec]
    preload: Preload
    argv: list[str]
    dump_every_s: float
    nofile: int
    generation: int = 1
    tells_files: bool = False

    @property
    def generation_text(self) -> str:
        """For the titles of processes."""
        return f", generation {self.generation}" if self.generation > 1 else ""


def _parse(arguments: Sequence[str]) -> _Options:
    """--NAME VALUE pairs, as the supervisor writes them. (argparse would stay in every child's memory.)"""
    named = dict(zip(arguments[::2], arguments[1::2], strict=True))
    specs = [HandlerSpec(**spec) for spec in json.loads(named["--handlers"])]
    return _Options(
        int(named["--fd"]),
        int(named["--urgent-fd"]),
        int(named["--slots-fd"]),
        int(named["--supervisor-fd"]),
        named["--groups"] or None,
        named["--node"],
        specs,
        Preload(**json.loads(named.get("--preload", "{}"))),
        json.loads(named["--argv"]),
        float(named["--dump-every"]),
        int(named["--nofile"]),
        int(named.get("--generation", "1")),
        named.get("--tell-files") == "yes",
    )


def _load(link: Link, options: _Options) -> dict[str, LoadedHandler]:
    """Import the handlers. Where one cannot be imported, say so and leave."""
    sys.argv[:] = options.argv
    sys.orig_argv[:] = [sys.executable, *options.argv]
    faulthandler.dump_traceback_later(options.dump_every_s, repeat=True)
    writes_none = sys.dont_write_bytecode
    if options.tells_files:  # a cache does not tell two changes within a second from each other
        sys.dont_write_bytecode = True
    try:
        return load_handlers(options.handlers, options.preload)
    except LoadError as error:
        link.send(frames.ImportFailed(error.spec, error.traceback, _files(options, error)))
        link.finish()
        os._exit(1)
    finally:
        faulthandler.cancel_dump_traceback_later()  # it is a thread
        sys.dont_write_bytecode = writes_none


def _files(options: _Options, error: LoadError | None = None) -> list[str]:
    """What the modules were imported from, if the supervisor wants to know. error: what their import ended with."""
    if not options.tells_files:
        return []
    from mpfora.child.zygote.imported_files import files_of, imported_files

    return imported_files() + ([] if error is None else files_of(error))


def _announce(link: Link, handlers: Mapping[str, LoadedHandler], no_groups: str, files: list[str]) -> None:
    """Say that all is ready. What exists now is shared with every child, and never looked at by their collectors."""
    gc.collect()
    gc.freeze()
    settings = {name: dataclasses.asdict(handler.settings) for name, handler in handlers.items()}
    opened = {file.fd for handler in handlers.values() for file in handler.open_files}
    if shared := describe_shared(sorted(opened)):
        text = "importing the handlers opened what all tasks then share, and they disturb each other by it"
        link.send(frames.Notice("warning", f"{text}: {'; '.join(shared)}. Open these in the handler"))
    link.send(frames.Ready(os.getpid(), settings, find_threads(), no_groups, files))
    link.flush()


def _listen_for_signals(wakeup_fds: tuple[int, int]) -> None:
    """Make the pipe readable whenever a child has died (or another signal has come). Other signals do nothing: they are
    the supervisor's business. Caught and not ignored, so that what is executed from here gets the defaults."""
    signal.set_wakeup_fd(wakeup_fds[1], warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, *DEAF_TO):
        signal.signal(number, lambda *_: None)


def _ignore_strays() -> None:
    """Blocked, which costs a child nothing. Where a module has started threads, these do not block what is sent to the
    process; then there are handlers, too, for those that C libraries use."""
    block_stray_signals()
    if len(os.listdir("/proc/self/task")) > 1:
        for number in _OF_LIBRARIES:
            signal.signal(number, lambda *_: None)


if __name__ == "__main__":
    main()
