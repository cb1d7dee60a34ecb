"""Compile the modules that readings pass through: `python -m backbone.compile_modules`, which `make install` does.

mypyc turns typed Python into C, and the system's C compiler turns that into extension modules. Which modules those are
stands in `pyproject.toml`, at `[tool.hybrid]`. Where they cannot be compiled, all runs from source.
"""

from __future__ import annotations

import ast
import contextlib
import importlib.metadata
import importlib.util
import io
import json
import os
import shutil
import sysconfig
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

from backbone.compiled_modules import INTERPRETED, ROOT, CompiledModules, Made, note_of

GROUP = "hybrid"
LIBRARY = f"{GROUP}__mypyc"
"""All modules in one: what each holds is called by the others without Python in between."""
_TYPES = "[mypy]\nfollow_imports = skip\nignore_missing_imports = True\n"
"""All that is ours is named; what others ship without stubs is not looked into, which takes a second instead of ten."""
_ONLY_TYPES = "[mypy-{}]\nignore_errors = True\n"
"""Of what is not compiled itself: `mypy` as the project has it set up knows more of it."""
_OPTIMIZED = "1"
"""Beyond, compiling takes twice as long, and no benchmark tells the difference."""
_PARALLEL, _FOLDERS_KEPT = 2, 2


def listed(root: Path) -> list[str]:
    """The modules to compile."""
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hybrid"]["compiled"]


def to_make(root: Path, modules: Sequence[str]) -> Made:
    """What compiling them makes, and of which sources."""
    sources = sorted(_sources(root, modules))
    by = f"mypyc {importlib.metadata.version('mypy')} -O{_OPTIMIZED}"
    return Made(by, (LIBRARY, *sorted(modules)), tuple(sources))


def compile_modules(root: Path, made: Made) -> None:
    """Compile, and note it. What was compiled before stays for processes that run; what came before that goes.

    Raises:
        SystemExit: they cannot be compiled; it was said why.
    """
    folder, note = made.folder(root), note_of(root)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        build = Path(scratch)
        if not folder.is_dir():
            _build(root, made, build)
            (build / "lib").rename(folder)
        (build / "note").write_text(json.dumps(made), encoding="utf-8")
        (build / "note").replace(note)
    for old in sorted(folder.parent.glob("compiled-*/"), key=lambda each: each.stat().st_mtime)[:-_FOLDERS_KEPT]:
        if old != folder:
            shutil.rmtree(old)


def _build(root: Path, made: Made, build: Path) -> None:
    """The extension modules, in `lib` of a folder."""
    os.environ.setdefault("CC", "cc")
    import setuptools  # type: ignore[import-untyped]  # isort: skip - mypyc asks whether it is there
    from mypyc.build import mypycify

    os.chdir(root)  # files are named relative to it, in tracebacks too
    compiled = [_file(name) for name in made.modules if name != LIBRARY]
    others = [_ONLY_TYPES.format(_module(file)) for file in made.sources if file not in compiled]
    (build / "mypy.ini").write_text("".join((_TYPES, *others)), encoding="utf-8")
    extensions = mypycify(
        [f"--config-file={build / 'mypy.ini'}", *made.sources],
        only_compile_paths=compiled,
        opt_level=_OPTIMIZED,
        debug_level="0",
        target_dir=str(build / "c"),
        group_name=GROUP,
    )
    for extension in extensions:  # what a newer compiler warns of is no reason to go without
        extension.extra_compile_args = [flag for flag in extension.extra_compile_args if flag != "-Werror"]
    distribution = setuptools.Distribution({"name": GROUP, "ext_modules": extensions})
    command = distribution.get_command_obj("build_ext")
    command.build_lib, command.build_temp, command.parallel = str(build / "lib"), str(build / "o"), _PARALLEL
    distribution.run_command("build_ext")


def _file(module: str) -> str:
    return f"{module.replace('.', '/')}.py"


def _module(file: str) -> str:
    return file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _sources(root: Path, modules: Sequence[str]) -> set[str]:
    """The modules' files, and those of ours that they import, and so on."""
    found: set[str] = set()
    waiting = list(modules)
    while waiting:
        parts = waiting.pop().split(".")
        for depth in range(1, len(parts) + 1):  # a module's packages as well
            file = _source(root, ".".join(parts[:depth]))
            if file is not None and file not in found:
                found.add(file)
                waiting += _imported((root / file).read_bytes())
    return found


def _source(root: Path, module: str) -> str | None:
    path = module.replace(".", "/")
    return next((name for name in (f"{path}.py", f"{path}/__init__.py") if (root / name).is_file()), None)


def _imported(text: bytes) -> Iterator[str]:
    """Names that may be modules."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield from (f"{node.module}.{each.name}" for each in node.names)


def _why_not() -> str | None:
    """What is missing here."""
    if shutil.which("cc") is None:
        return "There is no C compiler (cc)."
    if not Path(sysconfig.get_path("include"), "Python.h").is_file():
        return "Python's headers are not installed."
    if any(importlib.util.find_spec(name) is None for name in ("mypyc", "setuptools")):
        return "mypyc and setuptools are not installed."
    return None


def main() -> None:
    if os.environ.get(INTERPRETED):
        return
    why = _why_not()
    if why is None:
        made, there = to_make(ROOT, listed(ROOT)), CompiledModules(ROOT)
        if there.made == made and there.folder is not None:
            return
        said = io.StringIO()
        try:
            with contextlib.redirect_stdout(said):
                return compile_modules(ROOT, made)
        except (SystemExit, Exception) as error:
            print(said.getvalue(), end="")
            why = f"Compiling failed: {error}."
    print(f"{why} The gateway runs from source, and takes in fewer readings a second.")


if __name__ == "__main__":
    main()
