# SPDX-License-Identifier: Apache-2.0
"""Stitches by other rows, objectives and methods on the same activations, side by side."""

from __future__ import annotations

import time
import warnings
from dataclasses import asdict
from typing import Any

import numpy as np

import suture
from suture.activations import as_float32
from suture.rows import NORM_BOUND

#: Label, which rows are fitted, and how. The first is the paper's eq. 3 as it stands; each of the
#: next two mends one thing; the last two are the simpler maps.
STITCHES: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("raw units, all rows", "all", {"objective": "raw"}),
    ("raw units, ordinary rows", "ordinary", {"objective": "raw"}),
    ("scaled, ordinary rows", "ordinary", {"objective": "scaled"}),
    ("each way by itself", "ordinary", {"method": "ridge"}),
    ("orthogonal", "ordinary", {"method": "procrustes"}),
)

ROWS = {"all": suture.Rows.all(), "ordinary": suture.Rows()}


def compare(
    train: dict[str, Any], held: dict[str, Any], *, alpha: float = 1.0, progress: bool = False
) -> dict[str, Any]:
    """Fits all of `STITCHES`, and tells what each explains of held-out rows.

    Args:
        train, held: "a" and "b": activations, (N, d_a) and (N, d_b), row by row, in blocks.
        alpha: weight of the inversion terms.
        progress: bars on standard error.

    Returns:
        "bound", the multiple of the median norm up to which rows are ordinary; "streams", for "a"
        and "b" how many held-out rows are beyond it and how much of the variance they carry;
        "stitches", in the order of `STITCHES`: "label", "seconds", "iterations", and the objective
        on "ordinary" and on "all" held-out rows.
    """

    def moments(acts: dict[str, Any], which: str) -> suture.Moments:
        return suture.Moments(acts["a"], acts["b"], rows=ROWS[which], progress=progress)

    found = []
    with warnings.catch_warnings():
        # That few rows carry the moments of all rows, and that raw units hear one stream alone, is
        # what is shown here.
        warnings.simplefilter("ignore", suture.SutureWarning)
        fitted = {which: moments(train, which) for which in ROWS}
        judged = {which: moments(held, which) for which in ROWS}
        for label, which, options in STITCHES:
            start = time.perf_counter()
            stitch = suture.Stitch.fit(
                moments=fitted[which], alpha=alpha, progress=progress, **options
            )
            seconds = time.perf_counter() - start
            assert stitch.report is not None
            found.append(
                {"label": label, "seconds": seconds, "iterations": stitch.report.iterations}
                | {name: asdict(stitch.evaluate(judged[name], alpha=alpha)) for name in ROWS}
            )
    return {
        "bound": NORM_BOUND,
        "streams": {name: norms(acts, NORM_BOUND) for name, acts in held.items()},
        "stitches": found,
    }


def norms(acts: Any, bound: float) -> dict[str, float]:
    """How large the rows are, and how much lies in the largest.

    Args:
        acts: (N, d) rows, in blocks.
        bound: rows whose norm exceeds so many times the median are counted as large.

    Returns:
        "median" and "largest" norm, the share of rows that are large ("rows"), and the share of the
        variance (squared distance from the mean) that they carry ("variance").

    >>> values = np.ones((1000, 4))
    >>> values[::2] = -1.0
    >>> values[5] = 100.0
    >>> found = norms([values], bound=5.0)
    >>> found["median"], found["rows"], round(found["variance"], 2)
    (2.0, 0.001, 0.91)
    """
    blocks = [as_float32(block) for block in acts]
    sizes = np.concatenate([np.linalg.norm(block.astype(np.float64), axis=1) for block in blocks])
    mean = sum(block.sum(0, dtype=np.float64) for block in blocks) / len(sizes)
    squares = np.concatenate([np.square(block - mean).sum(1) for block in blocks])
    median = float(np.median(sizes))
    large = sizes > bound * median
    total = float(squares.sum())
    return {
        "median": median,
        "largest": float(sizes.max()),
        "rows": float(large.mean()),
        "variance": float(squares[large].sum()) / total if total else 0.0,
    }
