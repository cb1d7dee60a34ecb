"""Modules that `make install` has compiled (mypyc), found before their sources as long as these are unchanged.

What was compiled is told by the text of all it was made from: of the modules themselves, and of those they import,
whose types and constants are in it. So it is never loaded for other sources than its own: where one was changed, all
modules run from source until the next `make install`. They do so too where nothing was compiled, and where
`HYBRID_INTERPRETED` is set.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from functools import cached_property
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

INTERPRETED = "HYBRID_INTERPRETED"
ROOT = Path(__file__).parent.parent
SUFFIX = EXTENSION_SUFFIXES[0]
_KEPT = Path("backbone", "__pycache__")


class Made(NamedTuple):
    """What was compiled, and of what.

    Attributes:
        by: the compiler and its release.
        modules: all that the library has, by their full names.
        sources: all that it was made from, relative to the root.
    """

    by: str
    modules: tuple[str, ...]
    sources: tuple[str, ...]

    def folder(self, root: Path) -> Path:
        """Where the library of the sources as they are now is, or would be.

        Raises:
            OSError: one of them is gone.
        """
        from hashlib import blake2b

        read = blake2b(repr((self.by, SUFFIX, self.modules)).encode(), digest_size=8)
        for name in self.sources:
            text = (root / name).read_bytes()
            read.update(f"{name} {len(text)} ".encode())
            read.update(text)
        return root / _KEPT / f"compiled-{read.hexdigest()}"


def note_of(root: Path) -> Path:
    """The file that says what was compiled last."""
    return root / _KEPT / "compiled.json"


class CompiledModules:
    """What was compiled last below a root, and whether it may be loaded. A finder, for `sys.meta_path`."""

    def __init__(self, root: Path = ROOT) -> None:
        self._root = root

    @cached_property
    def made(self) -> Made | None:
        """None: nothing was compiled here."""
        from json import loads

        try:
            by, modules, sources = loads(note_of(self._root).read_bytes())
        except (OSError, ValueError):
            return None
        return Made(by, tuple(modules), tuple(sources))

    @cached_property
    def folder(self) -> Path | None:
        """Where the library is; None: it is not of these sources, or there is none."""
        if self.made is None:
            return None
        try:
            folder = self.made.folder(self._root)
        except OSError:
            return None
        return folder if folder.is_dir() else None

    @property
    def in_use(self) -> bool:
        """Whether this process runs what was compiled."""
        return self in sys.meta_path and self.folder is not None

    def find_spec(self, name: str, *_: Sequence[str] | ModuleType | None) -> ModuleSpec | None:
        """Where Python finds a module; None: where it would without this."""
        if self.made is None or name not in self.made.modules or self.folder is None:
            return None
        return spec_from_file_location(name, self.folder / f"{name.replace('.', '/')}{SUFFIX}")


compiled = CompiledModules()
"""Those of this installation."""


def prefer_compiled() -> None:
    """From now on, find compiled modules first."""
    if compiled not in sys.meta_path and not os.environ.get(INTERPRETED) and compiled.made is not None:
        sys.meta_path.insert(0, compiled)
