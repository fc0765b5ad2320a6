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

from .._folders import INDEX_TYPES
from ..activations import Activations
from ._borrowing import borrowed, stored_parameters
from ._causality import check_reading
from ._progress import progress_bar
from ._residual import check_layer, find_blocks, read_layers, stream_width, text_config, unwrapped
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
            after it).
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
            read. Rows are kept whatever their norm: what uses them bounds it; the metadata have the
            median norm of each layer.
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
        Activations: `acts[layer]` is (N, d); `token_ids`, `positions`, `sequence`, `text`,
        `begins`, `ends` and `starts` are (N,). What has a label for each text goes by `text`. The
        last three are -1 of token ids, and of tokenizers that cannot tell which part of a text a
        token is.

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
        rows=rows,
    )
    settings = {
        **_model_fingerprint(model),
        "tokens": _digest(
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
        "layers": wanted,
        "dtype": dtype,
        "skip_positions": corpus.skip_positions,
        "special_ids": sorted(corpus.special_ids),
        "max_tokens": max_tokens,
    }
    folder = None if out is None else _folder(out)
    if folder is not None and find_reusable(folder, settings, overwrite):
        return Activations.open(folder)
    with borrowed(model, device) as where:
        check_reading(model, blocks, wanted, corpus.sequences, where)
    index = index_of(corpus, max_tokens)
    total = len(index["token_ids"])
    norms = {layer: np.empty(total, np.float32) for layer in wanted}
    metadata: dict[str, Any] = {
        "model": model_name or _model_name(model),
        "revision": getattr(text_config(model), "_commit_hash", None),
        "n_layers": len(blocks),
        "tokens": total,
        "texts": corpus.texts,
        "context": corpus.context,
        "settings": settings,
    }
    kind = getattr(torch, dtype)
    d = stream_width(model)

    def fill(write: Callable[[int, int, Tensor], None]) -> None:
        with (
            borrowed(model, device) as where,
            progress_bar(len(corpus.sequences), "extract", progress) as bar,
        ):
            done = 0
            for batch in batches(corpus, batch_size, where):
                seen = read_layers(model, blocks, wanted, batch.ids, batch.mask, batch.kept)
                for layer, block in seen.items():
                    block = block[: total - done]
                    norms[layer][done : done + len(block)] = _norms(block)
                    write(layer, done, _converted(block, kind, layer, done))
                done += len(block)
                bar.update(len(batch.ids))
            if done != total:
                raise ValueError(f"model: {done} rows were read, expected {total}")
        metadata["median_norms"] = {
            str(layer): float(np.median(found)) for layer, found in norms.items()
        }

    if folder is None:
        memory = {layer: torch.empty((total, d), dtype=kind) for layer in wanted}

        def copy(layer: int, start: int, block: Tensor) -> None:
            memory[layer][start : start + len(block)] = block

        fill(copy)
        kept = {n: t if kind == torch.bfloat16 else t.numpy() for n, t in memory.items()}
        return Activations(kept, **index, metadata=metadata)

    with new_folder(folder) as scratch:
        writer = ShardWriter(scratch, rows=total, d=d, dtype=dtype, layers=wanted)
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
        "config": _digest([json.dumps(config, sort_keys=True, default=str).encode()]),
        "weights": _digest(parts()),
    }


def _digest(parts: Iterable[bytes]) -> str:
    hashed = hashlib.blake2b(digest_size=16)
    for part in parts:
        hashed.update(part)
    return hashed.hexdigest()
