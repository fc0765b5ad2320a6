# SPDX-License-Identifier: Apache-2.0
"""The library as a whole, and the way it is imported."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import suture
from suture import _core


def run(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"PYTHONPATH": str(Path(suture.__file__).parents[1])} | environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_version() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", suture.__version__)


def test_threads(threads: None) -> None:
    suture.set_threads(3)
    assert suture.cpu_info().threads == 3
    suture.set_threads(0)
    default = suture.cpu_info().threads
    assert default >= 1
    assert run("import suture; print(suture.cpu_info().threads)", SUTURE_NUM_THREADS="5") == "5"


def test_cpu_info() -> None:
    info = suture.cpu_info()
    assert info.kernels in ("amx", "avx512bf16", "avx512", "avx2", "portable")
    assert info.processors == len(os.sched_getaffinity(0))
    assert info.blas_core
    assert info.blas_core_detected


def test_import_needs_numpy_only() -> None:
    code = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "transformers", "tqdm", "scipy", "matplotlib"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Block())
import numpy as np
import suture
print(suture.Moments(np.ones((3, 2)), np.ones((3, 2))).tokens)
"""
    assert run(code) == "3"


def test_everything_public_is_there_and_documented() -> None:
    assert len(suture.__all__) == len(set(suture.__all__))
    for name in suture.__all__:
        value = getattr(suture, name)
        assert name == "__version__" or (value.__doc__ or "").strip(), name


def test_forked_child_can_call() -> None:
    moments = suture.Moments(np.ones((3000, 8)), np.ones((3000, 8)))
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            code = suture.Moments(np.ones((3000, 8)), np.ones((3000, 8))).tokens
            code += moments.merge(moments.from_bytes(moments.to_bytes())).tokens
            os.write(write, str(code).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        assert pipe.read() == "9000"
    os.waitpid(child, 0)


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("FormatError", ValueError),
        ("NumericalError", ArithmeticError),
        ("UnsupportedError", NotImplementedError),
        ("InternalError", RuntimeError),
    ],
)
def test_exceptions(name: str, base: type[Exception]) -> None:
    error = getattr(suture, name)
    assert issubclass(error, suture.SutureError)
    assert issubclass(error, base)
    assert error.__module__ == "suture"


def test_handles_cannot_be_made_by_hand() -> None:
    with pytest.raises(TypeError):
        _core.Moments()


def test_type_stub_tells_the_truth() -> None:
    """_core.pyi has the functions, types and methods of the extension, no more and no less."""
    stub = ast.parse((Path(suture.__file__).parent / "_core.pyi").read_text(encoding="utf-8"))
    declared: dict[str, set[str] | None] = {}
    for node in stub.body:
        if isinstance(node, ast.FunctionDef):
            declared[node.name] = None
        elif isinstance(node, ast.ClassDef):
            methods = (item.name for item in node.body if isinstance(item, ast.FunctionDef))
            declared[node.name] = {name for name in methods if not name.startswith("_")}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            declared[node.target.id] = None
    found: dict[str, set[str] | None] = {}
    for name, value in vars(_core).items():
        if name.startswith("_"):
            continue
        own = isinstance(value, type)
        found[name] = {n for n in vars(value) if not n.startswith("_")} if own else None
    assert found == declared
