# SPDX-License-Identifier: Apache-2.0
"""Suture carries linear features between language models through affine stitches of their
residual streams (Chen, Merullo, Stolfo, Pavlick, arXiv 2506.06609)."""

from __future__ import annotations

from types import ModuleType

from ._core import FormatError, InternalError, NumericalError, SutureError, UnsupportedError
from ._core import version as __version__
from .activations import Activations, check_paired
from .library import CPUInfo, cpu_info, set_threads
from .moments import Moments

__all__ = [
    "Activations",
    "CPUInfo",
    "FormatError",
    "InternalError",
    "Moments",
    "NumericalError",
    "SutureError",
    "UnsupportedError",
    "__version__",
    "check_paired",
    "cpu_info",
    "set_threads",
]


def __getattr__(name: str) -> ModuleType:
    # It needs torch, which nothing else here does.
    if name == "models":
        from importlib import import_module

        return import_module("suture.models")
    raise AttributeError(f"module 'suture' has no attribute {name!r}")
