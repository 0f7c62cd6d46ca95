"""Imports handlers, once, in the zygote, before anything is forked: specs in, LoadedHandlers out.

A handler that cannot work is refused here, at the start and not at its first task, with a text that says what is wrong.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.machinery import ModuleSpec, SourceFileLoader
from types import CodeType, ModuleType
from typing import TYPE_CHECKING, Any

from mpfora.child.run.error_report import describe
from mpfora.child.run.loaded_handler import Form, LoadedHandler, open_files
from mpfora.config import handler_spec
from mpfora.config.handler_spec import NOTHING, HandlerSpec, Preload
from mpfora.handlers import PROPS_ATTRIBUTE, SETTINGS_ATTRIBUTE, Handler, HandlerSettings

if TYPE_CHECKING:
    from mpfora.child.schema import Schema

#: the name under which a running script is imported a second time, as multiprocessing's spawn does
_MAIN = "__mp_main__"
#: the attribute of a Form.CONDUCTOR
CONDUCTS = "__mpfora_conducts__"


class LoadError(Exception):
    """A handler that cannot be imported or called. str() is one line for people; `spec` is the spec as it is typed,
    and `traceback` ends in that line, with the frames of the user's code where there are any."""

    def __init__(self, spec: HandlerSpec, text: str, traceback: str = "") -> None:
        self.spec = _as_typed(spec)
        super().__init__(f"{'handler' if spec.attribute else 'preload'} {self.spec}: {text}")
        self.traceback = f"{traceback.rstrip()}\n{self}" if traceback else str(self)


def load_handlers(specs: Sequence[HandlerSpec], preload: Preload = NOTHING) -> dict[str, LoadedHandler]:
    """Import what is to be there besides, and every handler, in order; the answer is by name. Called once, by the
    zygote. Raises LoadError for the first that fails. The current directory, if there is one, is importable, as it is
    for `python -m`."""
    if (folder := _current_folder()) is not None:
        _make_importable(folder)
    before = open_files()
    handler_spec.is_importing = True
    _preload(preload)
    found = [(spec, _find(spec)) for spec in specs]
    handler_spec.is_importing = False
    opened = tuple(sorted(open_files() - before, key=lambda file: file.fd))
    return {
        spec.name: LoadedHandler(
            spec.name, target, _settings_of(target), _form_of(spec, target), opened, _schema_of(spec, target)
        )
        for spec, target in found
    }


def _preload(preload: Preload) -> None:
    for name in preload.needed:
        _import(HandlerSpec(name, name, ""))
    tried = [HandlerSpec(name, name, "") for name in preload.tried]
    if preload.main_path or preload.main_module:
        tried.append(HandlerSpec(_MAIN, _MAIN, "", preload.main_path, preload.main_module))
    for spec in tried:
        with suppress(LoadError):  # the call that needs it imports it again, and shows why it cannot
            _import(spec)


def import_main(path: str | None, module: str | None) -> None:
    """The running script, as __mp_main__, if it is not there yet. Raises LoadError."""
    if _MAIN not in sys.modules:
        handler_spec.is_importing = True
        try:
            _import(HandlerSpec(_MAIN, _MAIN, "", path, module))
        finally:
            handler_spec.is_importing = False


def _as_typed(spec: HandlerSpec) -> str:
    if not spec.attribute:
        return spec.name
    typed = f"{spec.module}:{spec.attribute}"
    return typed if spec.name == typed else f"{spec.name}={typed}"


def _current_folder() -> str | None:
    """None: it was removed, as deploys do, or may not be looked into any more."""
    try:
        return os.getcwd()
    except OSError:
        return None


def _make_importable(folder: str) -> None:
    if folder not in sys.path:
        sys.path.insert(0, folder)


# -- importing --------------------------------------------------------------------------------------------------------


def _find(spec: HandlerSpec) -> Any:
    module = _import(spec)
    target: Any = module
    path = spec.module
    for part in spec.attribute.split("."):
        try:
            target = getattr(target, part)
        except AttributeError:
            raise LoadError(spec, f"{path} has no attribute {part!r}{_hint(part, target)}") from None
        path = f"{path}.{part}"
    return target


def _hint(name: str, holder: Any) -> str:
    import difflib  # not for every zygote: what it holds is copied in part at each fork

    close = difflib.get_close_matches(name, [known for known in dir(holder) if not known.startswith("__")], n=1)
    return f": is {close[0]!r} meant?" if close else ""


def _import(spec: HandlerSpec) -> ModuleType:
    """The spec's module. Whatever its import raises, SystemExit and KeyboardInterrupt included, becomes a
    LoadError."""
    try:
        if spec.main_path is not None or spec.main_module is not None:
            return _import_main(spec)
        return importlib.import_module(spec.module)
    except LoadError:
        raise
    except BaseException as error:  # a module that leaves by sys.exit must not take the zygote along unsaid
        raise LoadError(spec, _import_problem(spec, error), describe(error).traceback) from error


