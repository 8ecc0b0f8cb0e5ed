"""
From a TARGET, as a person types it, to agents.

    Dockfile.yaml    what it declares; see holdfast.dockfile, which imports its code by `load_reference`
    file.py          every agent that the file defines or imports, graphs of LangGraph and agents of pydantic-ai too;
                     if there is none, the one plain async generator or object with `invoke` in it
    file.py:name     one of them, or a plain function or an object with `invoke`, which becomes an agent of this name
    module           as file.py, found on the import path with the working directory in front
    module:name      as file.py:name; the name may have dots

Nothing here is executed but the module itself. What goes wrong is told so that its author can mend it: which file,
which line, what is expected.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import holdfast
from holdfast.agents.adapting import adapted, is_adaptable, is_runnable
from holdfast.agents.function import FunctionAgent, agent
from holdfast.errors import HoldfastError
from holdfast.execution.program import Program

_PACKAGE: Final = Path(holdfast.__file__).parent


class TargetError(HoldfastError):
    """What was to be served cannot be: the message says what was found where. Nothing was started."""

    code = "invalid_target"


def load_target(target: str) -> list[Program]:
    """
    Import what a TARGET names and return its agents, in the order of their definition.

    Raises:
        TargetError: it does not exist, raises while it is imported, or holds no agent.
    """
    place, attribute = _split(target)
    module = _import_file(place) if isinstance(place, Path) else _import_module(place)
    if attribute:
        return [_named(module, attribute, target)]
    return _agents_of(module, target)


def load_reference(reference: str, folder: Path) -> Any:
    """
    What `module.path:name` is, the module found in this folder first.

    Raises:
        TargetError: it does not exist, raises while it is imported, or is a module of another folder.
    """
    name, _, attribute = reference.partition(":")
    folder = folder.resolve()
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    root = name.partition(".")[0]
    is_here = (folder / root).is_dir() or (folder / f"{root}.py").is_file()
    module = _import_module(name)
    # Python keeps one module of a name; a second folder would be served the code of the first.
    where = _folder_of_module(sys.modules[root])
    if is_here and where is not None and where != folder:
        raise TargetError(f"{reference}: the module {root!r} is that of {where} already; give one of them another name")
    return _attribute_of(module, attribute, reference)


def _folder_of_module(module: ModuleType) -> Path | None:
    if getattr(module, "__file__", None):
        path = Path(str(module.__file__)).resolve()
        return path.parent.parent if path.name == "__init__.py" else path.parent
    roots = list(getattr(module, "__path__", []))  # a package without __init__.py
    return Path(roots[0]).resolve().parent if roots else None


def is_dockfile(target: str) -> bool:
    """Whether a TARGET is a Dockfile and no Python."""
    return target.endswith((".yaml", ".yml"))


def folder_of(target: str) -> Path:
    """The folder whose Python files make up a TARGET: that of the file, or the working directory."""
    if is_dockfile(target):
        return Path(target).resolve().parent
    place, _ = _split(target)
    return place.resolve().parent if isinstance(place, Path) else Path.cwd()


def is_program(value: Any) -> bool:
    """Whether a value is an agent: ours, or any object that keeps the contract `Program`."""
    if isinstance(value, FunctionAgent):
        return True
    if isinstance(value, type | ModuleType):
        return False
    # Looked up on the class: modules hold proxies that invent every attribute they are asked for.
    has_execute = inspect.iscoroutinefunction(getattr(type(value), "execute", None))
    return has_execute and all(hasattr(value, name) for name in ("name", "framework", "restart", "is_sync"))


def _split(target: str) -> tuple[Path | str, str]:
    """A file or a module's name, and what is named in it."""
    head, colon, attribute = target.rpartition(":")
    if not colon:
        head, attribute = target, ""
    # A path such as C:\agents\echo.py has a colon of its own.
    if attribute.endswith(".py") or "/" in attribute or "\\" in attribute:
        head, attribute = target, ""
    path = Path(head)
    if head.endswith(".py"):
        return path, attribute
    if path.suffix in (".yaml", ".yml", ".json", ".toml"):
        raise TargetError(f"{target} is no Python: a target is file.py, module or module:agent")
    if "/" in head or "\\" in head or path.is_file():
        raise TargetError(f"{target} is no target: give a file that ends in .py, a module, or module:agent")
    if not head or not all(part.isidentifier() for part in head.split(".")):
        raise TargetError(f"{target!r} is no target: give file.py, module or module:agent")
    return head, attribute


def _import_file(path: Path) -> ModuleType:
    if path.is_dir():
        raise TargetError(f"{path} is a folder; name the file in it")
    if not path.is_file():
        raise TargetError(f"there is no file {path}{_near(path)}")
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)  # so that the file can import its neighbours, as a script can
    # Under its own name, so that a neighbour that imports it back gets this module and not a second one.
    name = path.stem if path.stem.isidentifier() and path.stem not in sys.modules else f"holdfast_target_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    loader = spec.loader

    def load() -> ModuleType:
        loader.exec_module(module)
        return module

    try:
        return _imported(load, str(path))
    except TargetError:
        sys.modules.pop(name, None)
        raise


