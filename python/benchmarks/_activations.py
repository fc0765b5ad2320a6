# SPDX-License-Identifier: Apache-2.0
"""Settings of the SAE benchmarks and the activations they run on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Setting:
    """Sizes of a SAE and of a batch; k is the number of active latents a token."""

    d_in: int
    d_sae: int
    k: int
    batch: int = 4096

    def __str__(self) -> str:
        return f"d_in {self.d_in}, d_sae {self.d_sae}, k {self.k}, batch {self.batch}"


SETTINGS = {"1": Setting(512, 8192, 32), "2": Setting(768, 32768, 64)}
SYNTHETIC = "synthetic activations, seed 0"


def batches(setting: Setting, acts: Path | None, count: int = 8) -> tuple[Setting, list[Float32]]:
    """`count` batches from a file, or synthetic ones; and the setting with their width."""
    if acts is None:
        rows = synthetic(count * setting.batch, setting.d_in)
    else:
        found = np.load(acts, mmap_mode="r")
        rows = np.array(found[: count * setting.batch], np.float32, order="C")
        setting = replace(setting, d_in=rows.shape[1])
        if len(rows) < setting.batch:
            raise SystemExit(
                f"{acts} has {len(rows)} rows, expected at least {setting.batch}: one batch"
            )
    size = setting.batch
    return setting, [rows[i : i + size] for i in range(0, len(rows) - size + 1, size)]


def synthetic(tokens: int, d_in: int, seed: int = 0) -> Float32:
    """(tokens, d_in) rows built like a residual stream: each the sum of about 40 of 4 d_in random
    directions, few of them frequent and most rare, with log-normal strengths; a little noise in
    all dimensions; an offset that all rows share; and four dimensions of larger mean and variance.
    """
    rng = np.random.default_rng(seed)
    count = 4 * d_in
    directions = rng.standard_normal((count, d_in), np.float32)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    share = 1 / (np.arange(count) + 10.0) ** 0.8
    share = np.minimum(40 * share / share.sum(), 0.9).astype(np.float32)
    offset = rng.standard_normal(d_in, np.float32) * 0.3
    outliers = rng.choice(d_in, 4, replace=False)
    rows = np.empty((tokens, d_in), np.float32)
    for start in range(0, tokens, 4096):
        part = rows[start : start + 4096]
        active = rng.random((len(part), count), np.float32) < share
        strengths = np.zeros((len(part), count), np.float32)
        strengths[active] = rng.lognormal(0.0, 0.5, np.count_nonzero(active))
        np.matmul(strengths, directions, out=part)
        part += 0.05 * rng.standard_normal(part.shape, np.float32)
        part += offset
        part[:, outliers] = 8 * part[:, outliers] + np.array([10, -8, 5, -5], np.float32)
    return rows
