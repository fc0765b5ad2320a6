# SPDX-License-Identifier: Apache-2.0
"""Interleaved timing of two programs, and words on the machine it was done on."""

from __future__ import annotations

import gc
import os
import re
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

import suture

Lap = Callable[[int], object]

# Libraries' threads spin for a moment after their work, which would cost the next lap.
PAUSE = 0.03


@dataclass
class Pairs:
    """Seconds of ours and theirs, measured in turns."""

    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """Median over neighbouring pairs of their seconds to ours."""
        return statistics.median(b / a for a, b in zip(self.ours, self.theirs, strict=True))

    def rates(self, tokens: int) -> tuple[float, float]:
        """Tokens per second of both, by the medians."""
        return tokens / statistics.median(self.ours), tokens / statistics.median(self.theirs)


def seconds(lap: Lap, i: int) -> float:
    """Of one lap, after a pause."""
    time.sleep(PAUSE)
    start = time.perf_counter()
    lap(i)
    return time.perf_counter() - start


def interleave(ours: Lap, theirs: Lap, *, warm_up: int, pairs: int, budget: float) -> Pairs:
    """Time ours, theirs, ours, theirs …: at most `pairs` times, and no further pair, once there are
    three, when they have taken `budget` seconds."""
    for i in range(warm_up):
        ours(i)
        theirs(i)
    gc.collect()
    found = Pairs()
    for i in range(warm_up, warm_up + pairs):
        found.ours.append(seconds(ours, i))
        found.theirs.append(seconds(theirs, i))
        if len(found.ours) >= 3 and sum(found.ours) + sum(found.theirs) > budget:
            break
    return found


def machine() -> dict[str, Any]:
    """What the figures depend on besides the programs."""
    cpu = suture.cpu_info()
    return {
        "cpu": _cpu_model(),
        "features": list(cpu.features),
        "kernels": cpu.kernels,
        "blas_core": cpu.blas_core,
        "threads": cpu.threads,
        "torch": torch.__version__,
        "torch_capability": torch.backends.cpu.get_cpu_capability(),
        "torch_threads": torch.get_num_threads(),
        "mkl": torch.backends.mkl.is_available(),
        "load": load(),
    }


def describe(found: dict[str, Any]) -> str:
    """`machine()` as lines of text."""
    return "\n".join(
        (
            f"CPU     {found['cpu']}: {' '.join(found['features'])}; load {found['load']:.1f}",
            f"suture  kernels {found['kernels']}, OpenBLAS {found['blas_core']}, "
            f"{found['threads']} threads",
            f"torch   {found['torch']}, {found['torch_capability']}, "
            f"{'MKL' if found['mkl'] else 'no MKL'}, {found['torch_threads']} threads",
        )
    )


def load() -> float:
    """Processes running or waiting, mean of the last minute."""
    return os.getloadavg()[0]


def set_threads(threads: int) -> None:
    """The same number for both; 0: all processors that this process may run on."""
    suture.set_threads(threads)
    torch.set_num_threads(suture.cpu_info().threads)


def _cpu_model() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    found = re.search(r"^model name\s*: (.*)$", text, re.MULTILINE)
    return found[1].strip() if found else "unknown CPU"


def say(text: str) -> None:
    """Print at once: the runs take a while."""
    print(text, flush=True)
