# SPDX-License-Identifier: Apache-2.0
"""The same numbers as every kind of array that the package takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import torch

# Numbers that bfloat16 and float16 hold exactly, so that every kind must give the same result.
ROWS, COLS = 24, 6


def exact(rng: np.random.Generator, shape: tuple[int, ...] = (ROWS, COLS)) -> np.ndarray:
    return rng.integers(-64, 64, shape).astype(np.float32) / 16


def strided(array: np.ndarray) -> np.ndarray:
    """A view with row stride > columns."""
    wide = np.full((*array.shape[:-1], array.shape[-1] + 5), np.nan, array.dtype)
    wide[..., 2 : 2 + array.shape[-1]] = array
    return wide[..., 2 : 2 + array.shape[-1]]


def unaligned(array: np.ndarray) -> np.ndarray:
    raw = np.zeros(array.nbytes + 1, np.uint8)
    view = raw[1:].view(array.dtype).reshape(array.shape)
    view[...] = array
    assert not view.flags.aligned
    return view


def memmap(array: np.ndarray, folder: Path) -> np.ndarray:
    path = folder / "array.npy"
    np.save(path, array)
    return np.load(path, mmap_mode="r")


def read_only(array: np.ndarray) -> np.ndarray:
    copy = array.copy()
    copy.flags.writeable = False
    return copy


class OldProducer:
    """DLPack from before `max_version`."""

    def __init__(self, array: np.ndarray) -> None:
        self._array = array
        self.shape = array.shape

    def __dlpack__(self, stream: object = None) -> Any:
        return self._array.__dlpack__()

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)


class NewProducer(OldProducer):
    """DLPack 1, with a versioned capsule."""

    def __dlpack__(self, *, max_version: tuple[int, int] | None = None) -> Any:
        assert max_version == (1, 0)
        return self._array.__dlpack__(max_version=max_version)


Maker = Callable[[np.ndarray, Path], Any]

# Kinds that the core reads in place.
DIRECT: dict[str, Maker] = {
    "float32": lambda x, _: x,
    "float64": lambda x, _: x.astype(np.float64),
    "float16": lambda x, _: x.astype(np.float16),
    "bfloat16 of ml_dtypes": lambda x, _: x.astype(ml_dtypes.bfloat16),
    "bfloat16 as voids": lambda x, _: x.astype(ml_dtypes.bfloat16).view("V2"),
    "row stride": lambda x, _: strided(x),
    "row stride, float16": lambda x, _: strided(x.astype(np.float16)),
    "every other row": lambda x, _: np.repeat(x, 2, axis=0)[::2],
    "unaligned": lambda x, _: unaligned(x),
    "unaligned float64": lambda x, _: unaligned(x.astype(np.float64)),
    "memmap": lambda x, p: memmap(x, p),
    "memmap of bfloat16": lambda x, p: memmap(x.astype(ml_dtypes.bfloat16), p),
    "read-only": lambda x, _: read_only(x),
    "memoryview": lambda x, _: memoryview(x),
    "batch, position, d": lambda x, _: x.reshape(4, -1, x.shape[-1]),
    "strided batch": lambda x, _: strided(x.reshape(4, -1, x.shape[-1])),
    "four axes": lambda x, _: x.reshape(2, 1, -1, x.shape[-1]),
    "torch": lambda x, _: torch.from_numpy(x.copy()),
    "torch float64": lambda x, _: torch.from_numpy(x.astype(np.float64)),
    "torch float16": lambda x, _: torch.from_numpy(x.astype(np.float16)),
    "torch bfloat16": lambda x, _: torch.from_numpy(x.copy()).bfloat16(),
    "torch with gradient": lambda x, _: torch.from_numpy(x.copy()).requires_grad_(),
    "torch row stride": lambda x, _: torch.from_numpy(strided(x).base)[:, 2 : 2 + x.shape[-1]],
    "torch batch": lambda x, _: torch.from_numpy(x.copy()).reshape(4, -1, x.shape[-1]),
    "old DLPack": lambda x, _: OldProducer(x),
    "new DLPack": lambda x, _: NewProducer(x),
}

# Kinds that are copied block by block.
COPIED: dict[str, Maker] = {
    "column order": lambda x, _: np.asfortranarray(x),
    "backwards": lambda x, _: x[::-1].copy()[::-1],
    "every other column": lambda x, _: np.repeat(x, 2, axis=1)[:, ::2],
    "transposed torch": lambda x, _: torch.from_numpy(x.T.copy()).T,
    "transposed torch bfloat16": lambda x, _: torch.from_numpy(x.T.copy()).bfloat16().T,
    "part of each sequence": lambda x, _: np.concatenate(
        [np.full((4, 1, x.shape[-1]), np.nan, x.dtype), x.reshape(4, -1, x.shape[-1])], axis=1
    )[:, 1:],
    "transposed batch": lambda x, _: (
        x.reshape(4, -1, x.shape[-1]).transpose(1, 0, 2).copy().transpose(1, 0, 2)
    ),
    "repeated by stride 0": lambda x, _: np.broadcast_to(x, (1, *x.shape))[[0]],
}


def files(array: np.ndarray, folder: Path) -> dict[str, Any]:
    """Inputs in several parts."""
    parts = [array[:5], array[5:6], array[6:6], array[6:]]
    np.save(folder / "whole.npy", array)
    shards = folder / "shards"
    shards.mkdir()
    for i, part in enumerate(parts):
        np.save(shards / f"{i:05d}.npy", part.astype(np.float16))
    return {
        "path": folder / "whole.npy",
        "path as text": str(folder / "whole.npy"),
        "folder": shards,
        "list of arrays": parts,
        "list of paths": sorted(shards.glob("*.npy")),
        "mixed": [parts[0], torch.from_numpy(array[5:].copy())],
        "generator": (part for part in parts),
        "column order in parts": [np.asfortranarray(part) for part in parts if len(part)],
    }
