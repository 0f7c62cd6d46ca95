"""The command group: the options before the command, the help, and the order of the commands."""

from __future__ import annotations

import click

import mpfora
from mpfora.cli import nodes, services, tasks
from mpfora.cli.session import Session
from mpfora.options import Where, etcd_options

EPILOG = """\b
Exit codes:
  0    done
  1    refused, not found, or a task that was waited for failed or was killed
  2    wrong usage, or a setting that cannot hold
  3    etcd does not answer
  124  time is up
"""


class OrderedGroup(click.Group):
    """Lists its commands in the order in which they were added."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(cls=OrderedGroup, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@etcd_options
@click.version_option(mpfora.__version__, prog_name="mpfora", message="%(prog)s %(version)s")
@click.pass_context
def cli(context: click.Context, where: Where) -> None:
    """Submit tasks to mpfora nodes, look at them, and command them.

    Nodes are started by `python -m mpfora.supervisor`. Listings take --json.
    """
    context.obj = context.with_resource(Session(where))


for command in (*tasks.COMMANDS, *nodes.COMMANDS, *services.COMMANDS):
    cli.add_command(command)
