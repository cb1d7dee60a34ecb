"""Modules that `make install` has compiled: they are what runs, and never in place of other sources than their own."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from backbone.compile_modules import listed
from backbone.compiled_modules import INTERPRETED, ROOT, CompiledModules

PACKAGES = ("backbone", "gateway", "maintenance")
HERE = CompiledModules()

needs_them = pytest.mark.skipif(HERE.folder is None, reason="make install has compiled nothing of these sources")
needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")

WHERE = """
import importlib, sys
for name in sys.argv[1:]:
    print(importlib.import_module(name).__file__)
"""


def python(root: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    own = {name: value for name, value in os.environ.items() if name != INTERPRETED}
    return subprocess.run(
        [sys.executable, *arguments], cwd=root, env=own | environment, capture_output=True, text=True, timeout=120
    )


def loaded_from(root: Path, modules: Sequence[str], **environment: str) -> list[Path]:
    done = python(root, "-c", WHERE, *modules, **environment)
    assert done.returncode == 0, done.stderr
    return [Path(line) for line in done.stdout.splitlines()]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """This installation elsewhere, with what was compiled."""
    for name in PACKAGES:
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


@needs_them
def test_every_module_that_is_listed_runs_compiled() -> None:
    assert HERE.folder is not None
    files = loaded_from(ROOT, listed(ROOT))
    assert len(files) == len(listed(ROOT)) > 0
    assert all(file.suffix == ".so" and file.is_relative_to(HERE.folder) for file in files)


@needs_them
@pytest.mark.parametrize("first", ["gateway.intake", "maintenance.advisories", "backbone.fallback", "cli.main"])
def test_whatever_is_imported_first(first: str) -> None:
    assert {file.suffix for file in loaded_from(ROOT, [first, *listed(ROOT)])[1:]} == {".so"}


@needs_them
def test_all_run_from_source_where_that_is_asked_for() -> None:
    files = loaded_from(ROOT, listed(ROOT), **{INTERPRETED: "1"})
    assert files == [ROOT / f"{name.replace('.', '/')}.py" for name in listed(ROOT)]


@needs_them
@pytest.mark.parametrize("changed", ["gateway/records.py", "gateway/decoding.py"])
def test_a_changed_source_has_all_run_from_source(copy: Path, changed: str) -> None:
    """The second is not compiled itself, but compiled modules hold its types."""
    assert {file.suffix for file in loaded_from(copy, listed(copy))} == {".so"}
    text = (copy / changed).read_bytes()
    (copy / changed).write_bytes(text + b"\nCHANGED = True\n")
    assert loaded_from(copy, listed(copy)) == [copy / f"{name.replace('.', '/')}.py" for name in listed(copy)]
    (copy / changed).write_bytes(text)
    assert {file.suffix for file in loaded_from(copy, listed(copy))} == {".so"}


@needs_them
def test_what_was_compiled_is_not_compiled_again(copy: Path) -> None:
    done = python(copy, "-m", "backbone.compile_modules", PATH=_with_compiler_that_fails(copy))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@needs_them
@needs_compiler
@pytest.mark.slow
def test_where_compiling_fails_one_line_says_so_and_nothing_stops(copy: Path) -> None:
    (copy / "gateway" / "records.py").write_text("number: int = 'none'\n")
    done = python(copy, "-m", "backbone.compile_modules")
    assert done.returncode == 0
    assert "gateway/records.py:1: error: Incompatible types" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("Compiling failed")
    assert sorted(path.name for path in (copy / "backbone" / "__pycache__").glob("tmp*")) == []


def test_without_a_compiler_one_line_says_so(copy: Path) -> None:
    shutil.rmtree(copy / "backbone" / "__pycache__", ignore_errors=True)
    done = python(copy, "-m", "backbone.compile_modules", PATH="")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("There is no C compiler (cc).")
    assert {file.suffix for file in loaded_from(copy, listed(copy))} == {".py"}


@needs_compiler
@pytest.mark.slow
def test_what_is_compiled_is_loaded_until_its_source_is_changed(tmp_path: Path) -> None:
    """Two modules of two packages, one of which calls the other, from nothing."""
    for package, text in (
        ("lower", "def half(number: int) -> int:\n    assert number % 2 == 0, number\n    return number // 2\n"),
        ("upper", "from lower.part import half\n\n\ndef quarter(number: int) -> int:\n    return half(half(number))\n"),
    ):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").touch()
        (tmp_path / package / "part.py").write_text(text)
    (tmp_path / "pyproject.toml").write_text('[tool.hybrid]\ncompiled = ["lower.part", "upper.part"]\n')
    compiling = f"""
from pathlib import Path
from backbone.compile_modules import compile_modules, listed, to_make

root = Path({str(tmp_path)!r})
compile_modules(root, to_make(root, listed(root)))
"""
    done = python(ROOT, "-c", compiling)
    assert done.returncode == 0, done.stdout + done.stderr

    running = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from backbone.compiled_modules import CompiledModules

sys.meta_path.insert(0, CompiledModules(Path({str(tmp_path)!r})))
import upper.part, lower.part
print(upper.part.quarter(12), Path(upper.part.__file__).suffix, Path(lower.part.__file__).suffix)
upper.part.quarter(6)
"""
    done = python(tmp_path, "-c", running)
    assert done.stdout.split() == ["3", ".so", ".so"]
    assert 'File "upper/part.py", line 5, in quarter' in done.stderr
    assert 'File "lower/part.py", line 2, in half' in done.stderr

    (tmp_path / "lower" / "part.py").write_text("def half(number: int) -> int:\n    return number // 4\n")
    assert python(tmp_path, "-c", running).stdout.split() == ["0", ".py", ".py"]
    assert python(ROOT, "-c", compiling).returncode == 0
    assert python(tmp_path, "-c", running).stdout.split() == ["0", ".so", ".so"]


@needs_them
@pytest.mark.slow
def test_what_readings_pass_through_does_the_same_from_source() -> None:
    """Beside this run, in which it is compiled."""
    tests = [
        f"tests/gateway/test_{subject}.py"
        for subject in (
            "acknowledged", "contract_check", "decoding", "intake", "mqtt_packets", "plain_payloads", "power_cuts",
            "sequences", "spool",
        )
    ]  # fmt: skip
    options = ("-q", "-p", "no:cacheprovider", "--numprocesses", "0", "-m", "not slow")
    done = python(ROOT, "-m", "pytest", *options, *tests, **{INTERPRETED: "1"})
    assert done.returncode == 0, done.stdout


def _with_compiler_that_fails(root: Path) -> str:
    """A `PATH` on which there is a compiler, which must not be called."""
    (root / "bin").mkdir()
    (root / "bin" / "cc").write_text("#!/bin/sh\necho called >&2\nexit 1\n")
    (root / "bin" / "cc").chmod(0o755)
    return f"{root / 'bin'}:{os.environ['PATH']}"