def _import_problem(spec: HandlerSpec, error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name and f"{spec.module}.".startswith(f"{error.name}."):
        where = _current_folder() or "the folder that the node was started in (it is gone, or may not be looked into)"
        return f"there is no module {error.name!r}, neither in {where} nor elsewhere on sys.path"
    if isinstance(error, SystemExit):
        return f"its import calls sys.exit({error.code!r}): put that under `if __name__ == '__main__':`"
    from mpfora.shadowed_modules import describe_shadows  # not for every zygote, too

    return "; ".join(filter(None, (f"its import fails: {describe(error).text}", describe_shadows())))


def _import_main(spec: HandlerSpec) -> ModuleType:
    """The script that was run, again, as __mp_main__: what stands under `if __name__ == "__main__":` is left out.

    It is registered as __main__, too: objects pickled by the script itself name that module."""
    known = sys.modules.get(_MAIN)
    if known is not None:
        return known
    module, code = _main_by_name(spec, spec.main_module) if spec.main_module else _main_by_path(spec)
    _replaced_mains.append(sys.modules["__main__"])
    sys.modules[_MAIN] = sys.modules["__main__"] = module
    try:
        exec(code, module.__dict__)
    except BaseException:
        del sys.modules[_MAIN]
        sys.modules["__main__"] = _replaced_mains.pop()
        raise
    return module


#: keeps the zygote's own main module, and the objects in it, alive
_replaced_mains: list[ModuleType] = []


def _main_by_path(spec: HandlerSpec) -> tuple[ModuleType, CodeType]:
    """A script has no __spec__: multiprocessing, when the handler uses it, finds the script by __file__ then."""
    path = spec.main_path or ""
    _make_importable(os.path.dirname(path))
    code = SourceFileLoader(_MAIN, path).get_code(_MAIN)
    if code is None:
        raise LoadError(spec, f"{path} cannot be run as a script: put the handler into a module")
    module = ModuleType(_MAIN)
    module.__file__ = path
    return module, code


def _main_by_name(spec: HandlerSpec, name: str) -> tuple[ModuleType, CodeType]:
    found = importlib.util.find_spec(name) if name != "__main__" else None
    code = _code_of(found, name) if found else None
    if found is None or code is None:
        raise LoadError(spec, f"the running module {name!r} cannot be imported again: put the handler into a module")
    module = ModuleType(_MAIN)
    module.__file__, module.__package__, module.__spec__ = found.origin, found.parent, found
    return module, code


def _code_of(found: ModuleSpec, name: str) -> CodeType | None:
    """Of a loader that can tell. (To ask whether it is an importlib.abc.InspectLoader would import a dozen modules.)"""
    get_code = getattr(found.loader, "get_code", None)
    return None if get_code is None else get_code(name)


# -- checking ---------------------------------------------------------------------------------------------------------


def _settings_of(target: Any) -> HandlerSettings:
    settings = _declared(target, SETTINGS_ATTRIBUTE)
    return settings if isinstance(settings, HandlerSettings) else HandlerSettings()


def _schema_of(spec: HandlerSpec, target: Any) -> Schema | None:
    declared = _declared(target, PROPS_ATTRIBUTE)
    if declared is None:
        return None
    from mpfora.child.schema import compile_schema  # not for every zygote, too
    from mpfora.child.schema.readers import BadSpec

    try:
        return compile_schema(declared)
    except BadSpec as error:
        raise LoadError(spec, f"handler(props=...): {error}") from None


def _declared(target: Any, attribute: str) -> Any:
    while not hasattr(target, attribute) and hasattr(target, "func"):  # functools.partial
        target = target.func
    return getattr(target, attribute, None)


def _form_of(spec: HandlerSpec, target: Any) -> Form:
    if getattr(target, CONDUCTS, False):
        return Form.CONDUCTOR
    if inspect.isclass(target):
        return _form_of_class(spec, target)
    if not callable(target):
        kind = type(target).__name__
        raise LoadError(spec, f"is of type {kind}: a function or a subclass of mpfora.Handler is needed")
    for function in (target, getattr(target, "__call__", None)):  # noqa: B004 - the method itself is looked at
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise LoadError(spec, "is a generator (it has `yield`): calling it would run nothing; return the result")
    if not _takes(target, 2):
        raise LoadError(spec, f"must accept (task, ctx), but is declared as {_signature(target)}")
    return Form.FUNCTION


def _form_of_class(spec: HandlerSpec, cls: type) -> Form:
    if not issubclass(cls, Handler):
        raise LoadError(spec, "is a class, but not a subclass of mpfora.Handler")
    missing = sorted(getattr(cls, "__abstractmethods__", ()))
    if missing:
        raise LoadError(spec, f"is abstract: it lacks {', '.join(f'{name}()' for name in missing)}")
    for method in (cls.run, cls.stop):
        if inspect.iscoroutinefunction(method) or inspect.isgeneratorfunction(method):
            raise LoadError(spec, f"{method.__name__}() must be a plain method; for asyncio write an async function")
    for form, arguments in ((Form.CLASS_CTX, 2), (Form.CLASS, 1)):
        if _takes(cls, arguments):
            return form
    raise LoadError(spec, f"must be made with (task) or (task, ctx), but is declared as {_signature(cls)}")


def _takes(target: Callable[..., Any], arguments: int) -> bool:
    try:
        inspect.signature(target).bind(*[None] * arguments)
    except TypeError:
        return False
    except ValueError:  # written in C and without a signature: its first call will show
        return True
    return True


def _signature(target: Callable[..., Any]) -> str:
    return str(inspect.signature(target))
