"""Wrappers in the place of functions, under every name that a module has for them, now or when it is imported.

A function that was imported by name stands in several modules, in those of its own library too, and an attribute that is set
in one of them does not reach the others. So every module is looked through, and each entry that *is* the original is replaced;
the way back is the same. What is no entry of a module cannot be found so: closures, default arguments, partials, attributes of
instances.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from mlflow_aifsm.autologging.table import Row

Wrap = Callable[[Row, Callable[..., Any]], Callable[..., Any]]


class Patches:
    """The functions that are wrapped, and those that will be when their module is imported. Threads may share it.

    Args:
        wrap: Makes the wrapper of a function.
    """

    def __init__(self, wrap: Wrap) -> None:
        self._wrap = wrap
        self._rows: tuple[Row, ...] = ()
        self._wrapped: dict[Row, tuple[Any, Any]] = {}
        self._finder = _Finder(self._waiting, self._imported)
        self._changing = threading.RLock()

    def apply(self, rows: Iterable[Row]) -> None:
        """Wraps the functions of ``rows``; those that are wrapped already stay so."""
        with self._changing:
            self._rows = tuple(dict.fromkeys((*self._rows, *rows)))
            if self._finder not in sys.meta_path:
                sys.meta_path.insert(0, self._finder)
            self._wrap_loaded()

    def undo(self) -> None:
        """Puts every function back where its wrapper stands, and waits for no import any more."""
        with self._changing:
            if self._finder in sys.meta_path:
                sys.meta_path.remove(self._finder)
            replace([(wrapper, original) for original, wrapper in self._wrapped.values()])
            self._rows, self._wrapped = (), {}

    def _waiting(self) -> frozenset[str]:
        return frozenset(row.module for row in self._rows if row not in self._wrapped)

    def _imported(self) -> None:
        with self._changing:
            self._wrap_loaded()

    def _wrap_loaded(self) -> None:
        found = {row: original for row in self._rows if row not in self._wrapped and (original := _loaded(row)) is not None}
        made = {row: (original, self._wrap(row, original)) for row, original in found.items()}
        self._wrapped |= made
        replace(list(made.values()))


def replace(pairs: Sequence[tuple[Any, Any]]) -> None:
    """Puts the second of each pair wherever a loaded module has the first."""
    by = {id(old): (old, new) for old, new in pairs}
    for module in list(sys.modules.values()) if by else ():
        if isinstance(module, ModuleType):
            _replace(vars(module), by)


def _replace(names: dict[str, Any], by: Mapping[int, tuple[Any, Any]]) -> None:
    # a copy, as another thread may add names meanwhile; ``by`` keeps what it replaces alive, so that no other has its id
    for name, value in names.copy().items():
        if id(value) in by:
            names[name] = by[id(value)][1]


def _loaded(row: Row) -> Any:
    """The function of a row; None where its module is not imported yet, or has no such function."""
    found = getattr(sys.modules.get(row.module), row.attribute, None)
    return found if callable(found) else None


class _Finder(MetaPathFinder):
    """Sees the import of a module that is waited for, and lets the other finders do it."""

    def __init__(self, waiting: Callable[[], frozenset[str]], imported: Callable[[], None]) -> None:
        self._waiting, self._imported = waiting, imported
        self._asking = threading.local()

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:  # noqa: ARG002
        if fullname not in self._waiting() or getattr(self._asking, "others", False):
            return None
        self._asking.others = True
        try:
            spec = find_spec(fullname)
        finally:
            self._asking.others = False
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, self._imported)
        return spec


class _Loader(Loader):
    """Loads as ``loader`` does, says so, and leaves no trace of itself in the module."""

    def __init__(self, loader: Any, imported: Callable[[], None]) -> None:
        self._loader, self._imported = loader, imported

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        made: ModuleType | None = self._loader.create_module(spec)
        return made

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        self._imported()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)
