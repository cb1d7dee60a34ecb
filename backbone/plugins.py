"""Plug-ins found by their folder: one module, one `SPEC`, no list to edit."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from types import ModuleType
from typing import Any

from backbone.errors import ConfigurationError, UnknownName


def names(package: ModuleType) -> tuple[str, ...]:
    """The plug-ins of a kind, in alphabetical order, without importing any of them."""
    return tuple(sorted(m.name for m in pkgutil.iter_modules(package.__path__) if not m.name.startswith("_")))


def load(package: ModuleType, name: str) -> Any:
    """The `SPEC` of one plug-in; imports that module only, so others may need what is not installed.

    Raises:
        UnknownName: no module of that name lies in the package; the error lists those that do.
        ConfigurationError: the module has no `SPEC`, or its `SPEC` names another plug-in.
    """
    place = f"{package.__name__}.{name}"
    module = sys.modules.get(place)  # one that was asked for before need not be looked for in its folder again
    if module is None:
        known = names(package)
        if name not in known:
            kind = package.__name__.rpartition(".")[2].removesuffix("s")
            raise UnknownName(kind, name, known, next_step=f"Use one of these, or add {name}.py beside them.")
        module = importlib.import_module(place)
    spec = getattr(module, "SPEC", None)
    if getattr(spec, "name", None) != name:
        raise ConfigurationError(
            f"{module.__name__} has no SPEC named {name!r}.",
            next_step="Give the module one SPEC whose name is the module's own.",
        )
    return spec
