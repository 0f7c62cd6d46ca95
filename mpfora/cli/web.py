"""The command that serves the page: `mpfora web`."""

from __future__ import annotations

import importlib.util
import logging
from typing import Any

import click

from mpfora.cli import printing
from mpfora.cli.session import Session
from mpfora.embedded.choice import resolve
from mpfora.errors import MpforaError

_DEFAULT_LISTEN = "127.0.0.1:8460"
_DEFAULT_REDACT = "password|passwd|secret|token|api_?key|credential"


@click.command("web", short_help="Serve the page for people who run the cluster.")
@click.option("--listen", default=_DEFAULT_LISTEN, show_default=True, metavar="[HOST:]PORT", help="Where.")
@click.option(
    "--auth", metavar="KIND:WHAT",
    help="Who may come in: token:FILE, basic:FILE (lines of NAME ROLE SECRET) or header:NAME. [default: a link that"
    " works once]",
)  # fmt: skip
@click.option(
    "--role", type=click.Choice(["view", "operate", "admin"]), default="view", show_default=True,
    help="The role of people whom --auth header or --client-ca lets in.",
)  # fmt: skip
@click.option("--read-only", is_flag=True, help="Let nobody do more than look.")
@click.option(
    "--trusted-proxy",
    multiple=True,
    metavar="CIDR",
    help="The proxies that may name people, for header:NAME.",
)
@click.option("--url-prefix", default="", metavar="PATH", help="The prefix of every path, behind a proxy.")
@click.option(
    "--redact", default=_DEFAULT_REDACT, show_default=True, metavar="REGEX",
    help="Names in props, checkpoints and results whose values are shown to nobody.",
)  # fmt: skip
@click.option("--cert", metavar="FILE", help="Serve TLS with this certificate (PEM).")
@click.option("--key", metavar="FILE", help="The key of --cert (PEM).")
@click.option("--client-ca", metavar="FILE", help="Let in who has a certificate that this authority (PEM) has signed.")
@click.option("--make-password", is_flag=True, help="Ask for a password, print its line for the file of basic, exit.")
@click.pass_obj
def serve_web(session: Session, /, make_password: bool, **options: Any) -> None:
    """Serve the page and the JSON API for people who run the cluster.

    It keeps nothing: start any number, stop any at any time. Without --auth it listens on this machine alone, and lets
    in who opens the link that it prints, which works once; the next one is printed then.

    Roles: view looks; operate also commands tasks; admin also deletes tasks, and commands nodes. Every action is logged
    on standard error with who did it.
    """
    if importlib.util.find_spec("starlette") is None or importlib.util.find_spec("uvicorn") is None:
        raise MpforaError("mpfora web needs starlette and uvicorn: pip install 'mpfora[web]'")
    from mpfora.web import entry, server, settings

    if make_password:
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
        printing.say(f"NAME ROLE {entry.hash_password(password)}")
        return
    made = settings.make_settings(**{("trusted_proxies" if k == "trusted_proxy" else k): v for k, v in options.items()})
    _log()
    etcd, embedded = resolve(session.where)
    try:
        server.run(etcd, session.where.namespace, made, _say)
    finally:
        if embedded is not None:
            embedded.close()


def _say(line: str) -> None:
    printing.say(line)
    printing.flush()


def _log() -> None:
    """What happens here is for standard error, with its time."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log = logging.getLogger("mpfora.web")
    log.addHandler(handler)
    log.setLevel(logging.INFO)


COMMANDS = (serve_web,)
