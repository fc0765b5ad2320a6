# SPDX-License-Identifier: Apache-2.0
"""What a training run reads: arrays that stay, or an iterable that can be read once."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from . import _core
from ._inputs import Acts, Stream, is_array

__all__ = ["Arrays", "Once", "TrainingData", "training_data", "whole_rows"]

BUFFER_ROWS = 1 << 16
BUFFER_BYTES = 1 << 28


class Arrays:
    """Rows that can be drawn in any order, as often as wanted."""

    def __init__(self, shards: list[_core.Rows]):
        self._shards = shards
        self.rows: int | None = sum(shard.rows for shard in shards)

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
        with whole_rows("acts", self._shards):
            yield


class Once:
    """Rows of an iterable: a buffer is filled from it, trained on in random order, filled again.

    The buffer holds whole batches, about 65,536 rows or 256 MB as float32. Rows at the end that are
    too few for a batch are left out.
    """

    rows: int | None = None

    def __init__(self, stream: Stream, batch_size: int):
        self._batch_size = batch_size
        rows = min(BUFFER_ROWS, BUFFER_BYTES // (4 * stream.cols))
        self._buffer_rows = max(1, rows // batch_size) * batch_size
        self._blocks = stream.blocks()
        self._held: deque[_core.Rows] = deque()
        self._shards: list[_core.Rows] = []
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
                f"acts has {sum(block.rows for block in self._held)} rows, expected at least "
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
        held = sum(block.rows for block in self._held)
        while held < rows:
            found = next(self._blocks, None)
            if found is None:
                return False
            if found[1].rows:
                self._held.append(found[1])
                held += found[1].rows
        return True

    def _fill(self) -> None:
        self._start += self._size
        wanted = self._buffer_rows
        self._shards = []
        if not self._has(wanted):
            held = sum(block.rows for block in self._held)
            wanted = held // self._batch_size * self._batch_size
        if wanted == self._unfinished and wanted > self._batch_size:
            wanted -= self._batch_size
        self._unfinished = None
        self._size = self._left = wanted
        while wanted:
            block = self._held.popleft()
            if block.rows > wanted:
                self._held.appendleft(block.block(wanted, block.rows))
                block = block.block(0, wanted)
            self._shards.append(block)
            wanted -= block.rows

    @contextmanager
    def named(self) -> Iterator[None]:
        with whole_rows("acts", self._shards, self._start):
            yield


TrainingData = Arrays | Once


def training_data(acts: Acts, cols: tuple[int, str], batch_size: int) -> TrainingData:
    """The rows of `acts`, of any kind."""
    if _is_once(acts):
        return Once(Stream(map(_copied, acts), "acts", cols), batch_size)
    return Arrays(Stream(acts, "acts", cols).whole())


def _is_once(acts: Any) -> bool:
    known = isinstance(acts, (str, bytes, dict, Sequence)) or is_array(acts)
    return isinstance(acts, Iterable) and not known and not hasattr(acts, "shards")


def _copied(item: Any) -> Any:
    """An array's own copy: generators may write to the same memory again."""
    if not is_array(item):
        return item
    if isinstance(item, np.ndarray):
        return item.copy()
    if hasattr(item, "clone"):
        return item.detach().clone()
    return np.array(np.from_dlpack(item) if hasattr(item, "__dlpack__") else memoryview(item))


@contextmanager
def whole_rows(name: str, shards: list[_core.Rows], start: int = 0) -> Iterator[None]:
    """Turns the core's "shards[2][7, 1] is nan" into the row number of the whole input, of which
    `start` rows come before the shards."""
    try:
        yield
    except ValueError as error:
        text = str(error)
        found = re.match(r"shards\[(\d+)\]\[(\d+), (\d+)\]", text)
        if found:
            shard, row, column = map(int, found.groups())
            row += start + sum(before.rows for before in shards[:shard])
            text = f"{name}[{row}, {column}]{text[found.end() :]}"
        elif text.startswith("shards have "):
            text = f"{name} has {text.removeprefix('shards have ')}"
        else:
            raise
        raise type(error)(text) from None
