"""The command that prints what a shell needs to complete: `mpfora completion`. And what completes ids, nodes and
handlers: a few keys of etcd, read when somebody presses Tab."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ShellComplete,
    ZshComplete,
    add_completion_class,
    get_completion_class,
)

from mpfora.cli import printing
from mpfora.cli.session import Session
from mpfora.client.async_client import AsyncClient
from mpfora.config.etcd_location import Where
from mpfora.model.task import NAME_PATTERN
from mpfora.store.keys import MARKER
from mpfora.store.kv import Listing

#: so many ids are offered
_MOST = 50
_WITHIN_S = 10.0

Find = Callable[[AsyncClient, str], Awaitable[Iterable[str]]]


@click.command("completion", short_help="Print what makes a shell complete commands.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what makes a shell complete commands, options, and the ids, nodes and handlers that there are.

    \b
    bash: eval "$(mpfora completion bash)"        in ~/.bashrc
    zsh:  eval "$(mpfora completion zsh)"         in ~/.zshrc
    fish: mpfora completion fish | source         in ~/.config/fish/config.fish
    """
    printing.say(source_of(shell))


def source_of(shell: str) -> str:
    kind = get_completion_class(shell)
    assert kind is not None
    made: ShellComplete = kind(click.Group("mpfora"), {}, "mpfora", "_MPFORA_COMPLETE")
    return made.source()


async def _ids(client: AsyncClient, begin: str) -> Iterable[str]:
    """The first ids that begin so. Reads no more keys than it needs."""
    layout = client._layout
    found: dict[str, None] = {}
    for prefix in (layout.tasks, layout.states):
        async for page in _pages(client, prefix, begin):
            for kv in page.kvs:
                name = kv.key[len(prefix) :].partition("/")[0]
                if name != MARKER:
                    found[name] = None
            if len(found) >= _MOST:
                break
    return sorted(found)[:_MOST]


async def _pages(client: AsyncClient, prefix: str, begin: str) -> Any:
    start = prefix + begin
    end = start[:-1] + chr(ord(start[-1]) + 1)  # the next key that does not begin so
    async with contextlib.aclosing(client._etcd.pages(start, end)) as pages:
        async for page in pages:
            assert isinstance(page, Listing)
            yield page


async def _nodes(client: AsyncClient, begin: str) -> Iterable[str]:
    return sorted((await client._reader.members()).members)


async def _handlers(client: AsyncClient, begin: str) -> Iterable[str]:
    members = (await client._reader.members()).members.values()
    return sorted({handler for member in members for handler in member.handlers})


async def _groups(client: AsyncClient, begin: str) -> Iterable[str]:
    """Those of which something is noted."""
    layout = client._layout
    found: dict[str, None] = {}
    async for page in _pages(client, layout.groups, begin):
        found |= dict.fromkeys(kv.key[len(layout.groups) :].partition("/")[0] for kv in page.kvs)
        if len(found) >= _MOST:
            break
    return sorted(found)[:_MOST]


_Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def _completing(find: Find) -> _Complete:
    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Nothing where etcd cannot be asked: a shell is no place for errors. No embedded etcd is started for it."""
        where = _where(ctx)
        if where.etcd is None or (incomplete and not NAME_PATTERN.match(incomplete)):
            return []
        logging.getLogger("mpfora").addHandler(logging.NullHandler())
        try:
            with Session(where) as session:
                names = session.client()._run(lambda client: _found(find, client, incomplete))
        except Exception:  # noqa: BLE001 - there is nobody to tell
            return []
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]

    return complete


async def _found(find: Find, client: AsyncClient, begin: str) -> Iterable[str]:
    async with asyncio.timeout(_WITHIN_S):
        return await find(client, begin)


def _where(ctx: click.Context) -> Where:
    """By the options before the command, as they were typed so far, and the environment."""
    names = {"cacert": "etcd_cacert", "cert": "etcd_cert", "key": "etcd_key", "user": "etcd_user",
             "program": "etcd_program"}  # fmt: skip
    given = ctx.find_root().params
    values = {field: given.get(names.get(field, field)) for field in Where.__slots__}
    return Where(**{name: value for name, value in values.items() if value is not None})


def offer_nothing_as_nothing() -> None:
    """Where nothing fits, click prints an empty line, for which fish prints an error. Called when a shell asks."""
    for base in (BashComplete, ZshComplete, FishComplete):
        add_completion_class(type(base.__name__, (_NoEmptyLine, base), {}))


class _NoEmptyLine:
    def complete(self) -> str:
        offered: str = super().complete()  # type: ignore[misc]
        if not offered:
            raise SystemExit(0)
        return offered


complete_ids, complete_nodes, complete_handlers, complete_groups = map(_completing, (_ids, _nodes, _handlers, _groups))


def complete_parameters(command: click.Command) -> None:
    """Gives the parameters of a command what completes them, by their names."""
    for parameter in command.params:
        found = _BY_NAME.get((parameter.name or "", type(parameter)))
        if found is not None and not isinstance(parameter.type, click.Choice):
            parameter._custom_shell_complete = found  # click takes it at the making of a parameter only


_BY_NAME: dict[tuple[str, type], _Complete] = {
    ("task_id", click.Argument): complete_ids,
    ("task_ids", click.Argument): complete_ids,
    ("ids", click.Argument): complete_ids,
    ("name", click.Argument): complete_nodes,
    ("node", click.Option): complete_nodes,
    ("handler", click.Option): complete_handlers,
    ("group", click.Option): complete_groups,
    ("group", click.Argument): complete_groups,
}
COMMANDS = (completion,)
