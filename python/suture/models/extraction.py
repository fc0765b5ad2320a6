# SPDX-License-Identifier: Apache-2.0
"""Residual-stream activations of a language model, to memory or to a folder of shards."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ..activations import Activations
from ._progress import progress_bar
from ._residual import borrowed, check_layer, find_blocks, read_layers, text_config
from ._shards import ShardWriter, find_reusable, new_folder
from ._tokens import Chunking, Corpus, batches, build_corpus, check_count

DType = Literal["float32", "float16", "bfloat16"]

_VALUES_PER_PARAMETER = 16


def extract(
    model: nn.Module,
    tokenizer: Any,
    texts_or_token_ids: Any,
    layers: int | Iterable[int],
    *,
    batch_size: int = 16,
    context: int | None = None,
    chunking: Chunking = "split",
    prepend_bos: bool | None = None,
    dtype: DType = "float32",
    skip_positions: int = 0,
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
        tokenizer: its tokenizer; the ids in `tokenizer.all_special_ids` are masked. With token
            ids it may be None: then BOS, EOS and PAD of the model's configuration are masked.
        texts_or_token_ids: texts (any iterable of str, read only as far as `max_tokens` needs),
            or token ids as a (sequence, position) array or tensor, a list of sequences, or what
            a tokenizer returns (`input_ids`, `attention_mask`). Token ids are run as they are:
            nothing is prepended or cut. Padding, left or right, is taken off by the attention
            mask, or by the padding id where no mask is given.
        layers: layer l is the input of block l; 0 to n_layers, where n_layers is the output of
            the last block *before* the final norm (transformers' last `hidden_states` entry is
            after it).
        batch_size: sequences in a forward pass; results do not depend on it but for rounding.
        context: length of the longest sequence. None: the model's maximum, for texts at most 512.
        chunking: what becomes of texts. "split": a text longer than `context` goes on in a new
            sequence; "truncate": its rest is dropped; "pack": texts follow each other, EOS after
            each where the tokenizer has one, cut into full sequences (fastest; a text may see
            the one before it).
        prepend_bos: begin every sequence of texts with BOS. None: if the tokenizer has a BOS.
        dtype: what is kept: "float32", "float16" or "bfloat16". The model computes in its own.
        skip_positions: also mask the first so many positions of every sequence, BOS counted
            (models trained without BOS have enormous norms there).
        max_tokens: stop after this many rows.
        out: a folder for `.npy` shards of at most 128 MiB; None keeps the rows in memory. A
            folder that already holds the same extraction is opened instead of computed again;
            one that holds another is refused with the difference named, unless `overwrite`.
            An interrupted extraction leaves no folder behind.
        overwrite: replace the activations in `out`.
        progress: a bar on stderr; None: only when it takes more than two seconds.
        device: run there, and move the model back afterwards. None: where the model is.
        model_name: name for the metadata. None: the model's own.

    Returns:
        Activations: `acts[layer]` is (N, d); `token_ids`, `positions` and `sequence` are (N,).

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
    blocks = find_blocks(model)
    numbers = list(layers) if isinstance(layers, Iterable) else [layers]
    if not numbers:
        raise ValueError("layers: empty, expected at least one layer")
    wanted = sorted({check_layer("layers", layer, blocks) for layer in numbers})
    check_count("batch_size", batch_size, 1)
    if dtype not in get_args(DType):
        raise ValueError(f"dtype: {dtype!r}, expected one of {', '.join(get_args(DType))}")
    corpus = build_corpus(
        {"model": model},
        tokenizer,
        texts_or_token_ids,
        context=context,
        chunking=chunking,
        prepend_bos=prepend_bos,
        skip_positions=skip_positions,
        max_tokens=max_tokens,
        argument="texts_or_token_ids",
    )
    settings = {
        **_model_fingerprint(model),
        "tokens": _digest(
            part for ids in corpus.sequences for part in (len(ids).to_bytes(8), ids.tobytes())
        ),
        "layers": wanted,
        "dtype": dtype,
        "skip_positions": skip_positions,
        "special_ids": sorted(corpus.special_ids),
        "max_tokens": max_tokens,
    }
    folder = None if out is None else _folder(out)
    if folder is not None and find_reusable(folder, settings, overwrite):
        return Activations.open(folder)
    index = _index(corpus, max_tokens)
    rows = len(index["token_ids"])
    metadata = {
        "model": model_name or _model_name(model),
        "revision": getattr(text_config(model), "_commit_hash", None),
        "n_layers": len(blocks),
        "tokens": rows,
        "context": corpus.context,
        "settings": settings,
    }
    kind = getattr(torch, dtype)
    d = int(text_config(model).hidden_size)

    def fill(write: Callable[[int, int, Tensor], None]) -> None:
        with (
            borrowed(model, device) as where,
            progress_bar(len(corpus.sequences), "extract", progress) as bar,
        ):
            done = 0
            for batch in batches(corpus, batch_size, where):
                seen = read_layers(model, blocks, wanted, batch.ids, batch.mask, batch.kept)
                for layer, block in seen.items():
                    block = block[: rows - done]
                    write(layer, done, _converted(block, kind, layer, done))
                done += len(block)
                bar.update(len(batch.ids))

    if folder is None:
        memory = {layer: torch.empty((rows, d), dtype=kind) for layer in wanted}

        def copy(layer: int, start: int, block: Tensor) -> None:
            memory[layer][start : start + len(block)] = block

        fill(copy)
        kept = {n: t if kind == torch.bfloat16 else t.numpy() for n, t in memory.items()}
        return Activations(kept, **index, metadata=metadata)

    with new_folder(folder) as scratch:
        writer = ShardWriter(scratch, rows=rows, d=d, dtype=dtype, layers=wanted)
        try:
            writer.write_index(**index)
            fill(lambda layer, _, block: writer.append(layer, _bytes_of(block)))
            writer.finish(metadata)
        finally:
            writer.close()
    return Activations.open(folder)


def _folder(out: Any) -> Path:
    try:
        return Path(out)
    except TypeError:
        raise TypeError(f"out: {out!r}, expected a path or None") from None


def _index(corpus: Corpus, max_tokens: int | None) -> dict[str, npt.NDArray[np.int32]]:
    """Token id, position and sequence number of every row, known before any forward pass."""
    places = [np.flatnonzero(corpus.kept(ids)) for ids in corpus.sequences]
    index = {
        "token_ids": [ids[p] for ids, p in zip(corpus.sequences, places, strict=True)],
        "positions": places,
        "sequence": [np.full(len(p), number) for number, p in enumerate(places)],
    }
    return {name: np.concatenate(a)[:max_tokens].astype(np.int32) for name, a in index.items()}


def _converted(block: Tensor, kind: torch.dtype, layer: int, start: int) -> Tensor:
    kept = block.to(kind)
    if not torch.isfinite(kept).all():
        row = int((~torch.isfinite(kept)).any(dim=1).nonzero()[0])
        if torch.isfinite(block).all():
            raise ValueError(
                f"dtype: float16 overflows in layer {layer}, row {start + row} "
                f"(largest value {block.abs().max().item():.4g}), expected bfloat16 or float32"
            )
        raise ValueError(
            f"model: the residual stream before layer {layer} is not finite in row {start + row}, "
            "expected finite values"
        )
    return kept.cpu()


def _bytes_of(block: Tensor) -> npt.NDArray[Any]:
    if block.dtype == torch.bfloat16:
        return block.contiguous().view(torch.int16).numpy()
    return np.asarray(block.numpy())


def _model_name(model: nn.Module) -> str:
    return getattr(model, "name_or_path", "") or type(model).__name__


def _model_fingerprint(model: nn.Module) -> dict[str, str]:
    """Hashes that change with the configuration and, by a few values of each parameter, with the
    weights; milliseconds where hashing all weights would take longer than the extraction."""
    config = text_config(model).to_dict()
    for key in ("_name_or_path", "transformers_version", "use_cache"):
        config.pop(key, None)

    def parts() -> Iterable[bytes]:
        for name, parameter in model.named_parameters():
            values = parameter.detach().flatten()
            step = max(1, len(values) // _VALUES_PER_PARAMETER)
            yield f"{name} {tuple(parameter.shape)} {parameter.dtype}".encode()
            yield values[::step].float().cpu().numpy().tobytes()

    return {
        "config": _digest([json.dumps(config, sort_keys=True, default=str).encode()]),
        "weights": _digest(parts()),
    }


def _digest(parts: Iterable[bytes]) -> str:
    hashed = hashlib.blake2b(digest_size=16)
    for part in parts:
        hashed.update(part)
    return hashed.hexdigest()
