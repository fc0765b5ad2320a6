# SPDX-License-Identifier: Apache-2.0
"""Activations of any kind as blocks of token rows that the core can read.

An array is anything with the buffer protocol or DLPack: numpy and memory-mapped arrays, torch CPU
tensors, jax arrays. What lies in memory row by row is passed on as it is; other views are copied
block by block. A whole input is never copied.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _core
from ._arguments import existing

Array = Any
"""float32, float64, float16 or bfloat16, (N, d) or (batch, position, d): an object with the buffer
protocol or DLPack. bfloat16 is a torch tensor, an `ml_dtypes` array, or two-byte voids (`V2`)."""
Acts = Any
"""Activations: an array, a path (an `.npy` file, or a folder of them), `suture.Activations` of one
layer, or an iterable of arrays and paths whose rows follow one another."""

BLOCK_BYTES = 16 << 20
KINDS = "an array, a path to an .npy file or a folder of them, or an iterable of those"


def rows(array: Array, name: str, *, vector: bool = False) -> _core.Rows:
    """One array as rows; `vector` also takes (d,) as one row."""
    if isinstance(array, np.ndarray):
        if array.dtype.name == "bfloat16":
            # NumPy cannot export the element type of ml_dtypes; the core takes the bits.
            array = array.view("V2")
        elif array.dtype.kind == "O":
            raise TypeError(
                f"{name} has dtype object, expected float32, float64, float16 or bfloat16"
            )
        if isinstance(array, np.ma.MaskedArray):
            raise TypeError(
                f"{name} is a masked array, expected one without a mask: select the rows first, or "
                "pass its .data"
            )
    elif getattr(array, "requires_grad", False) is True:
        # torch refuses to export tensors that it might have to differentiate.
        array = array.detach()
    try:
        return _core.Rows(array, name, vector=vector)
    except (BufferError, RuntimeError, ValueError) as error:
        # What the exporter says of itself (sparse tensors, the meta device) names no argument.
        if str(error).startswith(name):
            raise
        kind = type(array).__name__
        raise TypeError(f"{name} is a {kind} that cannot be read here: {error}") from error


def weight(array: Array, name: str, *, vector: bool = False) -> _core.Rows:
    """Weights: like `rows`, and copied if they are a view that cannot be read as it is."""
    found = rows(array, name, vector=vector)
    if len(found.shape) != 2:
        expected = "(d,)" if vector else "a matrix"
        raise ValueError(f"{name} has shape {found.shape}, expected {expected}")
    return found if found.direct else found.block(0, found.rows)


def output(array: npt.NDArray[np.float32]) -> _core.Rows:
    """A float32 array for the core to write to."""
    return _core.Rows(array, "out", writable=True)


def is_array(value: Any) -> bool:
    if isinstance(value, (str, bytes, bytearray)):
        return False
    if hasattr(value, "__dlpack__"):
        return True
    try:
        memoryview(value).release()
    except (TypeError, ValueError, BufferError):
        return isinstance(value, np.ndarray)
    return True


class Stream:
    """Activations as arrays that follow one another, all with the same number of columns.

    Attributes:
        name: what the caller calls them.
        cols: columns.
        total: rows, or None if only reading tells.
        lead: the leading axes of a single array, None of several.
    """

    def __init__(self, acts: Acts, name: str, cols: tuple[int, str] | None = None) -> None:
        self.name = name
        self.lead: tuple[int, ...] | None = None
        self.total: int | None = None
        self._once = False
        self._whole: _core.Rows | None = None
        # Of an iterable: arrays that are opened and not yet read, the first one's number, and the
        # item of the last one, whose memory the next may use again.
        self._ahead: list[_core.Rows] = []
        self._reached = 0
        self._last: Any = None
        source = _source(acts, name)
        if not isinstance(source, Sequence):
            self._once = True
            self._rest: Iterator[Any] = iter(source)
            item = next(self._rest, None)
            if item is None:
                raise ValueError(f"{name} is an empty iterable, expected at least one array")
            # Opened once: not every exporter hands out its memory again.
            first = self._open(0, item)
            self._ahead, self._last = [first], item
        else:
            if len(source) == 0:
                raise ValueError(f"{name} is empty, expected at least one array")
            self._items = source
            first = self._open(0, source[0])
        self.cols = first.cols
        if cols is not None and self.cols != cols[0]:
            where = name if self.is_single else f"{name}[0]"
            raise ValueError(
                f"{where} has shape {first.shape}, expected (…, {cols[0]}): {cols[1]} = {cols[0]}"
            )
        if self.is_single:
            # Exported once: not every exporter hands out its memory again.
            self._whole = first
            self.lead = first.shape[:-1]
            self.total = first.rows
        elif not self._once:
            self.total = sum(array.rows for array in self.arrays())
        if self.total == 0:
            raise ValueError(f"{name} has no rows (shape {first.shape}), expected at least 1")

    @property
    def is_single(self) -> bool:
        return not self._once and len(self._items) == 1

    @property
    def is_one_block(self) -> bool:
        """Whether all rows are read at once."""
        return self._whole is not None and self._whole.direct

    def _open(self, index: int, item: Any) -> _core.Rows:
        name = self.name
        if self._once or len(self._items) > 1:
            name = f"{name}[{index}]"
        if isinstance(item, (str, os.PathLike)):
            item = _load(Path(item), name)
        elif not is_array(item):
            raise TypeError(f"{name} is a {type(item).__name__}, expected an array or a path")
        return rows(item, name)

    def arrays(self) -> Iterator[_core.Rows]:
        """Each array once, in order."""
        if self._once:
            while self._ahead:
                yield self._ahead.pop(0)
                self._last = None
            for item in self._rest:
                self._reached += 1
                yield self._checked(self._reached, item)
        else:
            for index, item in enumerate(self._items):
                yield self._checked(index, item)

    def ahead(self, rows: int) -> list[_core.Rows]:
        """The first arrays of an iterable, with so many rows together if it has them, which stay to
        be read."""
        while sum(array.rows for array in self._ahead) < rows:
            if self._last is not None:
                # Before the iterable writes to the same memory again.
                self._ahead[-1] = self._checked(self._reached, copied(self._last))
            self._last = next(self._rest, None)
            if self._last is None:
                break
            self._reached += 1
            self._ahead.append(self._checked(self._reached, self._last))
        return self._ahead

    def _checked(self, index: int, item: Any) -> _core.Rows:
        found = self._whole if self._whole is not None else self._open(index, item)
        if found.cols != self.cols:
            raise ValueError(
                f"{self.name}[{index}] has shape {found.shape}, expected (…, {self.cols}) "
                f"as {self.name}[0]"
            )
        return found

    def blocks(self) -> Iterator[tuple[int, _core.Rows]]:
        """Rows that the core can read, with the number of the first of them."""
        start = 0
        for array in self.arrays():
            step = array.rows if array.direct else max(1, BLOCK_BYTES // (array.cols * 8))
            for low in range(0, array.rows, max(step, 1)):
                block = array if array.direct else array.block(low, min(low + step, array.rows))
                yield start + low, block
            start += array.rows
        if start == 0:
            raise ValueError(f"{self.name} has no rows, expected at least 1")

    def whole(self) -> list[_core.Rows]:
        """All rows as matrices that share the input's memory, for reading in any order."""
        if self._once:
            raise TypeError(
                f"{self.name} is an iterator, which can be read only once, in order; expected "
                "arrays, paths, or a list of them, because rows are drawn in random order"
            )
        result: list[_core.Rows] = []
        for index, array in enumerate(self.arrays()):
            pieces = array.pieces()
            if pieces is None:
                where = self.name if self.is_single else f"{self.name}[{index}]"
                raise ValueError(
                    f"{where} is a view with shape {array.shape} whose numbers within a row are "
                    "not next to each other, expected them to be: copy it, such as by "
                    "numpy.ascontiguousarray"
                )
            result.extend(piece for piece in pieces if piece.rows)
        return result

    def matrices(self) -> list[_core.Rows]:
        """All rows as matrices, in order. They share the input's memory, but for what an iterator
        yields and for views that do not lie in memory row by row."""
        result: list[_core.Rows] = []
        for array in self.arrays():
            pieces = array.pieces()
            if pieces is None:
                pieces = [array.block(0, array.rows)]
            result.extend(piece for piece in pieces if piece.rows)
        if not result:
            raise ValueError(f"{self.name} has no rows, expected at least 1")
        return result


