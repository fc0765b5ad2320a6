# SPDX-License-Identifier: Apache-2.0
"""The library as a whole: threads and the machine."""

from __future__ import annotations

from dataclasses import dataclass

from . import _core
from ._arguments import integer

__all__ = ["CPUInfo", "cpu_info", "set_threads"]


@dataclass(frozen=True)
class CPUInfo:
    """What the library uses on this machine.

    Attributes:
        kernels: "amx", "avx512bf16", "avx512", "avx2" or "portable".
        features: CPU features found that matter here.
        blas_core: OpenBLAS core type in use, such as "SkylakeX".
        blas_core_detected: what OpenBLAS would have chosen by itself.
        threads: threads that a call uses.
        processors: processors that this process may run on.

    >>> import suture
    >>> isinstance(suture.cpu_info(), CPUInfo)
    True
    """

    kernels: str
    features: tuple[str, ...]
    blas_core: str
    blas_core_detected: str
    threads: int
    processors: int


def set_threads(threads: int) -> None:
    """Set how many threads each call uses from now on, in the whole process.

    Results are the same bits for any number.

    Args:
        threads: 1 to 1024, or 0 for the default: SUTURE_NUM_THREADS, else the processors this
            process may run on.

    >>> import suture
    >>> suture.set_threads(2)
    >>> suture.cpu_info().threads
    2
    >>> suture.set_threads(0)
    """
    _core.set_threads(integer("threads", threads, 0, 1024))


def cpu_info() -> CPUInfo:
    """Kernels, OpenBLAS core type and threads in use.

    >>> import suture
    >>> suture.cpu_info().kernels in ("amx", "avx512bf16", "avx512", "avx2", "portable")
    True
    """
    info = _core.cpu_info()
    return CPUInfo(
        kernels=info["kernels"],
        features=tuple(info["features"].split()),
        blas_core=info["blas_core"],
        blas_core_detected=info["blas_core_detected"],
        threads=info["threads"],
        processors=info["processors"],
    )
