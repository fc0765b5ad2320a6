# SPDX-License-Identifier: Apache-2.0
"""Residual-stream activations with their token ids, in memory or as a folder of shards.

Needs numpy only. `suture.models.extract` makes them; `Activations.open` reads a folder back.

Layout of a folder (format version 2; version 1 had the first three index folders only)::

    manifest.json            written last: a folder without it is not a set of activations
    layer_03/00000.npy ...   (rows of the shard, d) float32, float16, or bfloat16 as 2-byte voids
    token_ids/00000.npy ...  (rows of the shard,) int32; positions/, sequence/ and text/ likewise
    ends/00000.npy ...       (rows of the shard,) int64; begins/ and starts/ likewise
    generated/00000.npy ...  (rows of the shard,) bool, where it is known
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from ._folders import (
    INDEX_TYPES,
    STORED_DTYPES,
    check_shard,
    layer_name,
    load_shard,
    read_manifest,
    shard_path,
)
from .pairing import Pairing, align_rows, check_paired, index_array

__all__ = ["Activations", "Shards", "as_float32", "check_paired"]


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

    Attributes:
        activations: the `Activations` whose rows these are, all of them and in order; None where
            that is not known, as of a slice.
    """

    def __init__(
        self, blocks: Sequence[Any] | Sequence[Path], activations: Activations | None = None
    ) -> None:
        self._blocks = blocks
        self.activations = activations

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
        return load_shard(block) if isinstance(block, Path) else block

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
        text: (N,) int32; the number of the text that the row is from, as they were passed to
            `extract`, empty ones counted. A long text has several sequences. What has a label for
            each text goes by this.
        begins, ends: (N,) int64; the bytes of the UTF-8 text where the token begins (white space
            before it left out) and ends; -1 where that is unknown or within a character.
        starts: (N,) int64; the byte of the text from which on the model had read it; -1: unknown.
        generated: (N,) bool; whether a model wrote the token, as `extract` was told.
        index: the names of those of these arrays that are known.
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
        text: npt.ArrayLike | None = None,
        begins: npt.ArrayLike | None = None,
        ends: npt.ArrayLike | None = None,
        starts: npt.ArrayLike | None = None,
        generated: npt.ArrayLike | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        if not rows:
            raise ValueError("rows: got no layer, expected a mapping of layer to an (N, d) array")
        tokens = index_array("token_ids", token_ids, None)
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
        self._blocks: dict[int, Sequence[Any]] = {layer: [rows[layer]] for layer in self.layers}
        self._indices: dict[str, npt.NDArray[Any]] = {"token_ids": tokens}
        given = {
            "positions": positions,
            "sequence": sequence,
            "text": text,
            "begins": begins,
            "ends": ends,
            "starts": starts,
            "generated": generated,
        }
        for name, values in given.items():
            if values is not None:
                self._indices[name] = index_array(name, values, len(tokens))
        self.index: tuple[str, ...] = tuple(self._indices)

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
        self.index = tuple(manifest["index"])
        self._indices = {}
        shard_rows: list[int] = manifest["shards"]
        self._rows = sum(shard_rows)
        for number, rows in enumerate(shard_rows):
            for layer in self.layers:
                expected = ((rows, self.d), STORED_DTYPES[self.dtype])
                check_shard(shard_path(path, layer_name(layer), number), *expected)
            for name in self.index:
                check_shard(shard_path(path, name, number), (rows,), INDEX_TYPES[name])
        numbers = range(len(shard_rows))
        self._blocks = {
            layer: [shard_path(path, layer_name(layer), number) for number in numbers]
            for layer in self.layers
        }
        return self

    def __len__(self) -> int:
        return self._rows

    def __contains__(self, layer: object) -> bool:
        return layer in self._blocks

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
        if layer not in self._blocks:
            raise KeyError(f"layer: {layer!r}, expected one of {list(self.layers)}")
        return Shards(self._blocks[layer], self)

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

    @cached_property
    def text(self) -> npt.NDArray[np.int32]:
        return self._read_index("text")

    @cached_property
    def begins(self) -> npt.NDArray[np.int64]:
        return self._read_index("begins")

    @cached_property
    def ends(self) -> npt.NDArray[np.int64]:
        return self._read_index("ends")

    @cached_property
    def starts(self) -> npt.NDArray[np.int64]:
        return self._read_index("starts")

    @cached_property
    def generated(self) -> npt.NDArray[np.bool_]:
        return self._read_index("generated")

    def _read_index(self, name: str) -> npt.NDArray[Any]:
        if name in self._indices:
            return self._indices[name]
        if self.path is None or name not in self.index:
            raise AttributeError(
                f"{name}: these activations were made without it, expected one of "
                f"{', '.join(self.index)}"
            )
        count = len(self._blocks[self.layers[0]])
        blocks = Shards([shard_path(self.path, name, number) for number in range(count)])
        return np.concatenate([np.asarray(block) for block in blocks])

    def pairs_with(self, other: Activations, *, strict: bool = False) -> Pairing:
        """The rows of these activations and of `other` that belong together: the same tokens in the
        same order, else the last token of each side at every place of a text at which tokens of
        both end, where both models had read that text from the same byte on.

        Args:
            other: activations of another model on the same texts; its tokenizer may be another.
            strict: leave out pairs whose tokens do not also begin at one place.

        Returns:
            A `Pairing`, which is `pairs=` for `Moments`, `Stitch.fit`, `svcca` and others.

        Raises:
            ValueError: the tokens differ, and text, ends or starts are not known of both; no pair
                is found.

        >>> rows = np.zeros((3, 2), np.float32)
        >>> known = dict(text=[0, 0, 0], starts=[0, 0, 0])
        >>> a = Activations({0: rows}, token_ids=[5, 6, 7], ends=[1, 3, 5], **known)
        >>> b = Activations({0: rows}, token_ids=[1, 2, 3], ends=[2, 3, 5], **known)
        >>> rows_a, rows_b = a.pairs_with(b)
        >>> rows_a.tolist(), rows_b.tolist()
        ([1, 2], [1, 2])
        """
        return align_rows(self, other, strict)

    def __repr__(self) -> str:
        name = self.metadata.get("model")
        where = f", folder={str(self.path)!r}" if self.path else ""
        of = f", model={name!r}" if name else ""
        return (
            f"Activations({len(self)} tokens, d={self.d}, layers={list(self.layers)}, "
            f"dtype={self.dtype}{of}{_pairing_text(self.metadata.get('pairing'))}{where})"
        )


def _pairing_text(pairing: Any) -> str:
    """What `extract_pair` noted of its pairs."""
    if not isinstance(pairing, Mapping) or not {"side", "one_to_one"} <= pairing.keys():
        return ""
    kept = pairing.get(f"kept_{pairing['side']}", float("nan"))
    return (
        f", pairs: {100 * kept:.1f} % of its rows, "
        f"{100 * pairing['one_to_one']:.1f} % of them one token to one"
    )


def text_numbers(acts: Activations) -> npt.NDArray[np.int32]:
    """The number of the text of each row; of the sequence, in activations that do not know texts.

    >>> text_numbers(Activations({0: np.ones((2, 4))[:, :2].astype("f4")}, token_ids=[5, 6],
    ...     sequence=[0, 1])).tolist()
    [0, 1]
    """
    return acts.text if "text" in acts.index else acts.sequence


def _dtype_name(block: Any) -> str:
    name = str(block.dtype).removeprefix("torch.")
    for known, stored in STORED_DTYPES.items():
        if name in (known, str(stored)):
            return known
    raise ValueError(f"rows: dtype {name}, expected one of {', '.join(STORED_DTYPES)}")
