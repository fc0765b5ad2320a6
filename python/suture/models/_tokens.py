# SPDX-License-Identifier: Apache-2.0
"""From texts or token ids to sequences, masks and padded batches."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ._residual import text_config

Ids = npt.NDArray[np.int64]
Chunking = Literal["split", "truncate", "pack"]

DEFAULT_CONTEXT = 512
_TEXTS_AT_ONCE = 256
_END = object()


@dataclass(frozen=True)
class Corpus:
    """Sequences ready to be run, and which of their rows count."""

    sequences: list[Ids]
    special_ids: frozenset[int]
    skip_positions: int
    context: int | None

    def kept(self, ids: Ids) -> npt.NDArray[np.bool_]:
        """Rows that count: no special token, not among the first `skip_positions`."""
        return kept_rows(ids, self.special_ids, self.skip_positions)


@dataclass(frozen=True)
class Batch:
    """Right-padded sequences: (batch, position) token ids, attention mask and counted rows."""

    ids: Tensor
    mask: Tensor
    kept: Tensor


def kept_rows(ids: Ids, special_ids: frozenset[int], skip: int) -> npt.NDArray[np.bool_]:
    kept = ~np.isin(ids, np.fromiter(special_ids, np.int64, len(special_ids)))
    kept[:skip] = False
    return kept


def build_corpus(
    models: Mapping[str, nn.Module],
    tokenizer: Any,
    inputs: Any,
    *,
    context: int | None,
    chunking: Chunking,
    prepend_bos: bool | None,
    skip_positions: int,
    max_tokens: int | None,
    argument: str,
) -> Corpus:
    """Sequences of `inputs`, checked against every model that will run them."""
    check_count("skip_positions", skip_positions, 0)
    if max_tokens is not None:
        check_count("max_tokens", max_tokens, 1)
    if chunking not in get_args(Chunking):
        raise ValueError(f"chunking: {chunking!r}, expected one of {', '.join(get_args(Chunking))}")
    longest = _longest(models.values())
    if context is not None:
        check_count("context", context, 2)
        if longest is not None and context > longest:
            raise ValueError(f"context: {context}, expected at most {longest}, the model's maximum")
    special_ids = _special_ids(tokenizer, models.values())
    kind, items = _kind(inputs, argument)
    if kind == "texts":
        length = context or min(DEFAULT_CONTEXT, longest or DEFAULT_CONTEXT)
        stream = _from_texts(items, tokenizer, length, chunking, prepend_bos, argument)
        context = length
    else:
        limit = context or longest
        stream = _from_ids(items, tokenizer, limit, argument)
    sequences: list[Ids] = []
    total = 0
    for ids in stream:
        _check_vocabulary(ids, len(sequences), models, argument)
        sequences.append(ids)
        total += int(kept_rows(ids, special_ids, skip_positions).sum())
        if max_tokens is not None and total >= max_tokens:
            break
    if total == 0:
        raise ValueError(
            f"{argument}: no token is left of {len(sequences)} sequences when special tokens and "
            f"the first {skip_positions} positions are masked, expected at least one"
        )
    return Corpus(sequences, special_ids, skip_positions, context)


def batches(corpus: Corpus, batch_size: int, device: torch.device) -> Iterator[Batch]:
    """Right-padded batches in the order of the sequences."""
    for start in range(0, len(corpus.sequences), batch_size):
        group = corpus.sequences[start : start + batch_size]
        shape = (len(group), max(map(len, group)))
        ids, mask = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        kept = np.zeros(shape, np.bool_)
        for row, sequence in enumerate(group):
            ids[row, : len(sequence)] = sequence
            mask[row, : len(sequence)] = 1
            kept[row, : len(sequence)] = corpus.kept(sequence)
        yield Batch(*(torch.from_numpy(a).to(device) for a in (ids, mask, kept)))


def check_count(argument: str, value: Any, least: int) -> None:
    """A whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{argument}: {value!r}, expected an integer of at least {least}")
    if value < least:
        raise ValueError(f"{argument}: {value}, expected at least {least}")


