"""The `mpfora` command: `main`, and how its errors become one line and an exit code."""

from __future__ import annotations

import importlib
import logging
import os
import sys
from collections.abc import Sequence

import click

from mpfora.cli import printing
from mpfora.cli.group import cli
from mpfora.config.settings import SettingsError
from mpfora.errors import BadValue, EtcdUnreachable, InvalidTask, MpforaError, NodeSilent

FAILED, USAGE, UNREACHABLE, TIME_IS_UP, INTERRUPTED, BROKEN_PIPE = 1, 2, 3, 124, 130, 141
NODE_SILENT = 4
#: a shell that completes a command sets it
ASKED_BY_A_SHELL = "_MPFORA_COMPLETE"


def main(argv: Sequence[str] | None = None) -> None:
    """The console script. Leaves by SystemExit."""
    printing.open_streams()
    # the layers below log watches that resume: that is for the logs of nodes, and standard error is for our one line
    for name in ("mpfora", "asyncio"):
        logging.getLogger(name).addHandler(logging.NullHandler())
    _show_warnings_of_the_client()
    try:
        code = run(argv)
        printing.flush()
    except OSError as error:  # click prints the help
        if error.errno not in printing.UNWRITABLE or error.filename is not None:
            raise
        printing.drop_output()
        code = _fail(f"standard output cannot be written: {error.strerror}", FAILED)
    except printing.OutputFailed as error:
        code = BROKEN_PIPE if error.reader_left else _fail(f"standard output cannot be written: {error}", FAILED)
    sys.exit(code)


def _show_warnings_of_the_client() -> None:
    """The client's warnings say what a command does without. Each is one line on standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("mpfora: %(message)s"))
    logging.getLogger("mpfora.client").addHandler(handler)


def run(argv: Sequence[str] | None = None) -> int:
    """Run the command. Returns the exit code. One line on standard error says what is wrong; never a traceback."""
    if ASKED_BY_A_SHELL in os.environ:
        importlib.import_module("mpfora.cli.completion").offer_nothing_as_nothing()
    try:
        code = cli.main(args=None if argv is None else list(argv), prog_name="mpfora", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except SystemExit as error:
        # only click leaves so: the reader of our output has gone
        return BROKEN_PIPE if error.code == 1 else int(error.code or 0)
    except click.exceptions.NoArgsIsHelpError as error:
        printing.tell_plain(error.ctx.get_help() if error.ctx else "")
        return USAGE
    except click.UsageError as error:
        return _fail(_usage_text(error), USAGE)
    except click.Abort:
        return INTERRUPTED
    except click.ClickException as error:
        return _fail(error.format_message(), error.exit_code)
    except (SettingsError, InvalidTask, BadValue) as error:
        return _fail(str(error), USAGE)
    except EtcdUnreachable as error:
        return _fail(str(error), UNREACHABLE)
    except NodeSilent as error:
        return _fail(str(error), NODE_SILENT)
    except MpforaError as error:
        return _fail(str(error), TIME_IS_UP if isinstance(error, TimeoutError) else FAILED)


def _usage_text(error: click.UsageError) -> str:
    command = error.ctx.command_path if error.ctx else "mpfora"
    text = error.format_message().replace("\n", " ").replace("'[", "'").replace("]'", "'").rstrip(".")
    if isinstance(error, click.NoSuchOption) and error.option_name in {o for p in cli.params for o in p.opts}:
        return f"{text}: write it before the command, as in `mpfora {error.option_name} ... {command.split()[-1]}`"
    return f"{text}; see {command} --help"


def _fail(text: str, code: int) -> int:
    printing.tell(text)
    return code
