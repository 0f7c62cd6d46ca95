"""The command group: the options before the command, the help, and the order of the commands."""

from __future__ import annotations

import importlib

import click

from mpfora._version import __version__
from mpfora.cli.session import Session
from mpfora.config.etcd_location import Where
from mpfora.config.etcd_options import etcd_options

EPILOG = """\b
Exit codes:
  0    done
  1    refused, not found, or a task that was waited for failed or was killed
  2    wrong usage, or a setting that cannot hold
  3    etcd does not answer
  4    the node that was asked does not answer
  124  time is up
"""


#: module -> its commands, in the order of the help. A module is imported when one of its commands is called: to import
#: all of them takes longer than most commands do
MODULES = {
    "listing": ("tasks",),
    "tasks": (
        "submit", "task", "result", "history", "wait", "delete", "retry", "purge", "pause", "run", "kill", "complete",
        "checkpoint", "release", "sleep",
    ),
    "groups": ("group", "groups"),
    "logs": ("logs",),
    "events": ("events",),
    "stack": ("stack", "profile"),
    "nodes": ("nodes", "node", "balance"),
    "rolling_restart": ("restart",),
    "schedules": ("schedule", "schedules"),
    "top": ("top",),
    "doctor": ("doctor",),
    "completion": ("completion",),
    "services": ("demo", "etcd"),
    "web": ("web",),
}  # fmt: skip
_MODULE_OF = {name: module for module, names in MODULES.items() for name in names}


class OrderedGroup(click.Group):
    """Lists its commands in their order, and imports each when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_MODULE_OF)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.commands and cmd_name in _MODULE_OF:
            module = importlib.import_module(f"mpfora.cli.{_MODULE_OF[cmd_name]}")
            for command in module.COMMANDS:
                self.add_command(command)
                if ctx.resilient_parsing:  # a shell asks what there is
                    importlib.import_module("mpfora.cli.completion").complete_parameters(command)
        return super().get_command(ctx, cmd_name)


@click.group(cls=OrderedGroup, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@etcd_options
@click.version_option(__version__, prog_name="mpfora", message="%(prog)s %(version)s")
@click.pass_context
def cli(context: click.Context, where: Where) -> None:
    """Submit tasks to mpfora nodes, look at them, and command them.

    Nodes are started by `python -m mpfora.supervisor`. Listings take --json.
    """
    context.obj = context.with_resource(Session(where))
