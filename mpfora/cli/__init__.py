"""The `mpfora` command: `main`, and how its errors become one line and an exit code."""

from __future__ import annotations

import errno
import logging
import os
import sys
from collections.abc import Sequence

import click

from mpfora.cli.group import cli
from mpfora.config import SettingsError
from mpfora.errors import EtcdUnreachable, InvalidTask, MpforaError
from mpfora.kv import StoreError

FAILED, USAGE, UNREACHABLE, TIME_IS_UP, INTERRUPTED, BROKEN_PIPE = 1, 2, 3, 124, 130, 141
#: of writing to a disk that is full, or failing
_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def main(argv: Sequence[str] | None = None) -> None:
    """The console script. Leaves by SystemExit."""
    # what the layers below log of watches that resume is for nodes' logs: standard error is for our one line
    logging.getLogger("mpfora").addHandler(logging.NullHandler())
    try:
        code = run(argv)
        sys.stdout.flush()
    except BrokenPipeError:  # what reads our output has enough of it
        _drop_the_rest()
        code = BROKEN_PIPE
    except OSError as error:
        if error.errno not in _UNWRITABLE:
            raise
        _drop_the_rest()
        code = _fail(f"standard output cannot be written: {error.strerror}", FAILED)
    sys.exit(code)


def _drop_the_rest() -> None:
    """Python would try to write it at exit, and complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def run(argv: Sequence[str] | None = None) -> int:
    """The exit code. One line on standard error says what is wrong, and never a traceback."""
    try:
        code = cli.main(args=None if argv is None else list(argv), prog_name="mpfora", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except SystemExit as error:
        # click leaves so when what reads our output has gone, and nothing else of a command does
        return BROKEN_PIPE if error.code == 1 else int(error.code or 0)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.ctx.get_help() if error.ctx else "", err=True)
        return USAGE
    except click.UsageError as error:
        return _fail(_usage_text(error), USAGE)
    except click.Abort:
        return INTERRUPTED
    except click.ClickException as error:
        return _fail(error.format_message(), error.exit_code)
    except (SettingsError, InvalidTask) as error:
        return _fail(str(error), USAGE)
    except EtcdUnreachable as error:
        return _fail(str(error), UNREACHABLE)
    except MpforaError as error:
        return _fail(str(error), TIME_IS_UP if isinstance(error, TimeoutError) else FAILED)
    except StoreError as error:
        return _fail(str(error), USAGE)


def _usage_text(error: click.UsageError) -> str:
    command = error.ctx.command_path if error.ctx else "mpfora"
    text = error.format_message().replace("\n", " ").rstrip(".")
    if isinstance(error, click.NoSuchOption) and error.option_name in {o for p in cli.params for o in p.opts}:
        return f"{text}: write it before the command, as in `mpfora {error.option_name} ... {command.split()[-1]}`"
    return f"{text} (see {command} --help)"


def _fail(text: str, code: int) -> int:
    click.echo(f"mpfora: {text}", err=True)
    return code