def _longest(models: Iterable[nn.Module]) -> int | None:
    known = [getattr(text_config(model), "max_position_embeddings", None) for model in models]
    return min((n for n in known if n), default=None)


def _special_ids(tokenizer: Any, models: Iterable[nn.Module]) -> frozenset[int]:
    if tokenizer is not None:
        if not hasattr(tokenizer, "all_special_ids"):
            raise TypeError(
                f"tokenizer: {type(tokenizer).__name__}, expected a transformers tokenizer "
                "(it has all_special_ids) or None"
            )
        return frozenset(int(i) for i in tokenizer.all_special_ids if i is not None)
    ids: set[int] = set()
    for model in models:
        for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
            value = getattr(text_config(model), name, None)
            values = value if isinstance(value, (list, tuple)) else [value]
            ids.update(i for i in values if i is not None)
    return frozenset(ids)


def _kind(inputs: Any, argument: str) -> tuple[str, Any]:
    """("texts", strings) or ("ids", (sequence, attention mask or None) pairs)."""
    expected = "a list of texts, or token ids as (sequence, position) or a list of sequences"
    if isinstance(inputs, str):
        return "texts", [inputs]
    if isinstance(inputs, Mapping) or hasattr(inputs, "input_ids"):
        return "ids", _encoded(inputs, argument)
    if hasattr(inputs, "shape") and not _holds_texts(inputs):
        return "ids", ((row, None) for row in _rows(inputs, argument))
    if not isinstance(inputs, Iterable):
        raise TypeError(f"{argument}: {type(inputs).__name__}, expected {expected}")
    items = iter(inputs)
    first = next(items, _END)
    if first is _END:
        raise ValueError(f"{argument}: empty, expected {expected}")
    rest = itertools.chain([first], items)
    if isinstance(first, str):
        return "texts", rest
    if isinstance(first, (Sequence, np.ndarray, Tensor)) and not _is_scalar(first):
        return "ids", ((row, None) for row in rest)
    if isinstance(first, (int, np.integer)) or _is_scalar(first):
        raise ValueError(
            f"{argument}: one flat sequence of ids, expected {expected} (for one sequence: [ids])"
        )
    raise TypeError(f"{argument}: holds {type(first).__name__}, expected {expected}")


def _encoded(inputs: Any, argument: str) -> Iterator[tuple[Any, Any]]:
    if "input_ids" not in inputs:
        raise ValueError(
            f"{argument}: a mapping with keys {', '.join(map(str, inputs))}, expected input_ids "
            "and attention_mask, as a tokenizer returns"
        )
    rows = list(_rows(inputs["input_ids"], argument))
    masks = list(inputs["attention_mask"]) if "attention_mask" in inputs else [None] * len(rows)
    if len(masks) != len(rows):
        raise ValueError(f"{argument}: {len(masks)} attention masks, expected {len(rows)}")
    return zip(rows, masks, strict=True)


def _holds_texts(inputs: Any) -> bool:
    """An array or a data frame's column of str."""
    return len(inputs.shape) == 1 and isinstance(next(iter(inputs), None), str)


def _is_scalar(value: Any) -> bool:
    return getattr(value, "ndim", None) == 0


def _rows(ids: Any, argument: str) -> Iterable[Any]:
    if hasattr(ids, "shape") and len(ids.shape) != 2:
        raise ValueError(
            f"{argument}: shape {tuple(ids.shape)}, expected two dimensions (sequence, position)"
        )
    rows: Iterable[Any] = ids
    return rows


def _from_texts(
    texts: Iterable[Any],
    tokenizer: Any,
    context: int,
    chunking: Chunking,
    prepend_bos: bool | None,
    argument: str,
) -> Iterator[Ids]:
    if tokenizer is None:
        raise ValueError(f"tokenizer: None, expected a tokenizer, for {argument} holds texts")
    bos = getattr(tokenizer, "bos_token_id", None)
    if prepend_bos and bos is None:
        raise ValueError("prepend_bos: True, expected None or False: the tokenizer has no BOS")
    head = [bos] if bos is not None and prepend_bos is not False else []
    body = context - len(head)
    eos = getattr(tokenizer, "eos_token_id", None)
    pending: list[int] = []
    for ids in _tokenised(texts, tokenizer, argument):
        if chunking == "truncate":
            ids = ids[:body]
        elif chunking == "pack":
            pending.extend(ids)
            if ids and eos is not None:
                pending.append(eos)
            whole = len(pending) - len(pending) % body
            ids, pending = pending[:whole], pending[whole:]
        for start in range(0, len(ids), body):
            yield np.array(head + ids[start : start + body], np.int64)
    if pending:
        yield np.array(head + pending, np.int64)


