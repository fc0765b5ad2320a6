# SPDX-License-Identifier: Apache-2.0
"""Residual-stream activations with their token ids, in memory or as a folder of shards.

Needs numpy only. `suture.models.extract` makes them; `Activations.open` reads a folder back.

Layout of a folder (format version 1)::

    manifest.json            written last: a folder without it is not a set of activations
    layer_03/00000.npy ...   (rows of the shard, d) float32, float16, or bfloat16 as 2-byte voids
    token_ids/00000.npy ...  (rows of the shard,) int32; positions/ and sequence/ likewise
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt

__all__ = ["Activations", "Shards", "as_float32", "check_paired"]

FORMAT = "suture-activations"
FORMAT_VERSION = 1
MANIFEST = "manifest.json"
INDEX_NAMES = ("token_ids", "positions", "sequence")
# numpy has no bfloat16: np.save of an ml_dtypes.bfloat16 array writes 2-byte voids, and so do we.
STORED_DTYPES: Mapping[str, np.dtype[Any]] = {
    "float32": np.dtype("<f4"),
    "float16": np.dtype("<f2"),
    "bfloat16": np.dtype("V2"),
}


def as_float32(block: Any) -> npt.NDArray[np.float32]:
    """One block of activations as float32, whatever it is stored as.

    Takes a numpy array of float32, float16 or 2-byte voids (bfloat16), or a torch CPU tensor.

    >>> as_float32(np.array([[0x3F80, 0xC000]], dtype=np.uint16).view("V2"))
    array([[ 1., -2.]], dtype=float32)
    """
    if hasattr(block, "detach"):
        return np.asarray(block.detach().float().cpu().numpy())
    array = np.asarray(block)
    if array.dtype == STORED_DTYPES["bfloat16"]:
        bits = np.ascontiguousarray(array).view(np.uint16).astype(np.uint32)
        return (bits << np.uint32(16)).view(np.float32)
    return array.astype(np.float32, copy=False)


class Shards(Sequence[Any]):
    """The rows of one layer as a sequence of (rows, d) arrays, in order, that can be walked again.

    In memory it has one array; from a folder it opens each shard as a read-only memory map when
    that shard is reached.
    """

    def __init__(self, blocks: Sequence[Any] | Sequence[Path]) -> None:
        self._blocks = blocks

    def __len__(self) -> int:
        return len(self._blocks)

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> Shards: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return Shards(self._blocks[index])
        block = self._blocks[index]
        return _load(block) if isinstance(block, Path) else block

    def __repr__(self) -> str:
        return f"Shards({len(self)} blocks)"


class Activations:
    """Rows of the residual stream before some layers, and the token each row belongs to.

    Attributes:
        layers: the layers held, in ascending order.
        dtype: "float32", "float16" or "bfloat16".
        d: width of the residual stream.
        token_ids, positions, sequence: (N,) int32; the token of each row, its position in the
            sequence it was read in (the first token, BOS where there is one, is 0), and the
            number of that sequence.
        metadata: model name and configuration, settings of the extraction.
        path: the folder, or None in memory.

    `acts[layer]` is one (N, d) array, `acts.shards(layer)` a sequence of blocks that is never
    wholly in memory; the functions of `suture` that take activations take both. bfloat16 rows
    are a torch tensor in memory and an array of 2-byte voids (`V2`) from a folder: `as_float32`
    reads either.

    >>> acts = Activations({3: np.ones((2, 4), np.float32)}, token_ids=[5, 6])
    >>> len(acts), acts.layers, acts.d, acts[3].shape
    (2, (3,), 4, (2, 4))
    """

    def __init__(
        self,
        rows: Mapping[int, Any],
        *,
        token_ids: npt.ArrayLike,
        positions: npt.ArrayLike | None = None,
        sequence: npt.ArrayLike | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        if not rows:
            raise ValueError("rows: got no layer, expected a mapping of layer to an (N, d) array")
        tokens = _index("token_ids", token_ids, None)
        shapes = {layer: tuple(block.shape) for layer, block in rows.items()}
        first = next(iter(shapes.values()))
        for layer, shape in shapes.items():
            if len(shape) != 2 or shape != (len(tokens), first[-1]):
                raise ValueError(
                    f"rows[{layer}]: shape {shape}, expected (N, d) with N = {len(tokens)}, "
                    "the number of token ids, and the same d for every layer"
                )
        self.layers: tuple[int, ...] = tuple(sorted(rows))
        self.d: int = int(first[1])
        self.path: Path | None = None
        self.metadata: dict[str, Any] = dict(metadata or {})
        self.dtype: str = _dtype_name(rows[self.layers[0]])
        self._rows = len(tokens)
        self._shards = {layer: Shards([rows[layer]]) for layer in self.layers}
        self._indices: dict[str, npt.NDArray[np.int32]] = {"token_ids": tokens}
        for name, values in (("positions", positions), ("sequence", sequence)):
            if values is not None:
                self._indices[name] = _index(name, values, len(tokens))

    @classmethod
    def open(cls, folder: str | Path) -> Activations:
        """Open a folder that `suture.models.extract(..., out=folder)` wrote.

        Every shard is checked for its presence, shape and size, none is read.

        Raises:
            FileNotFoundError: no such folder, no manifest (an extraction was interrupted), or a
                shard is missing.
            OSError: a shard is cut short.
            ValueError: the manifest or a shard is not what this version writes.

        >>> Activations.open("no/such/folder")
        Traceback (most recent call last):
        FileNotFoundError: folder: no/such/folder has no manifest.json, expected a folder ...
        """
        path = Path(folder)
        manifest = read_manifest(path)
        self = cls.__new__(cls)
        self.path = path
        self.layers = tuple(manifest["layers"])
        self.dtype = manifest["dtype"]
        self.d = manifest["d"]
        self.metadata = manifest["metadata"]
        self._indices = {}
        shard_rows: list[int] = manifest["shards"]
        self._rows = sum(shard_rows)
        for number, rows in enumerate(shard_rows):
            for layer in self.layers:
                expected = ((rows, self.d), STORED_DTYPES[self.dtype])
                _check_shard(shard_path(path, layer_name(layer), number), *expected)
            for name in INDEX_NAMES:
                _check_shard(shard_path(path, name, number), (rows,), np.dtype("<i4"))
        numbers = range(len(shard_rows))
        self._shards = {
            layer: Shards([shard_path(path, layer_name(layer), number) for number in numbers])
            for layer in self.layers
        }
        return self

    def __len__(self) -> int:
        return self._rows

    def __contains__(self, layer: object) -> bool:
        return layer in self._shards

    def __iter__(self) -> Iterator[Any]:
        # Without it Python would walk acts[0], acts[1], ... and take layers for rows.
        raise TypeError(
            f"activations: several layers {list(self.layers)}, expected one: acts[layer] or "
            "acts.shards(layer)"
        )

    def shards(self, layer: int) -> Shards:
        """The rows of `layer` as a sequence of (rows, d) blocks; read-only maps from a folder.

        >>> acts = Activations({0: np.zeros((3, 2), np.float16)}, token_ids=[1, 2, 3])
        >>> sum(len(block) for block in acts.shards(0))
        3
        """
        if layer not in self._shards:
            raise KeyError(f"layer: {layer!r}, expected one of {list(self.layers)}")
        return self._shards[layer]

    layer = shards

    def __getitem__(self, layer: int) -> Any:
        """The rows of `layer` as one (N, d) array. Several shards are copied into memory."""
        blocks = self.shards(layer)
        return blocks[0] if len(blocks) == 1 else np.concatenate(list(blocks))

    @cached_property
    def token_ids(self) -> npt.NDArray[np.int32]:
        return self._read_index("token_ids")

    @cached_property
    def positions(self) -> npt.NDArray[np.int32]:
        return self._read_index("positions")

    @cached_property
    def sequence(self) -> npt.NDArray[np.int32]:
        return self._read_index("sequence")

    def _read_index(self, name: str) -> npt.NDArray[np.int32]:
        if name in self._indices:
            return self._indices[name]
        if self.path is None:
            raise AttributeError(f"{name}: these activations were made without it")
        first = Shards([shard_path(self.path, name, i) for i in range(len(self._any_shards()))])
        return np.concatenate([np.asarray(block) for block in first])

    def _any_shards(self) -> Shards:
        return self._shards[self.layers[0]]

    def __repr__(self) -> str:
        name = self.metadata.get("model")
        where = f", folder={str(self.path)!r}" if self.path else ""
        of = f", model={name!r}" if name else ""
        return (
            f"Activations({len(self)} tokens, d={self.d}, layers={list(self.layers)}, "
            f"dtype={self.dtype}{of}{where})"
        )


def check_paired(a: Any, b: Any) -> None:
    """Refuse two sets of activations whose rows are not the same tokens in the same order.

    Takes `Activations`, anything else with `token_ids`, or (N,) arrays of token ids. Positions
    are compared as well where both sides know them, for the same token read in another context
    is another row.

    Raises:
        ValueError: names the first row that differs and what each side holds there.

    >>> check_paired([5, 6, 7], [5, 6, 7])
    >>> check_paired([5, 6, 7], [5, 9, 7])
    Traceback (most recent call last):
    ValueError: b: token id 9 in row 1, expected 6 as in a: the rows of a pair must be ...
    """
    sides = [_index(n, getattr(x, "token_ids", x), None) for n, x in (("a", a), ("b", b))]
    hint = (
        "the rows of a pair must be the same tokens in the same order; "
        "extract both models from the same texts with the same tokenizer, context and mask"
    )
    row = _first_difference(*sides)
    if row is not None:
        raise ValueError(
            f"b: token id {sides[1][row]} in row {row}, expected {sides[0][row]} as in a: {hint}"
        )
    if len(sides[0]) != len(sides[1]):
        raise ValueError(f"b: {len(sides[1])} rows, expected {len(sides[0])} as in a: {hint}")
    places = [_optional(x, "positions") for x in (a, b)]
    if places[0] is not None and places[1] is not None:
        row = _first_difference(places[0], places[1])
        if row is not None:
            raise ValueError(
                f"b: position {places[1][row]} in row {row}, expected {places[0][row]} "
                f"as in a: {hint}"
            )


def _first_difference(a: npt.NDArray[np.int32], b: npt.NDArray[np.int32]) -> int | None:
    shared = min(len(a), len(b))
    differing = np.flatnonzero(a[:shared] != b[:shared])
    return int(differing[0]) if len(differing) else None


def _optional(x: Any, name: str) -> npt.NDArray[np.int32] | None:
    try:
        values = getattr(x, name)
    except AttributeError:
        return None
    return None if values is None else _index(name, values, None)


def _index(name: str, values: npt.ArrayLike, rows: int | None) -> npt.NDArray[np.int32]:
    array = np.asarray(values)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise ValueError(
            f"{name}: shape {array.shape}, dtype {array.dtype}, expected one-dimensional integers"
        )
    if rows is not None and len(array) != rows:
        raise ValueError(f"{name}: {len(array)} values, expected {rows}, one for each row")
    return array.astype(np.int32, copy=False)


def _dtype_name(block: Any) -> str:
    name = str(block.dtype).removeprefix("torch.")
    for known, stored in STORED_DTYPES.items():
        if name in (known, str(stored)):
            return known
    raise ValueError(f"rows: dtype {name}, expected one of {', '.join(STORED_DTYPES)}")


def layer_name(layer: int) -> str:
    """Name of a layer's folder: `layer_03`."""
    return f"layer_{layer:02d}"


