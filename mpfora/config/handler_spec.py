"""Handler specs as users type them: "module:attribute" or "name=module:attribute". Pure."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mpfora.errors import MpforaError

_SPEC = re.compile(r"(?:(?P<name>[^=:]+)=)?(?P<module>[A-Za-z_][\w.]*):(?P<attribute>[A-Za-z_][\w.]*)\Z")


#: true in a zygote while it imports the handlers. A script that starts a node where it is imported would start one
#: there, too
is_importing = False


class HandlerSpecError(MpforaError, ValueError):
    """An invalid handler spec. The text shows a valid one."""


@dataclass(frozen=True, slots=True)
class HandlerSpec:
    """name      what tasks call it in props["handler"]; without "name=" the spec itself, "primes:count"
    module, attribute   where it is imported from
    main_path, main_module
                 set for a handler of the running script: the zygote imports that script (by path, or by its module
                 name where it was started with -m) as "__mp_main__", as multiprocessing's spawn does
    """

    name: str
    module: str
    attribute: str
    main_path: str | None = None
    main_module: str | None = None


@dataclass(frozen=True, slots=True)
class Preload:
    """What a zygote imports besides its handlers, once for all that it forks.

    needed  modules; where one cannot be imported, the zygote does not start
    tried   modules; where one cannot be imported, that is left to those who need it
    main_path, main_module   the running script, as HandlerSpec has it; tried as well
    """

    needed: tuple[str, ...] = ()
    tried: tuple[str, ...] = ()
    main_path: str | None = None
    main_module: str | None = None


NOTHING = Preload()


def parse_spec(text: str) -> HandlerSpec:
    """Raises HandlerSpecError."""
    match = _SPEC.match(text.strip())
    if match is None:
        raise HandlerSpecError(f"handler {text!r}: write module:attribute or name=module:attribute")
    module, attribute = match["module"], match["attribute"]
    return HandlerSpec(match["name"] or f"{module}:{attribute}", module, attribute)


def spec_of(handler: str | Callable[..., Any]) -> HandlerSpec:
    """The spec of what a Consumer was given: a text, or the function or class itself. Raises HandlerSpecError for
    what a fresh interpreter could not import: a lambda, something local to a function, a handler typed into an
    interactive shell."""
    if isinstance(handler, str):
        return parse_spec(handler)
    module = getattr(handler, "__module__", None)
    attribute = getattr(handler, "__qualname__", None)
    if not module or not attribute or "<" in attribute:
        raise HandlerSpecError(f"handler {handler!r}: must be a function or class at the top level of a module")
    if module != "__main__":
        return HandlerSpec(f"{module}:{attribute}", module, attribute)
    main_path, main_module = running_script()
    if main_path is None and main_module is None:
        raise HandlerSpecError(f"handler {attribute}: is not in a file; put it into a module")
    return HandlerSpec(attribute, "__main__", attribute, main_path, main_module)


def running_script() -> tuple[str | None, str | None]:
    """(path, module) of the script that runs, one of which is set; (None, None) in an interactive shell."""
    import sys

    main = sys.modules["__main__"]
    main_spec = getattr(main, "__spec__", None)
    main_file = getattr(main, "__file__", None)
    if main_spec is not None and main_spec.name not in ("", "__main__"):  # "__main__": a folder was run, by its path
        return None, main_spec.name
    # a program that is read from a pipe has "<stdin>" for a file
    return (None, None) if main_file is None or not os.path.isfile(main_file) else (os.path.realpath(main_file), None)


def check_names(specs: Sequence[HandlerSpec]) -> None:
    """Raises HandlerSpecError if there is none, or two have one name."""
    if not specs:
        raise HandlerSpecError("no handler given: name at least one as module:attribute")
    names = [spec.name for spec in specs]
    for name in names:
        if names.count(name) > 1:
            raise HandlerSpecError(
                f"two handlers are called {name!r}: name one of them otherwise, other=module:attribute"
            )
