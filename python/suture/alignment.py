# SPDX-License-Identifier: Apache-2.0
"""Rows of two models that belong together although their tokenizers differ."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _core
from ._arguments import whole_numbers
from .reports import SutureWarning

__all__ = ["align"]

Int64 = npt.NDArray[np.int64]


def align(ends_a: Any, ends_b: Any) -> tuple[Int64, Int64]:
    """The tokens at which two tokenizers have read the same text: for every place at which a token
    of each side ends, the last token of each side that ends there.

    Args:
        ends_a: (n_a,) whole numbers that do not decrease: where A's tokens of *one* text end, in
            UTF-8 bytes of the text itself, without special tokens. Equal neighbours are legal:
            tokens within one character (byte fallback), or tokens without text.
        ends_b: (n_b,) likewise, of B's tokens of the same text.

    Returns:
        (rows_a, rows_b): two equally long ascending int64 arrays; token rows_a[i] of A goes with
        token rows_b[i] of B. Equal lists without equal neighbours give the identity.

    Raises:
        ValueError: a list decreases, has a negative end (-1 is one that is not known: take such
            tokens out), or is not one-dimensional.
        TypeError: a list does not hold whole numbers.

    Warns:
        SutureWarning: both have tokens, but no end in common.

    >>> import suture
    >>> rows_a, rows_b = suture.align([2, 5, 9], [2, 3, 5, 5, 9])
    >>> rows_a.tolist(), rows_b.tolist()
    ([0, 1, 2], [0, 3, 4])
    """
    a, b = whole_numbers("ends_a", ends_a), whole_numbers("ends_b", ends_b)
    rows_a, rows_b = shared_ends(a, b)
    if len(a) and len(b) and not len(rows_a):
        warnings.warn(
            f"align: ends_a ({a[0]} to {a[-1]}) and ends_b ({b[0]} to {b[-1]}) share no end, so "
            "there is no pair: are both the ends of one text, in bytes?",
            SutureWarning,
            stacklevel=2,
        )
    return rows_a, rows_b


def shared_ends(a: Int64, b: Int64) -> tuple[Int64, Int64]:
    """`align` of arrays that are known to be whole numbers, without its warning."""
    room = min(len(a), len(b))
    rows_a, rows_b = np.empty(room, np.int64), np.empty(room, np.int64)
    count = _core.align(a, b, rows_a, rows_b)
    return rows_a[:count].copy(), rows_b[:count].copy()
