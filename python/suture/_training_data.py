# SPDX-License-Identifier: Apache-2.0
"""What a training run reads: arrays that stay, or an iterable that can be read once."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from . import _core
from ._counted import Counting, counted_rows, warn_of_few, whole_rows
from ._inputs import Acts, Stream, copied, is_array
from .norms import CountedRows, default_bound, row_norms
from .rows import Rows, refuse_iterator
from .sae import SAE

__all__ = ["Arrays", "Once", "TrainingData", "training_data"]

BUFFER_ROWS = 1 << 16
BUFFER_BYTES = 1 << 28


class Like:
    """What latents are to stay: those of a SAE of another model, on its rows of the same text.

    Args:
        like: (SAE, activations), as many rows as `total`.
    """

    def __init__(self, like: Any, total: int):
        if not isinstance(like, tuple) or len(like) != 2 or not isinstance(like[0], SAE):
            found = f"a {type(like).__name__}"
            if isinstance(like, tuple):
                found += f" of {', '.join(type(part).__name__ for part in like) or 'nothing'}"
            raise TypeError(f"like is {found}, expected (suture.SAE, its activations)")
        self.sae: SAE = like[0]
        self._acts = like[1]
        self._stream = Stream(like[1], "like", (self.sae.d_in, "d_in"))
        self._whole = self._stream.whole()
        if self._stream.total != total:
            raise ValueError(f"like has {self._stream.total} rows, expected {total} as acts")
        self.shards: list[_core.Rows] = []
        self.starts: list[int] = []

    def ordinary(self, rows: Rows) -> Rows:
        """`rows` without those that have an enormous norm here."""
        bound = default_bound(self._stream, rows.norm_bound)
        if bound == math.inf:
            return rows
        kept = row_norms(self._acts, progress=False) <= bound
        if kept.all():
            return rows
        return replace(rows, mask=kept if rows.mask is None else np.logical_and(rows.mask, kept))

    def take(self, parts: Iterable[tuple[int, int]]) -> None:
        """Keeps the rows that count: (first, number of them) for each run of them."""
        for first, count in parts:
            start = 0
            for shard in self._whole:
                low, high = max(first, start), min(first + count, start + shard.rows)
                if low < high:
                    self.shards.append(shard.block(low - start, high - start))
                    self.starts.append(low)
                start += shard.rows


class Arrays:
    """Rows that can be drawn in any order, as often as wanted: those that count."""

    def __init__(
        self, acts: Acts, stream: Stream, rows: Rows, bound: float | None, like: Any = None
    ):
        self.like = None if like is None else Like(like, stream.total or 0)
        if self.like is not None:
            rows = self.like.ordinary(rows)
        self._shards, self._starts, self.counted = counted_rows(acts, stream, rows, bound)
        self.bound = self.counted.norm_bound
        self.rows: int | None = self.counted.rows
        if self.like is not None:
            shards = zip(self._starts, self._shards, strict=True)
            self.like.take((first, shard.rows) for first, shard in shards)

    def next(self, steps: int) -> tuple[list[_core.Rows], int, bool]:
        """What to run on for up to so many steps, for how many, and whether nothing is left."""
        return self._shards, steps, False

    def go_on(self, core: _core.Trainer, state: dict[str, Any]) -> None:
        """Checks that these are the rows that a trainer of this state was trained on."""
        if state["steps"]:
            with self.named():
                core.check_data(self._shards)

    @contextmanager
    def named(self) -> Iterator[None]:
        """Turns the core's "shards[2][7, 1] is nan" into the row number of the whole input."""
        with ExitStack() as stack:
            stack.enter_context(whole_rows("acts", self._shards, self._starts))
            if self.like is not None:
                stack.enter_context(
                    whole_rows("like", self.like.shards, self.like.starts, known="like_shards")
                )
            yield


