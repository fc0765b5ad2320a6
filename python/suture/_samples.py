# SPDX-License-Identifier: Apache-2.0
"""Samples and labels as the core takes them for probes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _core
from ._arguments import integer
from ._inputs import Acts, Stream, output
from .codes import SparseCodes, _numbers

CoreSamples = Any
"""What the core takes: Rows, Codes, or the parts of a CSR matrix."""
Samples = Acts | SparseCodes
"""One row a sample: activations of any kind, (N, d) or with more leading axes, `SparseCodes`, or a
scipy sparse matrix."""


def is_sparse(value: Any) -> bool:
    """A scipy sparse matrix or array."""
    return hasattr(value, "tocsr") and hasattr(value, "nnz")


def core_samples(samples: Samples, name: str) -> tuple[CoreSamples, int, int]:
    """The samples for the core, their number, and that of features."""
    if isinstance(samples, SparseCodes):
        return samples._core, len(samples), samples.d_sae
    if is_sparse(samples):
        return _csr(samples, name)
    matrix = one_matrix(samples, name)
    return matrix, matrix.rows, matrix.cols


def _csr(samples: Any, name: str) -> tuple[CoreSamples, int, int]:
    if len(samples.shape) != 2 or not all(samples.shape):
        raise ValueError(f"{name} has shape {samples.shape}, expected (N, d), at least (1, 1)")
    if samples.dtype.kind not in "fiub":
        raise TypeError(f"{name} has dtype {samples.dtype}, expected numbers")
    rows, cols = samples.shape
    if cols >= 2**31:
        raise ValueError(f"{name} has {cols} columns, expected less than {2**31}")
    matrix = samples.tocsr()
    if not matrix.has_canonical_format:
        # Of a copy: the caller's matrix stays as it is.
        matrix = matrix.copy()
        matrix.sum_duplicates()
    kind = "f" if matrix.dtype == np.float32 else "d"
    return (
        (
            cols,
            np.ascontiguousarray(matrix.indptr, np.int64),
            np.ascontiguousarray(matrix.indices, np.int32),
            np.ascontiguousarray(matrix.data, np.float32 if kind == "f" else np.float64),
            kind,
        ),
        rows,
        cols,
    )


def one_matrix(acts: Acts, name: str) -> _core.Rows:
    """Activations as one matrix: where they are, if they are one, else as a copy (float32 where
    there were several arrays)."""
    stream = Stream(acts, name)
    blocks = [block for _, block in stream.blocks() if block.rows]
    if len(blocks) == 1:
        return blocks[0] if blocks[0].direct else blocks[0].block(0, blocks[0].rows)
    if stream.is_single:
        (whole,) = stream.arrays()
        return whole.block(0, whole.rows)
    rows = sum(block.rows for block in blocks)
    joined = np.empty((rows, stream.cols), np.float32)
    # Each row is the mean of itself.
    _core.pool(tuple(blocks), np.arange(rows), rows, output(joined), None)
    return _core.Rows(joined, name)


def labels(y: Any, rows: int, of: str) -> tuple[npt.NDArray[np.int32], npt.NDArray[Any]]:
    """The class number of each sample, and the classes, sorted."""
    values = _vector("y", y, rows, of)
    if values.dtype.kind not in "biufUO":
        raise TypeError(f"y has dtype {values.dtype}, expected texts, numbers or truth values")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        at = int(np.argmin(np.isfinite(values)))
        raise ValueError(f"y[{at}] is {values[at]}, expected labels that are finite")
    if values.dtype.kind == "b" and values.any() and not values.all():
        return np.ascontiguousarray(values, np.int32), np.array([False, True])
    try:
        classes, numbers = np.unique(values, return_inverse=True)
    except TypeError:
        kinds = sorted({type(value).__name__ for value in values})
        raise TypeError(f"y holds {' and '.join(kinds)}, expected labels of one kind") from None
    for label in classes.tolist():
        if not isinstance(label, (str, bool, int, float)):
            raise TypeError(f"y holds {label!r}, expected texts, numbers or truth values")
    if len(classes) < 2:
        raise ValueError(f"y has the one class {classes.tolist()[0]!r}, expected at least 2")
    return np.ascontiguousarray(numbers.reshape(-1), np.int32), classes


def sample_weights(value: Any, rows: int, of: str) -> npt.NDArray[np.float64] | None:
    """What each sample counts, or None."""
    if value is None:
        return None
    found = _vector("sample_weight", value, rows, of)
    if found.dtype.kind not in "biuf":
        raise TypeError(f"sample_weight has dtype {found.dtype}, expected numbers")
    return np.ascontiguousarray(found, np.float64)


def indices(name: str, value: Any, most: int) -> npt.NDArray[np.int64]:
    """Whole numbers from 0 to below `most`, each once."""
    found = np.asarray(_numbers(value))
    if found.ndim != 1 or found.size == 0:
        raise ValueError(f"{name} has shape {found.shape}, expected (k,), at least 1")
    if found.dtype.kind not in "iu":
        raise TypeError(f"{name} has dtype {found.dtype}, expected whole numbers")
    if found.min() < 0 or found.max() >= most:
        wrong = found[(found < 0) | (found >= most)][0]
        raise ValueError(f"{name} has {wrong}, expected 0 to {most - 1}")
    if len(np.unique(found)) != len(found):
        raise ValueError(f"{name} is {found.tolist()!r:.60}, expected each feature once")
    return np.ascontiguousarray(found, np.int64)


def sizes(name: str, value: Any, most: int) -> list[int]:
    """One number of features or several, ascending."""
    given = list(value) if isinstance(value, (Sequence, np.ndarray)) else [value]
    if not given or isinstance(value, str):
        raise TypeError(f"{name} is {value!r}, expected a number of features, or several")
    return sorted({integer(name, k, 1, most) for k in given})


def _vector(name: str, value: Any, rows: int, of: str) -> npt.NDArray[Any]:
    if isinstance(value, (str, bytes, os.PathLike)) or not hasattr(value, "__len__"):
        raise TypeError(f"{name} is {value!r}, expected one value for each row of {of}")
    try:
        found = _numbers(value)
    except ValueError:
        raise TypeError(
            f"{name} holds sequences, expected one value for each row of {of}"
        ) from None
    if found.size != rows:
        raise ValueError(
            f"{name} has shape {found.shape}, expected ({rows},), one for each row of {of}"
        )
    return found.reshape(-1)
