# SPDX-License-Identifier: Apache-2.0
"""One model read over one corpus, to memory or to a folder of shards."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from .._folders import INDEX_TYPES
from .._inputs import Stream
from ..activations import Activations
from ..norms import default_bound, row_norms
from ..site import Site
from ._borrowing import borrowed, stored_parameters
from ._causality import check_reading
from ._progress import progress_bar
from ._residual import check_layer, find_blocks, read_layers, stream_width, text_config, unwrapped
from ._shards import ShardWriter
from ._tokens import Corpus, batches, check_count

DType = Literal["float32", "float16", "bfloat16"]

_VALUES_PER_PARAMETER = 16
Mask = npt.NDArray[np.bool_]


class Reading:
    """What is to be read out of one model. `prepare` gives it the corpus; `read` runs the model
    once; `to_memory` or `to_folder` makes activations of the rows that stay."""

    def __init__(
        self,
        model: nn.Module,
        layers: int | str | Site | Iterable[int | str | Site],
        *,
        dtype: DType,
        batch_size: int,
        progress: bool | None,
        device: str | torch.device | None,
        model_name: str | None,
        names: tuple[str, str] = ("model", "layers"),
    ) -> None:
        self._blocks = find_blocks(model, names[0])
        numbers = (
            list(layers)
            if isinstance(layers, Iterable) and not isinstance(layers, str)
            else [layers]
        )
        if not numbers:
            raise ValueError(f"{names[1]}: empty, expected at least one layer")
        self.layers = sorted({check_layer(names[1], layer, self._blocks) for layer in numbers})
        check_count("batch_size", batch_size, 1)
        if dtype not in get_args(DType):
            raise ValueError(f"dtype: {dtype!r}, expected one of {', '.join(get_args(DType))}")
        self._model, self._name, self._names = model, names[0], names
        self._dtype, self._kind = dtype, getattr(torch, dtype)
        self._batch_size, self._progress, self._device = batch_size, progress, device
        self._width = stream_width(model)
        self._model_name = model_name

    def prepare(self, corpus: Corpus, max_tokens: int | None, **more: Any) -> dict[str, Any]:
        """Takes the corpus; the settings that tell this extraction from another."""
        self._corpus, self._multiple = corpus, corpus.norm_bound
        self.index = index_of(corpus, max_tokens)
        self._total = len(self.index["token_ids"])
        self.settings: dict[str, Any] = {
            **_model_fingerprint(self._model),
            "tokens": digest(
                part
                for window, mask in zip(corpus.windows, corpus.masks, strict=True)
                for part in (
                    len(mask).to_bytes(8),
                    window.ids.tobytes(),
                    window.text.tobytes(),
                    window.ends.tobytes(),
                    mask.tobytes(),
                )
            ),
            "layers": self.layers,
            "dtype": self._dtype,
            "skip_positions": corpus.skip_positions,
            "special_ids": sorted(corpus.special_ids),
            "max_tokens": max_tokens,
            "norm_bound": corpus.norm_bound,
        } | more
        return self.settings

    def check(self) -> None:
        """Refuses a model whose rows would not be what they seem, before anything is written."""
        with borrowed(self._model, self._device) as where:
            check_reading(
                self._model, self._blocks, self.layers, self._corpus.sequences, where, self._names
            )

    def read(self, folder: Path | None) -> None:
        """One pass; rows stay in memory, or go to shards in an empty folder. Afterwards `within`
        says which are within the bounds on norms that were asked for, in every layer."""
        if folder is None:
            self._memory = _Memory(self._total, self._width, self._kind, self.layers)
            self._run(self._memory.append)
        else:
            self._writer = ShardWriter(
                folder, rows=self._total, d=self._width, dtype=self._dtype, layers=self.layers
            )
            with closing(self._writer):
                self._run(lambda layer, block: self._writer.append(layer, _bytes_of(block)))
        self.within = np.ones(self._total, np.bool_)
        self.bounds: dict[str, float | None] = {}
        if self._multiple is None:
            return
        for layer, norms in self._norms.items():
            # The norm of a row of one column is that column: the sample is that of the rows.
            bound = default_bound(Stream(norms[:, None], f"layer {layer}"), self._multiple)
            self.bounds[str(layer)] = bound if math.isfinite(bound) else None
            self.within &= norms <= bound

    def to_memory(self, kept: Mask, **metadata: Any) -> Activations:
        """The rows that stay of those that were read into memory."""
        if not kept.all():
            self._memory.keep(kept)
        found = self._metadata(kept) | metadata
        return Activations(self._memory.arrays(), **self._index(kept), metadata=found)

    def to_folder(self, kept: Mask, **metadata: Any) -> None:
        """Leaves the rows that stay in the folder, which has a manifest in the end."""
        with closing(self._writer):
            if not kept.all():
                self._writer.keep(kept)
            self._writer.write_index(**self._index(kept))
            self._writer.finish(self._metadata(kept) | metadata)

    def _index(self, kept: Mask) -> dict[str, npt.NDArray[Any]]:
        return {name: values[kept] for name, values in self.index.items()}

    def _metadata(self, kept: Mask) -> dict[str, Any]:
        return {
            "model": self.name,
            "revision": getattr(text_config(self._model), "_commit_hash", None),
            "n_layers": len(self._blocks),
            "tokens": int(kept.sum()),
            "texts": self._corpus.texts,
            "text_digests": dict(self._corpus.digests),
            "context": self._corpus.context,
            "median_norms": {
                str(layer): float(np.median(norms[kept])) for layer, norms in self._norms.items()
            },
            "norm_bounds": self.bounds,
            "beyond": int((~kept).sum()),
            "settings": self.settings,
        }

    @property
    def name(self) -> str:
        """Of the model, for metadata."""
        return self._model_name or _model_name(self._model)

    def _run(self, write: Callable[[int, Tensor], None]) -> None:
        """Hands the rows of each layer to `write` in order, and remembers their norms."""
        # Bounds are for float64 norms of what is stored, as everywhere; medians need not be.
        exact = self._multiple is not None
        self._norms: dict[int, npt.NDArray[np.floating[Any]]] = {
            layer: np.empty(self._total, np.float64 if exact else np.float32)
            for layer in self.layers
        }
        with (
            borrowed(self._model, self._device) as where,
            progress_bar(len(self._corpus.windows), "extract", self._progress) as bar,
        ):
            done = 0
            for batch in batches(self._corpus, self._batch_size, where):
                if done < self._total and batch.kept.any():
                    seen = read_layers(
                        self._model, self._blocks, self.layers, batch.ids, batch.mask, batch.kept
                    )
                    for layer, block in seen.items():
                        block = block[: self._total - done]
                        stored = _converted(block, self._kind, layer, done)
                        self._norms[layer][done : done + len(block)] = (
                            row_norms(stored, progress=False) if exact else _norms(block)
                        )
                        write(layer, stored)
                    done += len(block)
                bar.update(len(batch.ids))
            if done != self._total:
                raise ValueError(f"{self._name}: {done} rows were read, expected {self._total}")


class _Memory:
    """Rows of all layers in memory, as `ShardWriter` has them in a folder."""

    def __init__(self, rows: int, d: int, kind: torch.dtype, layers: Iterable[int]) -> None:
        self._rows = {layer: torch.empty((rows, d), dtype=kind) for layer in layers}
        self._done = dict.fromkeys(layers, 0)

    def append(self, layer: int, block: Tensor) -> None:
        start = self._done[layer]
        self._rows[layer][start : start + len(block)] = block
        self._done[layer] = start + len(block)

    def keep(self, kept: Mask) -> None:
        places = torch.from_numpy(np.flatnonzero(kept))
        for layer in self._rows:
            self._rows[layer] = self._rows[layer][places]

    def arrays(self) -> dict[int, Any]:
        """bfloat16 as torch has it, for numpy has none."""
        return {
            layer: rows if rows.dtype == torch.bfloat16 else rows.numpy()
            for layer, rows in self._rows.items()
        }


def common_rows(readings: Sequence[Reading]) -> Mask:
    """Rows that stay: those within the bounds of all readings, which have read as many.

    Raises:
        ValueError: there are none.
    """
    kept = np.logical_and.reduce([reading.within for reading in readings])
    if not kept.any():
        bounds = [
            f"{bound:.4g} in layer {layer} of {reading.name}"
            for reading in readings
            for layer, bound in reading.bounds.items()
            if bound is not None
        ]
        raise ValueError(
            f"rows.norm_bound leaves none of the {len(kept)} rows: no row has norms of at most "
            f"{', '.join(bounds)}"
        )
    return np.asarray(kept, np.bool_)


def index_of(corpus: Corpus, max_tokens: int | None) -> dict[str, npt.NDArray[Any]]:
    """What is known of every row before any forward pass."""
    columns: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in INDEX_TYPES}
    for number, (window, mask) in enumerate(zip(corpus.windows, corpus.masks, strict=True)):
        places = np.flatnonzero(mask)
        columns["token_ids"].append(window.ids[places])
        columns["positions"].append(places)
        columns["sequence"].append(np.full(len(places), number))
        columns["text"].append(window.text[places])
        columns["begins"].append(window.begins[places])
        columns["ends"].append(window.ends[places])
        columns["starts"].append(np.full(len(places), window.start))
        if window.generated is not None:
            columns["generated"].append(window.generated[places])
    if any(window.generated is None for window in corpus.windows):
        del columns["generated"]
    return {
        name: np.concatenate(parts)[:max_tokens].astype(INDEX_TYPES[name])
        for name, parts in columns.items()
    }


def _converted(block: Tensor, kind: torch.dtype, layer: int, start: int) -> Tensor:
    kept = block.to(kind)
    # What was read is finite; float16 reaches 65504 only.
    if not torch.isfinite(kept).all():
        row = int((~torch.isfinite(kept)).any(dim=1).nonzero()[0])
        raise ValueError(
            f"dtype: float16 overflows in layer {layer}, row {start + row} "
            f"(largest value {block.abs().max().item():.4g}), expected bfloat16 or float32"
        )
    return kept.cpu()


def _norms(block: Tensor) -> npt.NDArray[np.float32]:
    return np.asarray(torch.linalg.vector_norm(block.float(), dim=1).cpu().numpy())


def _bytes_of(block: Tensor) -> npt.NDArray[Any]:
    if block.dtype == torch.bfloat16:
        return block.contiguous().view(torch.int16).numpy()
    return np.asarray(block.numpy())


def _model_name(model: nn.Module) -> str:
    return getattr(model, "name_or_path", "") or type(unwrapped(model)).__name__


def _model_fingerprint(model: nn.Module) -> dict[str, str]:
    """Hashes that change with the configuration and, by a few values of each parameter, with the
    weights; milliseconds where hashing all weights would take longer than the extraction."""
    config = text_config(model).to_dict()
    for key in ("_name_or_path", "transformers_version", "use_cache"):
        config.pop(key, None)

    def parts() -> Iterable[bytes]:
        for name, parameter in stored_parameters(model):
            values = parameter.flatten()
            step = max(1, len(values) // _VALUES_PER_PARAMETER)
            yield f"{name} {tuple(parameter.shape)} {parameter.dtype}".encode()
            yield values[::step].float().cpu().numpy().tobytes()

    return {
        "config": digest([json.dumps(config, sort_keys=True, default=str).encode()]),
        "weights": digest(parts()),
    }


def digest(parts: Iterable[bytes]) -> str:
    hashed = hashlib.blake2b(digest_size=16)
    for part in parts:
        hashed.update(part)
    return hashed.hexdigest()
