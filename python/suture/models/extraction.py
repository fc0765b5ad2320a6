# SPDX-License-Identifier: Apache-2.0
"""Residual-stream activations of a language model, to memory or to a folder of shards."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..activations import Activations
from ..site import Site
from ._reading import DType, Reading, common_rows
from ._shards import find_reusable, new_folder
from ._tokens import Chunking, Cutting, build_corpus


def extract(
    model: nn.Module,
    tokenizer: Any,
    texts_or_token_ids: Any,
    layers: int | str | Site | Iterable[int | str | Site],
    *,
    batch_size: int = 16,
    context: int | None = None,
    chunking: Chunking = "split",
    prepend_bos: bool | None = None,
    dtype: DType = "float32",
    skip_positions: int = 0,
    rows: Any = None,
    max_tokens: int | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    progress: bool | None = None,
    device: str | torch.device | None = None,
    model_name: str | None = None,
) -> Activations:
    """Rows of the residual stream before each of `layers`, special tokens left out.

    All layers come out of one forward pass, which ends at the deepest of them. Works for any
    decoder-only Hugging Face model whose list of blocks can be found.

    Args:
        model: a transformers model, with or without its language-model head.
        tokenizer: its tokenizer; its special tokens are masked, chat markers too. With token ids it
            may be None: then BOS, EOS and PAD of the model's configuration are masked.
        texts_or_token_ids: texts (any iterable of str, read only as far as `max_tokens` needs),
            or token ids as a (sequence, position) array or tensor, a list of sequences, or what
            a tokenizer returns (`input_ids`, `attention_mask`). A text may be a pair (prompt,
            continuation): what is read is both, and the tokens that reach into the continuation
            are `generated`; of ids, `assistant_masks` says the same, as a chat template returns it.
            Token ids are run as they are: nothing is prepended or cut. Padding, left or right, is
            taken off by the attention mask, or by the padding id where no mask is given.
        layers: layer l is the input of block l; 0 to n_layers, where n_layers is the output of
            the last block *before* the final norm (transformers' last `hidden_states` entry is
            after it). Names of the stream (`"model.layers.3"`) and `suture.Site` do as well.
        batch_size: sequences in a forward pass; results do not depend on it but for rounding.
        context: length of the longest sequence. None: the model's maximum, for texts at most 512.
        chunking: what becomes of texts. "split": a text longer than `context` goes on in a new
            sequence; "truncate": its rest is dropped; "pack": texts follow each other, EOS after
            each where the tokenizer has one, cut into full sequences (fastest; a text may see
            the one before it).
        prepend_bos: begin every sequence of texts with BOS. None: if the tokenizer has a BOS and
            the sequence does not begin with that token already, as a rendered chat template does.
            True: in any case, also before another; False: never.
        dtype: what is kept: "float32", "float16" or "bfloat16". The model computes in its own.
        skip_positions: also mask the first so many positions of every sequence, BOS counted
            (models trained without BOS have enormous norms there).
        rows: a `suture.Rows` that says which rows are kept, or a mask over all tokens that are
            read. Rows are kept whatever their norm, for what uses them bounds it, unless you ask
            for `norm_bound`: then a row is kept if it is within the bound in every layer, which is
            so many times the median norm there, of the sample that `suture.norm_bound` takes.
        max_tokens: stop after this many rows; those beyond a `norm_bound` are counted among them.
        out: a folder for `.npy` shards of at most 128 MiB; None keeps the rows in memory. A
            folder that already holds the same extraction is opened instead of computed again;
            one that holds another is refused with the difference named, unless `overwrite`.
            An interrupted extraction leaves no folder behind.
        overwrite: replace the activations in `out`.
        progress: a bar on stderr; None: only when it takes more than two seconds.
        device: run there, and move the model back afterwards. None: where the model is.
        model_name: name for the metadata. None: the model's own.

    Returns:
        Activations: `acts[layer]` is (N, d); `token_ids`, `positions`, `sequence`, `text`,
        `begins`, `ends` and `starts` are (N,). What has a label for each text goes by `text`. The
        last three are -1 of token ids, and of tokenizers that cannot tell which part of a text a
        token is. `metadata` has `median_norms` of the rows, `norm_bounds` (of each layer, where one
        was asked for; None where fewer than 16 rows tell none) and `beyond`, the number of rows
        that were left out by them.

    Raises:
        ValueError, TypeError: an argument is not usable; the message names it, its value and
            what was expected. Also for values that are not finite, or too large for float16.
        FileExistsError: `out` holds something else.

    >>> import suture.models
    >>> model, _, tokenizer = suture.models.tiny_pair()
    >>> acts = suture.models.extract(model, tokenizer, ["a text", "another"], layers=[1, 3])
    >>> acts
    Activations(13 tokens, d=16, layers=[1, 3], dtype=float32, model='GPTNeoXForCausalLM')
    >>> acts[1].shape, tokenizer.decode(acts.token_ids[acts.sequence == 1])
    ((13, 16), 'another')
    """
    reading = Reading(
        model,
        layers,
        dtype=dtype,
        batch_size=batch_size,
        progress=progress,
        device=device,
        model_name=model_name,
    )
    corpus = build_corpus(
        {"model": model},
        tokenizer,
        texts_or_token_ids,
        Cutting(context, chunking, prepend_bos, skip_positions, max_tokens, rows),
        "texts_or_token_ids",
    )
    settings = reading.prepare(corpus, max_tokens)
    folder = None if out is None else folder_at(out)
    if folder is not None and find_reusable(folder, settings, overwrite):
        return Activations.open(folder)
    reading.check()
    if folder is None:
        reading.read(None)
        return reading.to_memory(common_rows([reading]))
    with new_folder(folder) as scratch:
        reading.read(scratch)
        reading.to_folder(common_rows([reading]))
    return Activations.open(folder)


def folder_at(out: Any) -> Path:
    try:
        return Path(out)
    except TypeError:
        raise TypeError(f"out: {out!r}, expected a path or None") from None