def _tokenised(texts: Iterable[Any], tokenizer: Any, argument: str) -> Iterator[list[int]]:
    items = iter(texts)
    number = 0
    while group := list(itertools.islice(items, _TEXTS_AT_ONCE)):
        for offset, text in enumerate(group):
            if not isinstance(text, str):
                raise TypeError(
                    f"{argument}[{number + offset}]: {type(text).__name__}, expected a str "
                    "like the first"
                )
        number += len(group)
        # verbose=False: no warning about texts longer than the model, they are cut here.
        yield from tokenizer(group, add_special_tokens=False, verbose=False)["input_ids"]


def _from_ids(
    pairs: Iterable[tuple[Any, Any]], tokenizer: Any, limit: int | None, argument: str
) -> Iterator[Ids]:
    for number, (row, mask) in enumerate(pairs):
        name = f"{argument}[{number}]"
        ids = _integers(name, row)
        ids = _without_padding(name, ids, tokenizer) if mask is None else _unmasked(name, ids, mask)
        if limit is not None and len(ids) > limit:
            raise ValueError(
                f"{name}: {len(ids)} tokens, expected at most {limit} (the context, or the "
                "model's maximum); token ids are run as they are, never cut"
            )
        if len(ids):
            yield ids


def _integers(name: str, row: Any) -> Ids:
    array = row.detach().cpu().numpy() if isinstance(row, Tensor) else np.asarray(row)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise ValueError(
            f"{name}: {array.dtype} of shape {array.shape}, expected one-dimensional integers"
        )
    return array.astype(np.int64)


def _unmasked(name: str, ids: Ids, mask: Any) -> Ids:
    real = np.asarray(mask.cpu() if isinstance(mask, Tensor) else mask) != 0
    if real.shape != ids.shape:
        raise ValueError(
            f"{name}: attention mask of shape {real.shape}, expected {ids.shape} like the ids"
        )
    places = np.flatnonzero(real)
    if len(places) and places[-1] - places[0] + 1 != len(places):
        raise ValueError(f"{name}: attention mask with a gap, expected padding at the ends only")
    unmasked: Ids = ids[real]
    return unmasked


def _without_padding(name: str, ids: Ids, tokenizer: Any) -> Ids:
    pad = getattr(tokenizer, "pad_token_id", None)
    if pad is None:
        return ids
    places = np.flatnonzero(ids != pad)
    if not len(places):
        return ids[:0]
    start, stop = int(places[0]), int(places[-1]) + 1
    if pad == getattr(tokenizer, "eos_token_id", None):
        stop = len(ids)  # a real end of text, or padding: masked and read by nothing, either way
    if pad == getattr(tokenizer, "bos_token_id", None):
        if start > 1:
            raise ValueError(
                f"{name}: begins with {start} times token {pad}, which is both BOS and padding; "
                "expected one, or {'input_ids': ..., 'attention_mask': ...} to tell them apart"
            )
        start = 0
    return ids[start:stop]


def _check_vocabulary(
    ids: Ids, number: int, models: Mapping[str, nn.Module], argument: str
) -> None:
    for name, model in models.items():
        size = getattr(text_config(model), "vocab_size", None)
        wrong = np.flatnonzero((ids < 0) | (ids >= (size or np.inf)))
        if len(wrong):
            where = f"{argument}: token id {ids[wrong[0]]} in sequence {number}"
            raise ValueError(
                f"{where}, position {wrong[0]}, expected 0 to {(size or 0) - 1}, "
                f"the vocabulary of {name}"
            )
