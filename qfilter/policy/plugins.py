"""Conditions written in Python, loaded only from files that nobody else could have written.

The policy is read by root and its plugins run as root: whoever can change a plugin's file, or put another in its place,
is root. So every folder on the way, every symbolic link and the file itself are opened one inside the other and judged
by the open descriptor; what runs is what was read from the descriptor that was judged, not what a path says later.
"""

from __future__ import annotations

import importlib
import os
import re
import stat
import sys
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from importlib.abc import InspectLoader
from importlib.machinery import ModuleSpec
from importlib.util import decode_source, find_spec, module_from_spec
from pathlib import Path
from types import CodeType, ModuleType
from typing import TypeVar

from qfilter import predicates
from qfilter.errors import is_interrupt, words_of
from qfilter.model.rule import Predicate
from qfilter.policy.node import Node
from qfilter.policy.problems import nearest
from qfilter.policy.scope import Scope
from qfilter.policy.values import quoted

MAX_SOURCE = 1 << 20
"""Bytes of a plugin's file."""
_MAX_LINKS = 40
_T = TypeVar("_T")
_NAME = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):([A-Za-z_]\w*)", re.ASCII)


class _RefusedError(Exception):
    """A plugin that must not or cannot be loaded; the message says why."""


def load(name: str, node: Node, scope: Scope) -> Predicate | None:
    """The function that `module:function` names, or None after a problem.

    `module` is a file of the policy's folder, where dots are folders, or else an installed module. A function that was
    decorated with `predicate` keeps its needs, and what a plugin registers has a name in its policy, and there alone.
    A plugin's import runs its code: its errors become problems.
    """
    found = _NAME.fullmatch(name)
    if found is None:
        scope.problems.error("plugin", node, f"python {quoted(name)}: expected module:function")
        return None
    module_name, function_name = found.groups()
    try:
        module = _module(module_name, scope.folder)
        function = _foreign(partial(getattr, module, function_name, None))
        if not callable(function):
            meant = nearest(function_name, [key for key, value in vars(module).items() if callable(value)])
            message = f"python {quoted(name)}: {module_name} has no function {function_name!r}"
            scope.problems.error("plugin", node, message, suggestion=meant and f"{module_name}:{meant}")
            return None
        for one in predicates.own(module).values():
            predicates.enter(one, scope.predicates)
    except (_RefusedError, ValueError) as error:
        scope.problems.error("plugin", node, f"python {quoted(name)}: {error}")
        return None
    return Predicate(name, predicates.needs(function), function)


def _module(name: str, folder: str) -> ModuleType:
    path = Path.cwd() / folder / (name.replace(".", "/") + ".py")
    try:
        with ExitStack() as stack:
            handle, refusals = _walk(path, stack)
            if handle is None:
                return _installed(name, path)
            if refusals:
                raise _RefusedError(refusals[0])
            source, real = _content(handle)
    except OSError as error:
        raise _RefusedError(f"{path}: {error.strerror}") from None
    return _run(source, real)


# Files


def _walk(path: Path, stack: ExitStack) -> tuple[int | None, list[str]]:
    """The file, as a descriptor of the stack, or None without one; and what is wrong with it or a folder on the way."""
    refusals: list[str] = []
    pending = [*reversed(path.parts[1:])]
    links = 0
    root = here = _open("/", None, stack)
    _judge(root, refusals)
    while pending:
        try:
            inside = _open(pending.pop(), here, stack)
        except FileNotFoundError:
            return None, refusals
        _judge(inside, refusals)
        if not stat.S_ISLNK(os.fstat(inside).st_mode):
            here = inside
            continue
        links += 1
        if links > _MAX_LINKS:
            raise _RefusedError(f"{path}: more than {_MAX_LINKS} symbolic links")
        target = Path(os.readlink("", dir_fd=inside))
        pending.extend(reversed(target.parts[1:] if target.is_absolute() else target.parts))
        here = root if target.is_absolute() else here
    return here, refusals


def _open(name: str, folder: int | None, stack: ExitStack) -> int:
    handle = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    stack.callback(os.close, handle)
    return handle


def _judge(handle: int, refusals: list[str]) -> None:
    """Note who else could change what is behind a descriptor. A sticky folder is no exception: others add files."""
    status = os.fstat(handle)
    if status.st_uid not in (0, os.geteuid()):
        refusals.append(f"{_real(handle)} belongs to user {status.st_uid}: expected root or the user who runs qfilter")
    if status.st_mode & 0o022 and not stat.S_ISLNK(status.st_mode):
        mode = stat.S_IMODE(status.st_mode)
        refusals.append(
            f"{_real(handle)} can be written by others (mode {mode:04o}): expected at most {mode & ~0o022:04o}"
        )


def _real(handle: int) -> str:
    return str(Path(f"/proc/self/fd/{handle}").readlink())


def _content(handle: int) -> tuple[bytes, str]:
    """What is in a plain file, and its path."""
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        raise _RefusedError(f"{_real(handle)} is not a plain file")
    with open(f"/proc/self/fd/{handle}", "rb") as file:  # noqa: PTH123 - the file that was judged, whatever its name is now
        source = file.read(MAX_SOURCE + 1)
    if len(source) > MAX_SOURCE:
        raise _RefusedError(f"{_real(handle)} has more than {MAX_SOURCE} bytes")
    return source, _real(handle)


# Modules


class _Checked(InspectLoader):
    """Loads a module from source that was read before."""

    def __init__(self, source: bytes, path: str) -> None:
        self.source = source
        self._path = path

    def get_source(self, fullname: str) -> str:
        return decode_source(self.source)

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.source, self._path)


def _run(source: bytes, path: str) -> ModuleType:
    """The module of that source; one that runs already is not run again."""
    name = f"qfilter plugin {path}"
    running = sys.modules.get(name)
    if running is not None and isinstance(running.__loader__, _Checked) and running.__loader__.source == source:
        return running
    loader = _Checked(source, path)
    module = module_from_spec(ModuleSpec(name, loader, origin=path))
    predicates.keep_apart(module)
    sys.modules[name] = module
    try:
        _foreign(partial(loader.exec_module, module))
    except BaseException:
        del sys.modules[name]
        if running is not None:
            sys.modules[name] = running
        raise
    return module


def _installed(name: str, instead_of: Path) -> ModuleType:
    """An installed module; the packages around it are judged before they are imported, each before the next."""
    parts = name.split(".")
    module: ModuleType | None = None
    for package in (".".join(parts[: end + 1]) for end in range(len(parts))):
        spec = _foreign(partial(find_spec, package))
        if spec is None:
            raise _RefusedError(f"expected the file {instead_of} or an installed module {package!r}")
        files = [*(spec.submodule_search_locations or ()), spec.origin if spec.has_location else None, spec.cached]
        for file in filter(None, files):
            with ExitStack() as stack:
                _, refusals = _walk(Path.cwd() / file, stack)
            if refusals:
                raise _RefusedError(refusals[0])
        module = _foreign(partial(importlib.import_module, package))
    assert module is not None
    return module


def _foreign(call: Callable[[], _T]) -> _T:
    """Run code that is not ours, which may raise anything."""
    try:
        return call()
    except BaseException as error:
        if is_interrupt(error):
            raise
        where = traceback.extract_tb(error.__traceback__)[-1]
        at = (
            f"{error.filename}:{error.lineno}" if isinstance(error, SyntaxError) else f"{where.filename}:{where.lineno}"
        )
        raise _RefusedError(f"importing it raised {type(error).__name__} at {at}: {words_of(error)}") from error
