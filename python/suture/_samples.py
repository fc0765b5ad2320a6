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
from ._counted import kept_rows, starts_of, whole_rows
from ._inputs import Acts, Stream, output
from .codes import SparseCodes, _numbers
from .rows import Mask, Rows, as_rows

Int64 = npt.NDArray[np.int64]
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
    matrix = _one_matrix(Stream(samples, name))
    return matrix, matrix.rows, matrix.cols


def counted_samples(
    samples: Samples, name: str, rows: Any
) -> tuple[CoreSamples, int, int, Int64 | None]:
    """`core_samples` of those that count, but with the number of all; and which these are. None:
    all."""
    if rows is None:
        return *core_samples(samples, name), None
    chosen = as_rows(rows)
    if isinstance(samples, SparseCodes) or is_sparse(samples):
        found, total, cols = core_samples(samples, name)
        places = np.flatnonzero(without_norms(chosen, total, name))
        if len(places) == total:
            return found, total, cols, None
        part = samples[places] if isinstance(samples, SparseCodes) else samples.tocsr()[places]
        return core_samples(part, name)[0], total, cols, places
    stream = Stream(samples, name)
    if stream.total is None:
        raise TypeError(
            f"rows is given and {name} is an iterator, whose rows only reading tells; expected "
            "arrays, paths or a list of them"
        )
    kept = kept_rows(samples, stream, stream.matrices(), chosen)
    if not kept.any():
        raise ValueError(f"rows is {chosen!r}, which leaves none of the {len(kept)} rows of {name}")
    if kept.all():
        return _one_matrix(stream), len(kept), stream.cols, None
    places = np.flatnonzero(kept)
    return _one_matrix(stream, places), len(kept), stream.cols, places


def without_norms(rows: Rows, count: int, name: str) -> Mask:
    """Which rows of codes count; they have no norms."""
    if rows.asked_bound is not None:
        raise ValueError(
            f"rows.norm_bound is {rows.norm_bound}, expected None: {name} is SparseCodes or a "
            "sparse matrix, without norms"
        )
    return rows.select(count, name=name)


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


def _one_matrix(stream: Stream, places: Int64 | None = None) -> _core.Rows:
    """Activations, or the rows in `places`, as one matrix: where they are, if they are one, else as
    a copy (float32 where there were several arrays)."""
    blocks = [block for _, block in stream.blocks() if block.rows]
    if len(blocks) == 1 or stream.is_single:
        matrix = blocks[0]
        if stream.is_single:
            (matrix,) = stream.arrays()
        if not matrix.direct:
            matrix = matrix.block(0, matrix.rows)
        return matrix if places is None else matrix.take(places)
    rows = sum(block.rows for block in blocks)
    owner = np.arange(rows)
    if places is not None:
        owner[:] = -1
        owner[places] = np.arange(len(places))
    joined = np.empty((rows if places is None else len(places), stream.cols), np.float32)
    # Each row is the mean of itself.
    with whole_rows(stream.name, blocks, starts_of(blocks)):
        _core.pool(tuple(blocks), owner, len(joined), output(joined), None)
    return _core.Rows(joined, stream.name)


def labels(
    y: Any, rows: int, of: str, places: Int64 | None = None
) -> tuple[npt.NDArray[np.int32], npt.NDArray[Any]]:
    """The class number of each sample, of all or of those in `places`, and the classes, sorted."""
    values = _vector("y", y, rows, of)
    if places is not None:
        values = values[places]
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


def sample_weights(
    value: Any, rows: int, of: str, places: Int64 | None = None
) -> npt.NDArray[np.float64] | None:
    """What each sample counts, of all or of those in `places`; or None."""
    if value is None:
        return None
    found = _vector("sample_weight", value, rows, of)
    if found.dtype.kind not in "biuf":
        raise TypeError(f"sample_weight has dtype {found.dtype}, expected numbers")
    return np.ascontiguousarray(found if places is None else found[places], np.float64)


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
