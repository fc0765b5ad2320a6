# SPDX-License-Identifier: Apache-2.0
"""Activations of two models on the same texts, row by row, whatever their tokenizers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..activations import Activations
from ..site import Site
from ._paired_texts import pair_corpus
from ._reading import DType, Reading, common_rows, digest
from ._shards import find_reusable, new_folder
from ._tokens import Chunking, Cutting
from .extraction import folder_at


def extract_pair(
    model_a: nn.Module,
    tokenizer_a: Any,
    model_b: nn.Module,
    tokenizer_b: Any,
    texts: Any,
    layers_a: int | str | Site | Iterable[int | str | Site],
    layers_b: int | str | Site | Iterable[int | str | Site],
    *,
    out: str | Path | None = None,
    strict: bool = False,
    batch_size: int = 16,
    context: int | None = None,
    chunking: Chunking = "split",
    prepend_bos: bool | None = None,
    dtype: DType = "float32",
    skip_positions: int = 0,
    rows: Any = None,
    max_tokens: int | None = None,
    overwrite: bool = False,
    progress: bool | None = None,
    device: str | torch.device | None = None,
    model_names: tuple[str | None, str | None] | None = None,
) -> tuple[Activations, Activations]:
    """Rows of two residual streams that belong together: row i of both is a place of a text where a
    token of either tokenizer ends, and where both models have read the same text.

    Kept is the last token of each side that ends there. Special tokens, tokens without text and
    ends within a character are in no pair. Long texts are cut into windows at shared ends, the same
    stretch of text for both models. Equal tokenizers give all rows. Each model runs once.

    Args:
        model_a, tokenizer_a, model_b, tokenizer_b: transformers models and their fast tokenizers.
        texts: any iterable of texts, or of (prompt, continuation) pairs, as for `extract`; read
            only as far as `max_tokens` needs.
        layers_a, layers_b: layers of each model; layer l is the input of block l.
        out: a folder that gets the folders `a` and `b`, each as from `extract`; None keeps the rows
            in memory. A folder that holds the same extraction is opened; an interrupted extraction
            leaves nothing behind.
        strict: keep a pair only if the two tokens also begin at one place (white space left out).
        context: most tokens of a window, for either tokenizer. None: each model's maximum, at most
            512.
        chunking: "split" or "truncate".
        rows: a `suture.Rows` that says which rows count, or (rows_a, rows_b), where they leave out
            token ids; a pair counts if both rows do. A `norm_bound` that you ask for is one of each
            side's layers, as in `extract`, and a pair is kept if both rows are within all of them.
        max_tokens: stop after this many pairs; those beyond a `norm_bound` are counted among them.
        batch_size, prepend_bos, dtype, skip_positions, overwrite, progress, device: as for
            `extract`, for both models.
        model_names: names for the metadata.

    Returns:
        (acts_a, acts_b), each with its own `token_ids`, `positions` and `begins`, and with equal
        `text`, `starts` and `ends`. `metadata["pairing"]` has the number of pairs, `kept_a` and
        `kept_b` (shares of each side's rows), `one_to_one` (share of the pairs whose tokens also
        begin at one place), `skipped_windows` and `texts_without_pairs`.

    Raises:
        ValueError, TypeError: an argument is not usable; a tokenizer that cannot tell which part of
            a text a token is; texts without any shared end.
        FileExistsError: `out` holds something else.

    Warns:
        SutureWarning: a tokenizer cannot encode some of the texts.

    >>> import suture.models
    >>> model_a, model_b, tokenizer = suture.models.tiny_pair()
    >>> acts_a, acts_b = suture.models.extract_pair(
    ...     model_a, tokenizer, model_b, tokenizer, ["a text", "another"], [1], [2])
    >>> acts_b
    Activations(13 tokens, d=24, layers=[2], dtype=float32, model='GPTNeoXForCausalLM', pairs: ...)
    >>> acts_a.metadata["pairing"]["kept_a"]
    1.0
    """
    if not isinstance(strict, bool):
        raise TypeError(f"strict: {strict!r}, expected True or False")
    names = _names(model_names)
    models = {"a": model_a, "b": model_b}
    readings = {
        side: Reading(
            models[side],
            layers,
            dtype=dtype,
            batch_size=batch_size,
            progress=progress,
            device=device,
            model_name=names[side],
            names=(f"model_{side}", f"layers_{side}"),
        )
        for side, layers in (("a", layers_a), ("b", layers_b))
    }
    corpus = pair_corpus(
        models,
        {"a": tokenizer_a, "b": tokenizer_b},
        texts,
        Cutting(context, chunking, prepend_bos, skip_positions, max_tokens, rows),
        "texts",
        strict=strict,
    )
    settings = {
        side: readings[side].prepare(part, max_tokens, strict=strict, side=side)
        for side, part in (("a", corpus.a), ("b", corpus.b))
    }
    folder = None if out is None else folder_at(out)
    if folder is not None and _reusable(folder, settings, overwrite):
        return Activations.open(folder / "a"), Activations.open(folder / "b")
    for reading in readings.values():
        reading.check()
    a, b = readings["a"], readings["b"]

    def pairing(side: str, other: Reading) -> dict[str, Any]:
        tokens = [settings[side]["tokens"] for side in ("a", "b")]
        # Tells rows that belong together from those of another extraction.
        parts = [json.dumps([tokens, strict, max_tokens]).encode()]
        if not kept.all():
            parts.append(kept.tobytes())
        own = {"with": other.name, "side": side, "strict": strict}
        return own | corpus.shares(kept) | {"id": digest(parts)}

    if folder is None:
        a.read(None)
        b.read(None)
        kept = common_rows([a, b])
        return (
            a.to_memory(kept, pairing=pairing("a", b)),
            b.to_memory(kept, pairing=pairing("b", a)),
        )
    with new_folder(folder) as scratch:
        for side, reading in readings.items():
            (scratch / side).mkdir()
            reading.read(scratch / side)
        kept = common_rows([a, b])
        a.to_folder(kept, pairing=pairing("a", b))
        b.to_folder(kept, pairing=pairing("b", a))
    return Activations.open(folder / "a"), Activations.open(folder / "b")


def _names(model_names: Any) -> dict[str, str | None]:
    given = (None, None) if model_names is None else model_names
    if not isinstance(given, (tuple, list)) or len(given) != 2:
        raise TypeError(f"model_names: {model_names!r}, expected (name_a, name_b) or None")
    return {"a": given[0], "b": given[1]}


def _reusable(folder: Path, settings: Mapping[str, Mapping[str, Any]], overwrite: bool) -> bool:
    """Whether `folder` holds both sides of what would be extracted."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    others = {path.name for path in folder.iterdir()} - {"a", "b"} if folder.is_dir() else {""}
    if others:
        raise FileExistsError(
            f"out: {folder} exists and is no pair of activations, expected a new or empty folder "
            "(it is not removed, not even with overwrite=True)"
        )
    found = [find_reusable(folder / side, settings[side], overwrite) for side in ("a", "b")]
    return all(found)