def copied(item: Any) -> Any:
    """An array's own copy: generators may write to the same memory again."""
    if not is_array(item):
        return item
    if isinstance(item, np.ndarray):
        return item.copy()
    if hasattr(item, "clone"):
        return item.detach().clone()
    return np.array(np.from_dlpack(item) if hasattr(item, "__dlpack__") else memoryview(item))


def width(acts: Acts) -> int:
    """Width (d) of activations of any kind, of which no row is read.

    >>> import numpy as np, suture
    >>> suture.width(np.zeros((3, 8), np.float32))
    8
    """
    return Stream(acts, "acts").cols


def paired(a: Stream, b: Stream) -> Iterator[tuple[int, _core.Rows, _core.Rows]]:
    """The rows of two streams side by side, whatever the sizes of their arrays."""
    if a.total is not None and b.total is not None and a.total != b.total:
        raise _unequal(a, b, a.total, b.total)
    left, right = a.blocks(), b.blocks()
    start = 0
    one = two = None
    while True:
        one = one if one is not None and one.rows else _next(left)
        two = two if two is not None and two.rows else _next(right)
        if one is None or two is None:
            break
        size = min(one.rows, two.rows)
        if size == one.rows == two.rows:
            yield start, one, two
            one = two = None
        else:
            yield start, one.block(0, size), two.block(0, size)
            one, two = one.block(size, one.rows), two.block(size, two.rows)
        start += size
    if one is not None or two is not None:
        total_a = start + (one.rows if one else 0) + sum(block.rows for _, block in left)
        total_b = start + (two.rows if two else 0) + sum(block.rows for _, block in right)
        raise _unequal(a, b, total_a, total_b)


