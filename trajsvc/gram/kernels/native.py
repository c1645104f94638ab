"""Compile LLVM functions to addresses that can be called: once for a machine, kept as object code in the user's cache.

The object code is a plain file named after all that it depends on: the source of the routines, the version of LLVM, the
processor and its features. It is native code, so a file is loaded only if it and its folder belong to this user and
nobody else may write them. Several processes may compile at once: each writes a file of its own and renames it into
place.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import stat
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Final, cast

import numpy as np

from storage_schema.files.regular import read_file

FOLDER: Final = "TRAJSVC_KERNEL_CACHE"
"""Environment variable that names the folder of compiled kernels; empty: none is kept."""


class Library:
    """The routines of one precision in this process's memory. Calls hold no GIL."""

    def __init__(self, code: bytes, wide: bool) -> None:
        from llvmlite import binding

        from trajsvc.gram.kernels.names import EXPORTED, KINDS, PARAMETERS, lanes_of

        self._jit = binding.create_lljit_compiler(_machine())
        builder = binding.JITLibraryBuilder().add_object_img(code).add_current_process()
        for name in EXPORTED:
            builder.export_symbol(name)
        self._held = builder.link(self._jit, "kernel")
        self.lanes, self.size = lanes_of(wide), 8 if wide else 4
        self.pack, self.subtract, self.dots, self.widen = (
            [self._held[f"{name}_{kind}"] for kind in KINDS] for name in ("pack", "subtract", "dots", "widen")
        )
        """addresses of the functions for each stored type"""
        self.widen_rows = self._function("widen_rows", EXPORTED["widen_rows"])
        self.changed = {size: self._function(f"changed_{size}", EXPORTED[f"changed_{size}"]) for size in (2, 4, 8)}
        """by the size of a stored value"""
        self.rows = [self._function(f"rows_{kind}", EXPORTED[f"rows_{kind}"]) for kind in KINDS]
        self._products = self._function("products", EXPORTED["products"])
        self._order = PARAMETERS

    def products(self, parameters: Mapping[str, int]) -> int:
        """Call ``products`` with what its documentation names."""
        given = np.array([parameters[name] for name in self._order], np.int64)
        return self._products(given.ctypes.data)

    def _function(self, name: str, arguments: int) -> Callable[..., int]:
        kind = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * arguments)
        return cast(Callable[..., int], kind(self._held[name]))


@cache
def library(wide: bool) -> Library:
    """Return the routines for panels of float64 or float32, compiling them if no object code is cached."""
    path = _path(wide)
    code = _kept(path)
    if code is None:
        code = _compile(wide)
        if path is not None:
            with suppress(OSError):  # a read-only or full disk: compiled again next time
                _keep(path, code)
    return Library(code, wide)


def is_compiled(wide: bool) -> bool:
    """Return whether ``library(wide)`` finds cached object code."""
    return _kept(_path(wide)) is not None


def cache_folder() -> Path | None:
    """Return the folder of compiled kernels: ``TRAJSVC_KERNEL_CACHE``, else ``trajsvc`` in the user's cache folder;
    None: no caching.
    """
    named = os.environ.get(FOLDER)
    if named is not None:
        return Path(named) if named else None
    base = os.environ.get("XDG_CACHE_HOME")
    with suppress(RuntimeError):  # no home folder
        return (Path(base) if base else Path.home() / ".cache") / "trajsvc"
    return None


def stale() -> list[Path]:
    """Return the cached object code that this version does not use on this machine."""
    folder = cache_folder()
    current = {_path(wide) for wide in (True, False)}
    found = sorted(folder.glob("kernel-float*.o")) if folder is not None and folder.is_dir() else []
    return [path for path in found if path not in current and path.is_file() and not path.is_symlink()]


def _compile(wide: bool) -> bytes:
    from llvmlite import binding

    from trajsvc.gram.kernels.routines import Routines

    machine = _machine()
    module = binding.parse_assembly(str(Routines(wide, *_tile_shape()).module))
    module.verify()
    passes = binding.create_pass_builder(machine, binding.create_pipeline_tuning_options(speed_level=2))
    passes.getModulePassManager().run(module, passes)
    return bytes(machine.emit_object(module))


def _tile_shape() -> tuple[int, int]:
    """Return the panels and rows of a tile, whose sums must stay in registers: there are 32 of 512 bits, or usually 16
    of fewer bits.
    """
    from llvmlite import binding

    return (2, 8) if binding.get_host_cpu_features().get("avx512f") else (1, 4)


@cache
def _machine() -> Any:
    from llvmlite import binding

    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    return binding.Target.from_default_triple().create_target_machine(
        cpu=binding.get_host_cpu_name(),
        features=binding.get_host_cpu_features().flatten(),
        opt=3,
        jit=True,
    )


def _path(wide: bool) -> Path | None:
    folder = cache_folder()
    if folder is None:
        return None
    import llvmlite
    from llvmlite import binding

    digest = hashlib.sha256()
    for module in ("emitter.py", "names.py", "native.py", "routines.py", "row_routine.py"):
        digest.update(Path(__file__).with_name(module).read_bytes())
    facts = (llvmlite.__version__, binding.get_host_cpu_name(), binding.get_host_cpu_features().flatten())
    digest.update(repr(facts).encode())
    return folder / f"kernel-{'float64' if wide else 'float32'}-{digest.hexdigest()[:32]}.o"


def _trusted(path: Path) -> bool:
    """Return whether the file exists and only this user can have written it."""
    try:
        found = [path.lstat(), path.parent.stat()]
    except OSError:
        return False
    regular = stat.S_ISREG(found[0].st_mode)
    if os.name != "posix":
        return regular
    return regular and all(s.st_uid == os.geteuid() and not s.st_mode & 0o022 for s in found)


def _kept(path: Path | None) -> bytes | None:
    """Read the code in a file, which begins with its SHA-256; None if it is missing, damaged or not trusted."""
    if path is None or not _trusted(path):
        return None
    with suppress(OSError):
        found = read_file(path)
        if found[:32] == hashlib.sha256(found[32:]).digest():
            return found[32:]
    return None


def _keep(path: Path, code: bytes) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.stem)
    try:
        with open(handle, "wb") as file:
            file.write(hashlib.sha256(code).digest() + code)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
