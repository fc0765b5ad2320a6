# SPDX-License-Identifier: Apache-2.0
"""Norms of rows: the bound beyond which rows do not count, and what rows of massive norm carry."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _core
from ._arguments import named, real
from ._inputs import Acts, Stream
from ._progress import Meter, Progress
from .rows import NORM_BOUND, as_rows, stream_mask

__all__ = ["CountedRows", "RowReport", "StreamRows", "norm_bound", "row_norms"]

SAMPLE_ROWS = 4096
LEAST_ROWS = 16
"""Rows from which on their median says which norms are ordinary; of fewer none is left out unless a
bound is given."""
Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class StreamRows:
    """What is known of the norms of one stream's rows.

    Attributes:
        norm_bound: rows beyond this norm do not count; infinity where there is no bound.
        beyond: how many rows that are.
        share_beyond: their share of the sum of squared norms, of these and the rows that count.
        median: median norm of the rows that count (to 3 %, rows of zeros left out); 0 where it is
            not known.
        largest: largest norm of a row that counts.
        massive: rows that count and have more than five times the median norm.
        massive_share: the share of the variance that is theirs, at least.
    """

    norm_bound: float
    beyond: int
    share_beyond: float
    median: float
    largest: float
    massive: int
    massive_share: float


@dataclass(frozen=True)
class RowReport:
    """Which rows counted, in moments of two streams.

    Attributes:
        tokens: pairs of rows that count.
        left_out: pairs that do not, because one of the two rows is beyond its stream's bound.
        a, b: the norms of both streams.
        carried_by_few: whether less than one row in twenty has more than a quarter of the variance
            of a stream, so that a few rows decide what is fitted.
    """

    tokens: int
    left_out: int
    a: StreamRows
    b: StreamRows
    carried_by_few: bool

    def warning(self) -> str:
        """What to say of rows that carry much of the variance."""
        parts = [
            f"{side.massive} of {self.tokens} rows of {name} have norms of up to "
            f"{side.largest / side.median:.3g} times the median and at least "
            f"{100 * side.massive_share:.3g} % of the variance"
            for name, side in (("h_a", self.a), ("h_b", self.b))
            if side.massive and side.massive < self.tokens / 20 and side.massive_share > 0.25
        ]
        return (
            f"few rows: {'; '.join(parts)}: the result is theirs. Leave them out: "
            "rows=suture.Rows(), or bounds for Moments (suture.norm_bound)"
        )


@dataclass(frozen=True)
class CountedRows:
    """Which rows of one stream counted, in training or a refit.

    Attributes:
        rows: rows that count, of those that were looked at.
        left_out: rows that do not.
        norm_bound: rows beyond this norm do not count; infinity where there is no bound.
        beyond: how many of `left_out` are beyond it.
        share_beyond: their share of the sum of squared norms, of these and the rows that count; 0
            without a bound.
    """

    rows: int
    left_out: int
    norm_bound: float
    beyond: int
    share_beyond: float


def norm_bound(acts: Acts, multiple: float = NORM_BOUND, *, rows: Any = None) -> float:
    """A bound on the norms of a stream's rows: `multiple` times the median norm of a sample.

    The sample has up to 4096 rows that are spread over all and depend on their number alone, so
    that it is the same however the rows are cut into arrays; rows of zeros are left out of it. An
    iterable that can be read once is sampled in its first 4096 rows. Compute the bound of each
    stream once, and give it to all who gather a part of the moments:

        moments = suture.Moments(d_a=…, d_b=…, norm_bound_a=bound_a, norm_bound_b=bound_b)

    Args:
        acts: (N, d) activations of any kind.
        multiple: of the median norm, above 0.
        rows: a `suture.Rows` or a mask (N,): the sample is of these rows; norms do not matter.

    Returns:
        The bound; infinity, which bounds nothing, if all rows are zeros.

    >>> import numpy as np, suture
    >>> suture.norm_bound(np.array([[3.0, 4.0], [5.0, 0.0], [0.0, 50.0]]), 4)
    20.0
    """
    factor = real("multiple", multiple, above=True)
    stream = Stream(acts, "acts")
    kept = stream_mask(as_rows(rows), acts, stream)
    return bound_of(stream, factor, None if kept is None else np.flatnonzero(kept))


def default_bound(stream: Stream, multiple: float | None, kept: Int64 | None = None) -> float:
    """The bound where nobody has given one; infinity for a `multiple` of None, and of few rows."""
    return math.inf if multiple is None else bound_of(stream, multiple, kept, least=LEAST_ROWS)


def bound_of(
    stream: Stream, multiple: float, kept: Int64 | None = None, *, least: int = 1
) -> float:
    """The bound of a stream of which only the rows `kept` count, in any order, each as often.
    Infinity, which bounds nothing, where that are fewer rows than `least`."""
    if stream.total is None:
        # It can be read once: what there is to see are its first rows.
        blocks: Sequence[_core.Rows] = stream.ahead(SAMPLE_ROWS)
        rows = min(sum(block.rows for block in blocks), SAMPLE_ROWS)
        if kept is not None:
            kept = kept[kept < rows]
            if not len(kept):
                raise ValueError(
                    f"{stream.name} is an iterator, of whose first {rows} rows none is paired, "
                    "expected some: they say which norms are ordinary; pass norm_bound_a and "
                    "norm_bound_b, or rows=suture.Rows.all()"
                )
    else:
        blocks, rows = (), stream.total
    count = rows if kept is None else len(kept)
    if count < least:
        return math.inf
    chosen = np.empty(_core.norm_sample(count, None), np.int64)
    _core.norm_sample(count, chosen)
    if kept is not None:
        chosen = np.sort(kept[chosen])
    picked = tuple(_picked(blocks or stream.arrays(), chosen))
    # One-row matrices: their numbers are those of the sample.
    try:
        return _core.norm_bound(picked, multiple)
    except ValueError as error:
        raise _renamed(error, stream.name, chosen) from None


def _picked(arrays: Any, rows: Int64) -> Any:
    """Rows of a stream, each as a matrix of one row."""
    start = 0
    for array in arrays:
        low, high = np.searchsorted(rows, (start, start + array.rows))
        for row in rows[low:high].tolist():
            yield array.block(row - start, row - start + 1)
        start += array.rows


def _renamed(error: ValueError, name: str, rows: Int64) -> ValueError:
    text = str(error)
    if text.startswith("shards["):
        number, rest = text.removeprefix("shards[").split("]", 1)
        column = rest.removeprefix("[0, ")
        text = f"{name}[{rows[int(number)]}, {column}"
    return ValueError(text)


def row_norms(acts: Acts, *, progress: Progress = True) -> npt.NDArray[np.float64]:
    """The Euclidean norm of each row, (N,), as the bounds on norms see it.

    Args:
        acts: (N, d) activations of any kind.
        progress: True for a tqdm bar after two seconds, or a function of (done, total).

    Raises:
        ValueError: a value is not finite in float32; the message names it.

    >>> import numpy as np, suture
    >>> suture.row_norms(np.array([[3.0, 4.0], [0.0, 2.0]])).tolist()
    [5.0, 2.0]
    """
    stream = Stream(acts, "acts")
    parts: list[npt.NDArray[np.float64]] = []
    with Meter(progress, "norms", stream.total) as meter:
        for start, block in stream.blocks():
            norms = np.empty(block.rows)
            if block.rows:
                with named(start, h="acts"):
                    _core.row_norms(block, norms, meter.part(start, block.rows))
            parts.append(norms)
    return np.concatenate(parts)
