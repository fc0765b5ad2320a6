# SPDX-License-Identifier: Apache-2.0
"""Decoders, unembeddings and codes at the door."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from .. import _core
from .._inputs import Array, rows, weight
from ..codes import SparseCodes
from ..sae import SAE


def decoder(value: SAE | Array, name: str) -> _core.Rows:
    """W_dec (d_sae, d) of a SAE, or as an array."""
    if isinstance(value, SAE):
        return weight(value.W_dec, name)
    return weight(value, name)


def unembedding(value: Array, name: str, width: int) -> _core.Rows:
    """W_U (d, vocabulary) as the core has it, transposed: nothing is copied where `value` is itself
    the transpose of the weight of an output head."""
    shape = rows(value, name).shape
    if len(shape) != 2:
        raise ValueError(f"{name} has shape {shape}, expected (d, vocabulary)")
    if shape[0] != width:
        hint = ": it is the transpose" if shape[1] == width else ""
        raise ValueError(f"{name} has shape {shape}, expected ({width}, vocabulary){hint}")
    if getattr(value, "requires_grad", False) is True:
        value = value.detach()
    return weight(value.T if hasattr(value, "T") else np.asarray(value).T, name)


@contextmanager
def transposed_back() -> Iterator[None]:
    """Messages of the core about `unembedding[token, j]` in the words of the caller: `W_U[j,
    token]`."""
    try:
        yield
    except ValueError as error:
        text = re.sub(r"\bunembedding(_[ab])?\[(\d+), (\d+)\]", r"W_U\1[\3, \2]", str(error))
        text = re.sub(r"\bunembedding(_[ab])?\b", r"W_U\1", text)
        if text == str(error):
            raise
        raise type(error)(text) from None


def sparse_codes(value: Any, name: str, d_sae: int) -> SparseCodes:
    """Codes of a SAE with `d_sae` latents."""
    if not isinstance(value, SparseCodes):
        raise TypeError(f"{name} is a {type(value).__name__}, expected suture.SparseCodes")
    if value.d_sae != d_sae:
        raise ValueError(f"{name} has d_sae = {value.d_sae}, expected {d_sae}")
    return value
