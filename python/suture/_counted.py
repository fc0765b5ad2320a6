# SPDX-License-Identifier: Apache-2.0
"""The rows of one stream that count, as matrices that share the memory of the input."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _core
from ._arguments import named
from ._inputs import Acts, Stream, output
from .norms import CountedRows, bound_of, default_bound
from .reports import SutureWarning
from .rows import Mask, Rows, stream_mask

NORMS_AT_ONCE = 1 << 20
MASSIVE = 5.0
"""Norms of more than so many times the median are called massive, as in the core."""


class Counting:
    """Chooses the rows that count among blocks of a stream, in order, and remembers how many.

    Attributes:
        bound: norm beyond which rows do not count; infinity: none.
    """

    def __init__(self, name: str, bound: float, mask: Mask | None = None) -> None:
        self.name, self.bound, self._mask = name, bound, mask
        self._rows = self._left_out = self._beyond = 0
        self._squares = self._squares_beyond = 0.0

    def runs(self, start: int, block: _core.Rows) -> Iterator[tuple[int, _core.Rows]]:
        """The rows of a block that count, as (number of the first, rows that follow it)."""
        for low in range(0, block.rows, NORMS_AT_ONCE):
            high = min(low + NORMS_AT_ONCE, block.rows)
            mask = None if self._mask is None else self._mask[start + low : start + high]
            for first, last in _edges(mask, high - low):
                yield from self._within(start + low + first, block.block(low + first, low + last))

    def _within(self, start: int, part: _core.Rows) -> Iterator[tuple[int, _core.Rows]]:
        if self.bound == math.inf:
            self._rows += part.rows
            yield start, part
            return
        norms = np.empty(part.rows)
        with named(start, h=self.name):
            _core.row_norms(part, norms, None)
        kept = norms <= self.bound
        self._rows += int(kept.sum())
        self._beyond += int((~kept).sum())
        self._squares += float((norms[kept] ** 2).sum())
        self._squares_beyond += float((norms[~kept] ** 2).sum())
        for first, last in _edges(kept, part.rows):
            yield start + first, part.block(first, last)

    def report(self) -> CountedRows:
        """What was found so far."""
        total = self._squares + self._squares_beyond
        masked = 0 if self._mask is None else int((~self._mask).sum())
        return CountedRows(
            rows=self._rows,
            left_out=masked + self._beyond,
            norm_bound=self.bound,
            beyond=self._beyond,
            share_beyond=self._squares_beyond / total if total else 0.0,
        )


def _edges(kept: npt.NDArray[np.bool_] | None, count: int) -> list[tuple[int, int]]:
    """Where the runs of rows that are kept begin and end."""
    if kept is None or kept.all():
        return [(0, count)] if count else []
    changes = np.flatnonzero(np.diff(np.concatenate(([False], kept, [False])).view(np.int8)))
    return list(zip(changes[::2].tolist(), changes[1::2].tolist(), strict=True))


def counted_rows(
    acts: Acts, stream: Stream, rows: Rows, bound: float | None = None, *, once: bool = False
) -> tuple[list[_core.Rows], list[int], CountedRows]:
    """The rows of a stream that count as matrices that share its memory, the number that the first
    of each has in the whole stream, and how many they are; `bound` in place of that in `rows`.
    `once`: they are read once, in order, so the stream may be an iterator, which is copied.

    Raises:
        ValueError: none is left.
    """
    mask = stream_mask(rows, acts, stream)
    shards = [] if once else stream.whole()
    if bound is None:
        kept = None if mask is None else np.flatnonzero(mask)
        bound = default_bound(stream, rows.norm_bound, kept)
    if once:
        # An iterator's first rows have told the bound.
        shards = stream.matrices()
    counting = Counting(stream.name, bound, mask)
    found: list[tuple[int, _core.Rows]] = []
    start = 0
    for shard in shards:
        found.extend(_joined(shard, start, list(counting.runs(start, shard))))
        start += shard.rows
    report = counting.report()
    if not found:
        raise ValueError(
            f"{stream.name} has {start} rows, none of which counts: "
            f"{report.beyond} are beyond norm_bound = {bound:.6g}"
        )
    return [part for _, part in found], [first for first, _ in found], report


def _joined(
    shard: _core.Rows, start: int, runs: list[tuple[int, _core.Rows]]
) -> list[tuple[int, _core.Rows]]:
    """The shard itself where all of it counts."""
    whole = sum(part.rows for _, part in runs) == shard.rows
    return [(start, shard)] if whole else runs


def kept_rows(acts: Acts, stream: Stream, shards: Sequence[_core.Rows], rows: Rows) -> Mask:
    """Which rows of a stream count, their norms included."""
    mask = stream_mask(rows, acts, stream)
    kept = None if mask is None else np.flatnonzero(mask)
    bound = default_bound(stream, rows.norm_bound, kept)
    counting, start = Counting(stream.name, bound, mask), 0
    found = np.zeros(sum(shard.rows for shard in shards), np.bool_)
    for shard in shards:
        for first, part in counting.runs(start, shard):
            found[first : first + part.rows] = True
        start += shard.rows
    return found


def taken(block: _core.Rows, kept: npt.NDArray[np.bool_], name: str) -> _core.Rows | None:
    """The rows of a block that are kept, copied as float32; the block itself if all are, None if
    none is."""
    count = int(kept.sum())
    if count in (0, block.rows):
        return block if count else None
    owner = np.where(kept, np.cumsum(kept) - 1, -1)
    copied = np.empty((count, block.cols), np.float32)
    # Each row is the mean of itself.
    _core.pool((block,), owner, count, output(copied), None)
    return _core.Rows(copied, name)


def warn_of_few(function: str, stream: Stream, bound: float) -> None:
    """Says so where no bound keeps out a few rows that have much of the variance, as a sample of
    4096 rows shows it."""
    if bound != math.inf or stream.total is None:
        return
    median = bound_of(stream, 1.0)
    if median == math.inf:
        return
    indices = np.empty(_core.norm_sample(stream.total, None), np.int64)
    _core.norm_sample(stream.total, indices)
    norms = np.empty(len(indices))
    start = 0
    for array in stream.arrays():
        low, high = np.searchsorted(indices, (start, start + array.rows))
        for at in range(int(low), int(high)):
            row = int(indices[at]) - start
            _core.row_norms(array.block(row, row + 1), norms[at : at + 1], None)
        start += array.rows
    massive = norms > MASSIVE * median
    share = float((norms[massive] ** 2).sum() / (norms**2).sum())
    if massive.any() and massive.sum() < len(norms) / 20 and share > 0.25:
        warnings.warn(
            f"{function}: few rows: {int(massive.sum())} of {len(norms)} sampled rows of "
            f"{stream.name} have norms of up to {norms.max() / median:.3g} times the median and "
            f"{100 * share:.3g} % of the sum of squares: the result is theirs. Leave them out: "
            "rows=suture.Rows()",
            SutureWarning,
            stacklevel=4,
        )


@contextmanager
def whole_rows(
    name: str, shards: Sequence[_core.Rows], starts: Sequence[int], known: str = "shards"
) -> Iterator[None]:
    """Turns the core's "shards[2][7, 1] is nan" into the row number of the whole input; `starts`
    are the numbers of the shards' first rows, `known` is what the core calls them."""
    try:
        yield
    except ValueError as error:
        text = str(error)
        found = re.match(rf"{known}\[(\d+)\]\[(\d+), (\d+)\]", text)
        if found:
            shard, row, column = map(int, found.groups())
            text = f"{name}[{starts[shard] + row}, {column}]{text[found.end() :]}"
        elif text.startswith(f"{known} have "):
            text = f"{name} has {text.removeprefix(f'{known} have ')}"
        else:
            raise
        raise type(error)(text) from None


def starts_of(shards: Sequence[_core.Rows]) -> list[int]:
    """The numbers of first rows of shards that follow one another."""
    starts: list[Any] = [0]
    for shard in shards:
        starts.append(starts[-1] + shard.rows)
    return starts[:-1]