def shard_path(folder: Path, stream: str, number: int) -> Path:
    """Path of one shard of a stream (`layer_03`, `token_ids`, ...)."""
    return folder / stream / f"{number:05d}.npy"


def read_manifest(folder: Path) -> dict[str, Any]:
    """The checked manifest of a folder of activations."""
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(
            f"folder: {folder} has no {MANIFEST}, expected a folder that an extraction "
            "finished writing"
        ) from None
    except ValueError as error:
        raise ValueError(f"{path}: not JSON ({error})") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ValueError(f"{path}: not a manifest of activations, expected format {FORMAT!r}")
    if manifest.get("version") != FORMAT_VERSION:
        raise ValueError(
            f"{path}: format version {manifest.get('version')!r}, expected {FORMAT_VERSION}"
        )
    shards, layers = manifest.get("shards"), manifest.get("layers")
    checks = {
        "layers": _whole_numbers(layers, 0),
        "shards": _whole_numbers(shards, 1),
        "d": _whole_numbers([manifest.get("d")], 1),
        "dtype": manifest.get("dtype") in STORED_DTYPES,
        "metadata": isinstance(manifest.get("metadata"), dict),
    }
    for key, sound in checks.items():
        if not sound:
            raise ValueError(f"{path}: {key} is {manifest.get(key)!r}, which is not valid")
    return manifest


def _whole_numbers(values: Any, least: int) -> bool:
    return (
        isinstance(values, list)
        and len(values) > 0
        and all(type(value) is int and value >= least for value in values)
    )


def _check_shard(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    try:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            if version != (1, 0):
                raise ValueError(f"npy version {version}, expected (1, 0)")
            found_shape, fortran, found_dtype = np.lib.format.read_array_header_1_0(file)
            offset = file.tell()
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: the shard is missing") from None
    except ValueError as error:
        raise OSError(f"{path}: no readable .npy header ({error}): cut short or damaged") from None
    if (found_shape, fortran, found_dtype) != (shape, False, dtype):
        raise ValueError(
            f"{path}: {found_dtype} of shape {found_shape}, expected {dtype} of shape {shape}"
        )
    expected = offset + math.prod(shape) * dtype.itemsize
    size = path.stat().st_size
    if size != expected:
        raise OSError(f"{path}: {size} bytes, expected {expected}: the shard is cut short")


def _load(path: Path) -> Any:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: the shard is missing") from None
    except ValueError as error:
        raise OSError(f"{path}: cannot be mapped ({error}): cut short or damaged") from None
