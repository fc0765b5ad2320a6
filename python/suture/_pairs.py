# SPDX-License-Identifier: Apache-2.0
"""Rows of two inputs that belong together by `pairs=`, read where they are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _core
from ._arguments import whole_numbers
from ._inputs import BLOCK_BYTES, Stream, paired

Int64 = npt.NDArray[np.int64]
Pairs = Any
"""(rows_a, rows_b): two equally long (P,) arrays of whole numbers; row rows_a[i] of A goes with row
rows_b[i] of B. From `suture.align` or `Activations.pairs_with`, or in any order of one's own."""


@dataclass(frozen=True)
class PairedBlock:
    """Rows of both inputs that belong together.

    start: pairs before these; h_a, h_b: blocks of rows; first_a, first_b: what their first rows
    are called in the whole inputs; rows_a, rows_b: the rows of the pairs within the blocks, None
    for all in order.
    """

    start: int
    h_a: _core.Rows
    h_b: _core.Rows
    first_a: int
    first_b: int
    rows_a: Int64 | None
    rows_b: Int64 | None

    def __len__(self) -> int:
        return self.h_a.rows if self.rows_a is None else len(self.rows_a)

    def parts(self, count: int) -> Iterator[tuple[int, _core.Rows, _core.Rows]]:
        """The rows side by side, at most `count` at a time, each part with how many came before."""
        for low in range(0, len(self), count):
            high = min(low + count, len(self))
            if self.rows_a is None or self.rows_b is None:
                yield self.start + low, self.h_a.block(low, high), self.h_b.block(low, high)
            else:
                part_a, part_b = self.rows_a[low:high], self.rows_b[low:high]
                yield self.start + low, self.h_a.take(part_a), self.h_b.take(part_b)

    def numbers(self, start: int, count: int) -> tuple[Int64, Int64]:
        """What the rows of the part that `start` pairs came before are in the whole inputs."""
        part = slice(start - self.start, start - self.start + count)
        rows = np.arange(part.start, part.stop)
        return (
            self.first_a + (rows if self.rows_a is None else self.rows_a[part]),
            self.first_b + (rows if self.rows_b is None else self.rows_b[part]),
        )


def paired_blocks(a: Stream, b: Stream, pairs: Pairs) -> tuple[int | None, Iterator[PairedBlock]]:
    """The number of pairs, where it is known, and their blocks; without `pairs`, row i of both."""
    if pairs is None:
        total = a.total if a.total is not None else b.total
        return total, (
            PairedBlock(start, h_a, h_b, start, start, None, None)
            for start, h_a, h_b in paired(a, b)
        )
    chosen = row_pairs(pairs, a.total, b.total, a.name, b.name)
    return len(chosen[0]), gathered(a, b, chosen)


def row_pairs(
    pairs: Pairs, rows_a: int | None, rows_b: int | None, a: str, b: str
) -> tuple[Int64, Int64]:
    """`pairs` checked against inputs `a` and `b` of so many rows, where that is known."""
    try:
        first, second = pairs
    except (TypeError, ValueError):
        length = f" of length {len(pairs)}" if hasattr(pairs, "__len__") else ""
        raise TypeError(
            f"pairs is a {type(pairs).__name__}{length}, expected (rows_a, rows_b), two arrays of "
            "row numbers as from suture.align"
        ) from None
    found = whole_numbers("pairs[0]", first), whole_numbers("pairs[1]", second)
    if len(found[0]) != len(found[1]):
        raise ValueError(
            f"pairs[1] has {len(found[1])} elements, expected {len(found[0])} as pairs[0]: row "
            f"pairs[0][i] of {a} goes with row pairs[1][i] of {b}"
        )
    if not len(found[0]):
        raise ValueError("pairs is empty, expected at least one pair of rows")
    for number, (rows, limit, name) in enumerate(zip(found, (rows_a, rows_b), (a, b), strict=True)):
        wrong = (rows < 0) if limit is None else (rows < 0) | (rows >= limit)
        if wrong.any():
            at = int(np.argmax(wrong))
            expected = (
                "at least 0" if limit is None else f"0 to {limit - 1}: {name} has {limit} rows"
            )
            raise ValueError(f"pairs[{number}][{at}] is {rows[at]}, expected {expected}")
    return found