class Once:
    """Rows of an iterable: a buffer is filled from it, trained on in random order, filled again.

    The buffer holds whole batches, about 65,536 rows or 256 MB as float32. Rows at the end that are
    too few for a batch are left out. Rows beyond the bound on norms do not come into it.
    """

    rows: int | None = None
    like: Like | None = None

    def __init__(self, stream: Stream, batch_size: int, bound: float):
        self.bound = bound
        self._counting = Counting(stream.name, bound)
        self._batch_size = batch_size
        rows = min(BUFFER_ROWS, BUFFER_BYTES // (4 * stream.cols))
        self._buffer_rows = max(1, rows // batch_size) * batch_size
        self._blocks = stream.blocks()
        # With the numbers of their first rows.
        self._held: deque[tuple[int, _core.Rows]] = deque()
        self._shards: list[_core.Rows] = []
        self._starts: list[int] = []
        # Of the iterable: before the buffer; of the buffer: in all and not yet trained on.
        self._start = 0
        self._size = 0
        self._left = 0
        # The order of a buffer that was not used up, which the next must not be taken for.
        self._unfinished: int | None = None

    def after(self, state: dict[str, Any]) -> None:
        """For a trainer that has been run before, on other rows."""
        order = state.get("order")
        if order and order["position"] < order["rows"]:
            self._unfinished = order["rows"]

    def next(self, steps: int) -> tuple[list[_core.Rows], int, bool]:
        if not self._left:
            self._fill()
        if not self._left and not self._start:
            raise ValueError(
                f"acts has {sum(block.rows for _, block in self._held)} rows, expected at least "
                f"batch_size = {self._batch_size}"
            )
        steps = min(steps, self._left // self._batch_size)
        self._left -= steps * self._batch_size
        return self._shards, steps, not self._left and not self._has(self._batch_size)

    def go_on(self, core: _core.Trainer, state: dict[str, Any]) -> None:
        if not state["steps"]:
            return
        done = state["order"]["position"]
        while self._start + self._size < state["tokens"]:
            self._fill()
            if not self._size:
                raise ValueError(
                    f"acts has {self._start} rows, expected the {state['tokens']} that were "
                    "trained on, and more"
                )
        with self.named():
            core.check_data(self._shards)
        self._left = self._size - done

    def _has(self, rows: int) -> bool:
        """Whether so many rows come after the buffer; they are read for that."""
        held = sum(block.rows for _, block in self._held)
        while held < rows:
            found = next(self._blocks, None)
            if found is None:
                return False
            for run in self._counting.runs(*found):
                self._held.append(run)
                held += run[1].rows
        return True

    def _fill(self) -> None:
        self._start += self._size
        wanted = self._buffer_rows
        self._shards, self._starts = [], []
        if not self._has(wanted):
            held = sum(block.rows for _, block in self._held)
            wanted = held // self._batch_size * self._batch_size
        if wanted == self._unfinished and wanted > self._batch_size:
            wanted -= self._batch_size
        self._unfinished = None
        self._size = self._left = wanted
        while wanted:
            first, block = self._held.popleft()
            if block.rows > wanted:
                self._held.appendleft((first + wanted, block.block(wanted, block.rows)))
                block = block.block(0, wanted)
            self._shards.append(block)
            self._starts.append(first)
            wanted -= block.rows

    @contextmanager
    def named(self) -> Iterator[None]:
        with whole_rows("acts", self._shards, self._starts):
            yield

    @property
    def counted(self) -> CountedRows:
        """Which rows counted, of those read so far."""
        return self._counting.report()


TrainingData = Arrays | Once


def training_data(
    acts: Acts,
    cols: tuple[int, str],
    batch_size: int,
    rows: Rows,
    bound: float | None = None,
    function: str = "train",
    like: Any = None,
) -> TrainingData:
    """The rows of `acts`, of any kind, that count; `bound` in place of that in `rows`."""
    if _is_once(acts):
        if like is not None:
            raise TypeError(
                "acts is an iterator, whose rows come in another order than those of like, "
                "expected arrays, paths or a list of them"
            )
        stream = Stream(map(copied, acts), "acts", cols)
        if rows.selects:
            refuse_iterator(rows, stream)
        if bound is None:
            bound = default_bound(stream, rows.norm_bound)
        return Once(stream, batch_size, bound)
    stream = Stream(acts, "acts", cols)
    data = Arrays(acts, stream, rows, bound, like)
    if not rows.selects:
        warn_of_few(function, stream, data.bound)
    return data


def _is_once(acts: Any) -> bool:
    known = isinstance(acts, (str, bytes, dict, Sequence)) or is_array(acts)
    return isinstance(acts, Iterable) and not known and not hasattr(acts, "shards")
