"""The supervisor: the process that owns etcd, balancing, task states and commands of one node."""

import sys


def _is_program() -> bool:
    """Whether this package is imported as the program, which is about to import the rest; other programs import modules
    of it too."""
    is_named = any(word.removeprefix("-m") == "mpfora.supervisor" for word in sys.orig_argv)
    return sys.argv[:1] == ["-m"] and is_named


if _is_program():
    from mpfora.linux.start_signals import leave_on_signals

    leave_on_signals()
    from mpfora.shadowed_modules import tell_at_exit

    tell_at_exit()