def gathered(a: Stream, b: Stream, pairs: tuple[Int64, Int64]) -> Iterator[PairedBlock]:
    """The pairs, in groups that lie within one block of each stream.

    Ascending pairs are met in one walk through both, so these may be iterators. Others are put in
    order by A's rows; where B's do not ascend then, both are opened block by block as needed.
    """
    rows_a, rows_b = pairs
    if not _ascends(rows_a):
        order = np.argsort(rows_a, kind="stable")
        rows_a, rows_b = rows_a[order], rows_b[order]
    if _ascends(rows_b):
        return _walk(a, b, rows_a, rows_b)
    for stream in (a, b):
        if stream.total is None:
            raise TypeError(
                f"{stream.name} is an iterator, which can be read only once, in order; expected "
                "arrays, paths or a list of them, or pairs that ascend on both sides"
            )
    return _by_blocks(a, b, rows_a, rows_b)


def _ascends(rows: Int64) -> bool:
    return bool((rows[1:] >= rows[:-1]).all())


def _walk(a: Stream, b: Stream, rows_a: Int64, rows_b: Int64) -> Iterator[PairedBlock]:
    sides = _Side(a, 0), _Side(b, 1)
    at = 0
    while at < len(rows_a):
        block_a, block_b = sides[0].reach(int(rows_a[at]), at), sides[1].reach(int(rows_b[at]), at)
        stop = min(
            int(np.searchsorted(rows_a, sides[0].stop)), int(np.searchsorted(rows_b, sides[1].stop))
        )
        yield PairedBlock(
            at,
            block_a,
            block_b,
            sides[0].start,
            sides[1].start,
            np.ascontiguousarray(rows_a[at:stop] - sides[0].start),
            np.ascontiguousarray(rows_b[at:stop] - sides[1].start),
        )
        at = stop


class _Side:
    """Blocks of one stream, in order."""

    def __init__(self, stream: Stream, number: int) -> None:
        self._stream, self._number = stream, number
        self._blocks = stream.blocks()
        self._block: _core.Rows | None = None
        self.start = self.stop = 0

    def reach(self, row: int, at: int) -> _core.Rows:
        """The block that holds `row`, that of pair `at`."""
        while self._block is None or row >= self.stop:
            found = next(self._blocks, None)
            if found is None:
                raise ValueError(
                    f"pairs[{self._number}][{at}] is {row}, expected 0 to {self.stop - 1}: "
                    f"{self._stream.name} has {self.stop} rows"
                )
            self.start, self._block = found
            self.stop = self.start + self._block.rows
        return self._block


def _by_blocks(a: Stream, b: Stream, rows_a: Int64, rows_b: Int64) -> Iterator[PairedBlock]:
    starts_a, starts_b = _starts(a), _starts(b)
    which_a = np.searchsorted(starts_a, rows_a, side="right") - 1
    which_b = np.searchsorted(starts_b, rows_b, side="right") - 1
    order = np.lexsort((which_b, which_a))
    rows_a, rows_b, which_a, which_b = (x[order] for x in (rows_a, rows_b, which_a, which_b))
    changes = np.flatnonzero((np.diff(which_a) != 0) | (np.diff(which_b) != 0)) + 1
    for low, high in zip([0, *changes], [*changes, len(rows_a)], strict=True):
        first_a, first_b = starts_a[which_a[low]], starts_b[which_b[low]]
        block_a = _block(a, int(first_a))
        block_b = _block(b, int(first_b))
        yield PairedBlock(
            int(low),
            block_a,
            block_b,
            int(first_a),
            int(first_b),
            np.ascontiguousarray(rows_a[low:high] - first_a),
            np.ascontiguousarray(rows_b[low:high] - first_b),
        )


def _starts(stream: Stream) -> Int64:
    """Where the blocks of a stream that can be read again begin."""
    starts: list[int] = []
    start = 0
    for array in stream.arrays():
        starts.extend(range(start, start + array.rows, _step(array)))
        start += array.rows
    return np.array(starts, np.int64)


def _step(array: _core.Rows) -> int:
    return max(array.rows if array.direct else BLOCK_BYTES // (array.cols * 8), 1)


def _block(stream: Stream, first: int) -> _core.Rows:
    """The block of a stream that begins at row `first`."""
    start = 0
    for array in stream.arrays():
        if first < start + array.rows:
            low = first - start
            return array if array.direct else array.block(low, min(low + _step(array), array.rows))
        start += array.rows
    raise ValueError(f"{stream.name} has {start} rows, expected more: it changed while it was read")
