# SPDX-License-Identifier: Apache-2.0
"""Sparse codes: which latents are active on each token, and how much."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import numpy.typing as npt

from . import _core
from ._arguments import integer

__all__ = ["SparseCodes"]


class SparseCodes:
    """Activations of a SAE on N tokens, `width` slots a token.

    `SAE.encode` makes them; this constructor does from arrays.

    Args:
        indices: (N, width) whole numbers; the latent of each slot, negative in empty slots.
        values: (N, width); the activation in each slot.
        d_sae: latents of the SAE.

    Raises:
        TypeError, ValueError: naming the argument, its value and what was expected.

    >>> import numpy as np, suture
    >>> codes = suture.SparseCodes([[4, 1], [2, -1]], [[2.0, 1.0], [3.0, 0.0]], d_sae=5)
    >>> codes
    SparseCodes(2 tokens, width=2, d_sae=5)
    >>> codes.to_dense().tolist()
    [[0.0, 1.0, 0.0, 0.0, 2.0], [0.0, 0.0, 3.0, 0.0, 0.0]]
    """

    def __init__(self, indices: npt.ArrayLike, values: npt.ArrayLike, d_sae: int) -> None:
        # The core holds latents as int32.
        latents = integer("d_sae", d_sae, 1, 2**31 - 1)
        slots = _numbers(indices)
        numbers = _numbers(values)
        if slots.dtype.kind not in "iu":
            raise TypeError(f"indices has dtype {slots.dtype}, expected whole numbers")
        if numbers.dtype.kind != "f":
            raise TypeError(f"values has dtype {numbers.dtype}, expected floating-point numbers")
        if slots.ndim != 2:
            raise ValueError(f"indices has shape {slots.shape}, expected (N, width)")
        if numbers.shape != slots.shape:
            raise ValueError(f"values has shape {numbers.shape}, expected {slots.shape} as indices")
        if slots.size and slots.max() >= latents:
            raise ValueError(f"indices has {slots.max()}, expected less than d_sae = {latents}")
        with np.errstate(over="ignore"):
            exact = np.ascontiguousarray(numbers, np.float32)
        if slots.dtype.kind == "i":
            slots = np.maximum(slots, -1)
        slots = np.ascontiguousarray(slots, np.int32)
        rows, width = slots.shape
        self._set(_core.codes_create(latents, rows, width, slots, exact))

    def _set(self, core: _core.Codes) -> None:
        self._core = core
        self.d_sae, indices, values, counts = core.arrays()
        self.indices: npt.NDArray[np.int32] = np.asarray(indices)
        """(N, width), read-only: the latent of each slot, -1 in empty slots."""
        self.values: npt.NDArray[np.float32] = np.asarray(values)
        """(N, width), read-only: the activation in each slot, 0 in empty slots."""
        self.counts: npt.NDArray[np.int32] = np.asarray(counts)
        """(N,), read-only: slots in use."""

    @classmethod
    def _wrap(cls, core: _core.Codes) -> Self:
        self = cls.__new__(cls)
        self._set(core)
        return self

    @classmethod
    def _joined(cls, parts: list[_core.Codes]) -> Self:
        """Codes of consecutive tokens as one."""
        if len(parts) == 1:
            return cls._wrap(parts[0])
        pieces = [cls._wrap(part) for part in parts]
        width = max(piece.width for piece in pieces)
        rows = sum(map(len, pieces))
        indices = np.full((rows, width), -1, np.int32)
        values = np.zeros((rows, width), np.float32)
        start = 0
        for piece in pieces:
            stop = start + len(piece)
            indices[start:stop, : piece.width] = piece.indices
            values[start:stop, : piece.width] = piece.values
            start = stop
        return cls(indices, values, pieces[0].d_sae)

    @property
    def width(self) -> int:
        """Slots a token."""
        return int(self.indices.shape[1])

    @property
    def shape(self) -> tuple[int, int]:
        """(N, d_sae), that of the dense matrix."""
        return len(self), self.d_sae

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, rows: Any) -> SparseCodes:
        """Codes of some tokens: a number, a slice, whole numbers or a mask. Copies them.

        >>> import suture
        >>> codes = suture.SparseCodes([[4], [2], [0]], [[2.0], [3.0], [1.0]], d_sae=5)
        >>> codes[1:].indices.tolist()
        [[2], [0]]
        """
        if isinstance(rows, tuple):
            raise TypeError(f"rows is {rows!r}, expected one index: use to_dense() for latents")
        if isinstance(rows, (int, np.integer)) and not isinstance(rows, bool):
            row = int(rows) + (len(self) if rows < 0 else 0)
            if not 0 <= row < len(self):
                raise IndexError(f"rows is {rows}, expected less than {len(self)} tokens")
            rows = slice(row, row + 1)
        try:
            indices, values = self.indices[rows], self.values[rows]
        except (IndexError, TypeError) as error:
            raise type(error)(f"rows is {rows!r}, expected rows of {len(self)}: {error}") from None
        return SparseCodes(indices, values, self.d_sae)

    def to_dense(self) -> npt.NDArray[np.float32]:
        """(N, d_sae) float32. That is N x d_sae x 4 bytes.

        >>> import suture
        >>> suture.SparseCodes([[1, -1]], [[2.0, 0.0]], d_sae=3).to_dense().tolist()
        [[0.0, 2.0, 0.0]]
        """
        dense = np.zeros(self.shape, np.float32)
        tokens, slots = np.nonzero(self.indices >= 0)
        dense[tokens, self.indices[tokens, slots]] = self.values[tokens, slots]
        return dense

    def to_scipy(self) -> Any:
        """`scipy.sparse.csr_array` of shape (N, d_sae). Needs scipy.

        >>> import pytest, suture
        >>> _ = pytest.importorskip("scipy")
        >>> suture.SparseCodes([[1, -1]], [[2.0, 0.0]], d_sae=3).to_scipy().nnz
        1
        """
        from scipy.sparse import csr_array

        used = self.indices >= 0
        starts = np.concatenate([[0], np.cumsum(used.sum(1))])
        matrix = csr_array((self.values[used], self.indices[used], starts), shape=self.shape)
        matrix.sort_indices()
        return matrix

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (np.array(self.indices), np.array(self.values), self.d_sae)

    def __repr__(self) -> str:
        return f"SparseCodes({len(self)} tokens, width={self.width}, d_sae={self.d_sae})"


def _numbers(array: Any) -> npt.NDArray[Any]:
    """A list, an array, or a torch tensor of any kind that NumPy has no word for."""
    if hasattr(array, "detach"):
        array = array.detach().cpu()
        if str(array.dtype) == "torch.bfloat16":
            array = array.float()
    return np.asarray(array)
