"""Link the compiled kernels to a library: `python -m maintenance.link_kernels`, which `make install` does.

Numba compiles them, LLVM writes them as object files, and the system's C compiler links these to a library that
loads without Numba and LLVM: half a second and 130 MB less in every process. Where there is no C compiler, they are
compiled all the same, and Numba loads them.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from maintenance.kernel_code import ENTRIES, compiled_entry, from_library, from_numba, library_path


def link(library: Path, compiler: str) -> None:
    """Write the library, for this machine's processor.

    Raises:
        subprocess.CalledProcessError: the compiler did not link it.
        OSError: the library cannot be written, or does not load.
    """
    library.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=library.parent) as scratch:
        linked, objects = Path(scratch) / library.name, [Path(scratch) / f"{name}.o" for name in ENTRIES]
        for name, path in zip(ENTRIES, objects, strict=True):
            path.write_bytes(_object_file(name, compiled_entry(name, kept=False)))
        subprocess.run([compiler, "-shared", "-o", linked, *objects, "-lm"], check=True)  # noqa: S603
        from_library(linked)
        linked.replace(library)


def _object_file(name: str, entry: Any) -> bytes:
    """One entry of the kernel as an object file that exports it by name, and nothing else."""
    from llvmlite import binding as llvm  # type: ignore[import-untyped]

    module = llvm.parse_assembly(entry.inspect_llvm())
    for function in module.functions:
        if function.name == entry.native_name:
            function.name = name
        elif not function.is_declaration:
            function.linkage = "internal"
    for variable in module.global_variables:
        if not variable.is_declaration:
            variable.linkage = "internal"
    machine = llvm.Target.from_triple(module.triple).create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=3, reloc="pic"
    )
    # Seen as a whole, the kernel raises nothing: what Numba has added to raise it in Python goes, and Python with it.
    passes = llvm.create_new_module_pass_manager()
    passes.add_ipsccp_pass()
    passes.add_simplify_cfg_pass()
    passes.add_global_dead_code_eliminate_pass()
    passes.run(module, llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options()))
    return machine.emit_object(module)


def main() -> None:
    library, compiler = library_path(), shutil.which("cc")
    if library.is_file():
        return
    why = "There is no C compiler (cc)."
    if compiler is not None:
        try:
            return link(library, compiler)
        except (subprocess.CalledProcessError, OSError) as error:
            why = str(error)
    print(f"{why} The compiled kernels are no library: Numba loads them, at half a second and 130 MB a process.")
    from_numba()  # compiles and keeps them


if __name__ == "__main__":
    main()
