# SPDX-License-Identifier: Apache-2.0
"""What both questions about attention to BOS need: checked arguments, texts with BOS, streams."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ..sae import SAE
from ._heads import Heads, find_heads
from ._residual import check_layer, find_blocks, read_layers, stream_width, text_config
from ._tokens import Batch, Corpus, Cutting, build_corpus


class FeatureHead(NamedTuple):
    """A feature, and a head downstream of it: the head `head` of block `layer`.

    >>> feature, layer, head = FeatureHead(feature=7, layer=2, head=0)
    """

    feature: int
    layer: int
    head: int


class Limits(NamedTuple):
    d_sae: int
    first_layer: int
    n_layers: int
    n_heads: int


def downstream(model: nn.Module, layer: Any) -> tuple[Heads, int]:
    heads = find_heads(model)
    number = check_layer("layer", layer, find_blocks(model))
    if number == heads.n_layers:
        raise ValueError(
            f"layer: {number}, expected at most {number - 1}: no head reads what comes after the "
            "last block"
        )
    return heads, number


def directions_of(sae: Any, model: nn.Module, argument: str = "sae") -> Tensor:
    """What a unit of each feature adds to the residual stream, (d_sae, d)."""
    if not isinstance(sae, SAE):
        raise TypeError(f"{argument}: {type(sae).__name__}, expected a suture.SAE")
    width = stream_width(model)
    if sae.d_in != width:
        raise ValueError(f"{argument}: d_in = {sae.d_in}, expected {width}, the width of the model")
    if sae.normalization not in ("none", "fixed_scale"):
        raise ValueError(
            f"{argument}: normalization {sae.normalization!r}, expected 'none' or 'fixed_scale': "
            "where every token is normalised, a feature adds another vector on each"
        )
    return torch.from_numpy(np.array(sae.fold().W_dec, np.float32))


def checked_paths(paths: Any, limits: Limits) -> list[FeatureHead]:
    expected = "a list of (feature, layer, head) triples"
    if isinstance(paths, (str, bytes)) or not isinstance(paths, Iterable):
        raise TypeError(f"paths: {type(paths).__name__}, expected {expected}")
    found = [checked_pair(path, limits, f"paths[{n}]") for n, path in enumerate(paths)]
    if not found:
        raise ValueError(f"paths: empty, expected {expected}")
    return found


def checked_pair(path: Any, limits: Limits, name: str) -> FeatureHead:
    lead = f"{name}." if name else ""
    try:
        feature, layer, head = path
    except (TypeError, ValueError):
        raise TypeError(f"{name}: {path!r}, expected (feature, layer, head)") from None
    for label, value, low, end, what in (
        ("feature", feature, 0, limits.d_sae, "features of the SAE"),
        ("layer", layer, limits.first_layer, limits.n_layers, "blocks from the SAE's layer on"),
        ("head", head, 0, limits.n_heads, "heads of a block"),
    ):
        if isinstance(value, bool) or not hasattr(value, "__index__"):
            raise TypeError(f"{lead}{label}: {value!r}, expected an integer")
        if not low <= value < end:
            raise ValueError(f"{lead}{label}: {value}, expected {low} to {end - 1}, the {what}")
    return FeatureHead(int(feature), int(layer), int(head))


def checked_features(features: Any, d_sae: int) -> npt.NDArray[np.int64]:
    array = np.asarray(features)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise TypeError(
            f"features: {array.dtype} of shape {array.shape}, expected one-dimensional integers"
        )
    if array.size and not (array.min() >= 0 and array.max() < d_sae):
        raise ValueError(
            f"features: from {array.min()} to {array.max()}, expected 0 to {d_sae - 1}"
        )
    return np.unique(array).astype(np.int64)


def corpus_with_bos(
    model: nn.Module, tokenizer: Any, inputs: Any, cutting: Cutting, first_position: Any
) -> Corpus:
    if not isinstance(first_position, bool):
        raise TypeError(f"first_position: {first_position!r}, expected True or False")
    argument = "token_ids_or_texts"
    corpus = build_corpus({"model": model}, tokenizer, inputs, cutting, argument)
    if not any(queries(corpus, ids).any() for ids in corpus.sequences):
        raise ValueError(f"{argument}: no counted token follows a first position, expected some")
    if first_position:
        return corpus
    hint = "give first_position=True to take the first position in its place"
    source = text_config(model) if tokenizer is None else tokenizer
    bos = getattr(source, "bos_token_id", None)
    if bos is None:
        named = "the model's configuration" if tokenizer is None else "the tokenizer"
        raise ValueError(f"tokenizer: {named} names no BOS token, expected one; {hint}")
    for number, ids in enumerate(corpus.sequences):
        if ids[0] != bos:
            raise ValueError(
                f"{argument}: sequence {number} begins with token {ids[0]}, expected BOS ({bos}); "
                f"{hint}"
            )
    return corpus


def queries(corpus: Corpus, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """The counted tokens of a sequence but for the first, whose attention is all to itself."""
    kept = corpus.kept(ids)
    kept[0] = False
    return kept


def counted_rows(batch: Batch) -> Tensor:
    counted = batch.kept.clone()
    counted[:, 0] = False
    return counted


def whole_streams(
    model: nn.Module, blocks: nn.ModuleList, layers: Sequence[int], batch: Batch
) -> dict[int, Tensor]:
    """The residual stream before several layers, (batch, position, d)."""
    everywhere = torch.ones_like(batch.kept)
    rows = read_layers(model, blocks, layers, batch.ids, batch.mask, everywhere)
    return {layer: flat.reshape(*batch.ids.shape, -1) for layer, flat in rows.items()}