def _import_module(name: str) -> ModuleType:
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    importlib.invalidate_caches()
    try:
        is_known = importlib.util.find_spec(name) is not None
    except (ModuleNotFoundError, ValueError):  # the package before the last dot is none
        is_known = False
    except Exception as exc:  # finding a submodule executes its package: the author's code
        raise _failed(exc, name) from exc
    if not is_known:
        near = Path(f"{name}.py")
        hint = f"; did you mean {near}?" if near.is_file() else ""
        raise TargetError(f"there is no module {name!r} in {Path.cwd()} or on Python's path{hint}")
    return _imported(lambda: importlib.import_module(name), name)


def _imported(load: Callable[[], ModuleType], what: str) -> ModuleType:
    try:
        return load()
    except KeyboardInterrupt:
        raise
    except BaseException as exc:  # the author's code may raise anything, SystemExit too
        raise _failed(exc, what) from exc


def _failed(exc: BaseException, what: str) -> TargetError:
    if isinstance(exc, SystemExit):
        guard = "put what is not to be imported under `if __name__ == '__main__':`"
        return TargetError(f"{what} cannot be imported: it ends the process{_line_of(exc)}; {guard}")
    if isinstance(exc, SyntaxError):
        return TargetError(f"{what} cannot be imported: {exc.msg} ({exc.filename}, line {exc.lineno})")
    text = f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__
    return TargetError(f"{what} cannot be imported: {text}{_line_of(exc)}")


def _line_of(exc: BaseException) -> str:
    """Where the author's code raised: the last frame that is neither the import system's nor ours."""
    frames = [
        frame
        for frame in traceback.extract_tb(exc.__traceback__)
        if not frame.filename.startswith("<frozen") and frame.filename not in (__file__, importlib.__file__)
    ]
    authors = [
        frame
        for frame in frames
        if "site-packages" not in frame.filename and not Path(frame.filename).is_relative_to(_PACKAGE)
    ] or frames
    return f" ({authors[-1].filename}, line {authors[-1].lineno})" if authors else ""


def _attribute_of(module: ModuleType, attribute: str, target: str) -> Any:
    value: Any = module
    for part in attribute.split("."):
        try:
            value = getattr(value, part)
        except AttributeError:
            names = [name for name in vars(module) if not name.startswith("_")]
            raise TargetError(
                f"{target}: there is no {attribute!r} in {module.__name__}{_close(attribute, names)}"
            ) from None
    return value


def _agents_of(module: ModuleType, target: str) -> list[Program]:
    """The module's agents; if it has none, the one object in it that could be."""
    unique: dict[int, tuple[str, Any]] = {}
    for name, value in vars(module).items():
        if is_program(value) or (is_adaptable(value) and not name.startswith("_")):
            unique.setdefault(id(value), (name, value))
    if unique:
        return [_adapted(value, name, target) for name, value in unique.values()]
    others = {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_") and (_is_own_generator(value, module) or is_runnable(value))
    }
    if not others:
        raise TargetError(f"{target} holds no agent: {_how_to_make_one(module, target)}")
    if len(others) > 1:
        named = " or ".join(f"{target}:{name}" for name in others)
        raise TargetError(f"{target} holds {len(others)} objects that could be its agent; name one: {named}")
    [(name, value)] = others.items()
    return [_adapted(value, name, target)]


def _is_own_generator(value: Any, module: ModuleType) -> bool:
    return inspect.isasyncgenfunction(value) and value.__module__ == module.__name__


def _adapted(value: Any, name: str, target: str) -> Program:
    """An agent as it is; a function, or an object of another library, as an agent of this name."""
    if is_program(value):
        program: Program = value
        return program
    if not is_runnable(value):
        return _made(value, target)
    try:
        return adapted(value, name)
    except (ValueError, ImportError) as exc:
        raise TargetError(f"{target}: {name} cannot be an agent: {exc}") from exc


def _named(module: ModuleType, attribute: str, target: str) -> Program:
    value = _attribute_of(module, attribute, target)
    is_function = inspect.isroutine(value) or inspect.isfunction(getattr(value, "func", None))
    if is_program(value) or is_runnable(value) or is_function:
        return _adapted(value, attribute.rpartition(".")[2], target)
    raise TargetError(
        f"{target}: {attribute!r} is no agent but {_a(type(value).__name__)}; put @agent above a function and name that"
    )


def _made(function: Callable[..., Any], target: str) -> Program:
    try:
        return agent(function)
    except (TypeError, ValueError, AttributeError) as exc:
        raise TargetError(f"{target} cannot be an agent: {exc}") from exc


def _how_to_make_one(module: ModuleType, target: str) -> str:
    functions = [
        name
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__ and not name.startswith("_")
    ]
    named = f", or name one: {target}:{functions[-1]}" if functions else ""
    return f"put @agent (from holdfast import agent) above a function{named}"


def _near(path: Path) -> str:
    siblings = [item.name for item in path.parent.glob("*.py")] if path.parent.is_dir() else []
    return _close(path.name, siblings)


def _close(name: str, names: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(names), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _a(noun: str) -> str:
    return f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"
