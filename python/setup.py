# SPDX-License-Identifier: Apache-2.0
"""Builds the Swift library one folder up, and the extension that calls it.

`pip install ./python` from a checkout, or `python setup.py build_ext --inplace` here to have both
beside the package's sources.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.sdist import sdist

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
# Where `make lib` builds too, so that neither does the other's work again.
SCRATCH = ROOT / ".build-lib"
SOURCES = sorted(path.relative_to(HERE).as_posix() for path in (HERE / "ext").glob("*.c"))


def stop(message: str) -> None:
    sys.exit(f"\nsuture: {message}\n")


def version() -> str:
    source = ROOT / "Sources" / "Suture" / "Version.swift"
    if not source.exists():
        stop(
            f"the Swift package is not in {ROOT}. Suture is built from a checkout of its "
            "repository, by `pip install ./python` there: source archives of the Python part alone "
            "cannot work."
        )
    found = re.search(r'"(\d+\.\d+\.\d+[^"]*)"', source.read_text(encoding="utf-8"))
    if not found:
        stop(f"no version in {source}")
    return found.group(1)  # type: ignore[union-attr]


class NoSourceArchive(sdist):
    """An archive of this folder lacks the Swift package beside it."""

    def run(self) -> None:
        stop(
            "source archives are not supported, because the Swift package lies outside of this "
            "folder. Build a wheel from the checkout: `pip wheel ./python`."
        )


class BuildAll(build_ext):
    """Builds libsuture.so, then the extension, and puts one beside the other."""

    def run(self) -> None:
        library = self.build_library()
        for extension in self.extensions:
            extension.library_dirs.append(str(library.parent))
            extension.depends.append(str(library))
        super().run()
        for extension in self.extensions:
            target = Path(self.get_ext_fullpath(extension.name)).parent / library.name
            target.parent.mkdir(parents=True, exist_ok=True)
            # A new file in place of the old one: a process may have that mapped.
            fresh = target.with_suffix(".new")
            shutil.copy2(library, fresh)
            os.replace(fresh, target)

    def build_library(self) -> Path:
        swift = shutil.which("swift")
        if swift is None:
            stop(
                "`swift` is not on the PATH. Install Swift 6.2 or newer from https://swift.org/install."
            )
        if not has_openblas():
            stop(
                "OpenBLAS for C is missing. On Debian and Ubuntu: "
                "`apt-get install libopenblas-dev`."
            )
        command = [
            str(swift), "build", "-c", "release", "--product", "suture",
            "-Xswiftc", "-static-stdlib",
            "-Xlinker", f"--version-script={ROOT / 'Sources' / 'SutureABI' / 'exports.map'}",
            "--package-path", str(ROOT), "--scratch-path", str(SCRATCH),
        ]  # fmt: skip
        print(" ".join(command), flush=True)
        if subprocess.run(command, check=False).returncode != 0:
            stop("`swift build` failed; its messages are above.")
        library = SCRATCH / "release" / "libsuture.so"
        if not library.exists():
            stop(f"`swift build` left no {library}.")
        return library


def has_openblas() -> bool:
    """Whether the C compiler finds what Sources/COpenBLAS includes."""
    compiler = os.environ.get("CC", "cc").split()
    flags = (
        subprocess.run(
            ["pkg-config", "--cflags", "openblas"], capture_output=True, text=True, check=False
        ).stdout.split()
        if shutil.which("pkg-config")
        else []
    )
    return (
        subprocess.run(
            [*compiler, *flags, "-E", "-x", "c", "-", "-o", os.devnull],
            input="#include <cblas.h>\n", text=True, capture_output=True, check=False,
        ).returncode
        == 0
    )  # fmt: skip


setup(
    version=version(),
    cmdclass={"build_ext": BuildAll, "sdist": NoSourceArchive},
    ext_modules=[
        Extension(
            "suture._core",
            SOURCES,
            include_dirs=[str(ROOT / "Include")],
            libraries=["suture"],
            runtime_library_dirs=["$ORIGIN"],
            depends=[
                "ext/core.h",
                "ext/rows.h",
                *map(str, sorted((ROOT / "Include").rglob("*.h"))),
            ],
            extra_compile_args=["-std=c11", "-Wall", "-Wextra", "-Werror", "-fvisibility=hidden"],
            py_limited_api=True,
        )
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