def _next(blocks: Iterator[tuple[int, _core.Rows]]) -> _core.Rows | None:
    for _, block in blocks:
        if block.rows:
            return block
    return None


def _unequal(a: Stream, b: Stream, total_a: int, total_b: int) -> ValueError:
    return ValueError(
        f"{b.name} has {total_b} rows, expected {total_a} as {a.name}: row by row they must be the "
        "same tokens"
    )


def _source(acts: Acts, name: str) -> Iterable[Any]:
    """What to open one by one."""
    if isinstance(acts, (str, os.PathLike)):
        return _paths(Path(acts), name)
    if is_array(acts):
        return [acts]
    if hasattr(acts, "layers") and callable(getattr(acts, "shards", None)):
        layers = tuple(acts.layers)
        if len(layers) != 1:
            raise ValueError(
                f"{name} holds the layers {list(layers)}, expected one: pass {name}.shards(layer)"
            )
        return acts.shards(layers[0])  # type: ignore[no-any-return]
    if isinstance(acts, Mapping) or not isinstance(acts, Iterable):
        raise TypeError(f"{name} is a {type(acts).__name__}, expected {KINDS}")
    return acts


def _paths(path: Path, name: str) -> Sequence[Path]:
    if not path.is_dir():
        return [path]
    if (path / "manifest.json").exists():
        layers = sorted(path.glob("layer_*"))
        if len(layers) != 1:
            raise ValueError(
                f"{name} is the folder {str(path)!r} with {len(layers)} layers, expected one: pass "
                "suture.Activations.open(folder).shards(layer)"
            )
        path = layers[0]
    shards = sorted(path.glob("*.npy"))
    if not shards:
        raise ValueError(f"{name} is the folder {str(path)!r} without .npy files, expected some")
    return shards


def _load(path: Path, name: str) -> npt.NDArray[Any]:
    existing(name, str(path), "an .npy file")
    if path.suffix != ".npy":
        raise ValueError(f"{name} is the path {str(path)!r}, expected an .npy file")
    try:
        loaded: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise _core.FormatError(
            f"{name} is the path {str(path)!r}, expected a whole .npy file: {error}"
        ) from None
    return loaded
