# SPDX-License-Identifier: Apache-2.0
"""From texts or token ids to sequences, masks and padded batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor, nn

from ..rows import Rows, as_rows, check_vocabulary, special_token_ids
from ._offsets import Bools, Ids, TextReader
from ._residual import text_config
from ._windows import (
    Chunking,
    Window,
    bos_head,
    check_count,
    kind_of,
    windows_of_ids,
    windows_of_texts,
)

__all__ = [
    "DEFAULT_CONTEXT",
    "Batch",
    "Chunking",
    "Corpus",
    "Cutting",
    "Window",
    "batches",
    "build_corpus",
    "check_count",
    "check_in_vocabulary",
    "kept_rows",
    "longest_context",
    "special_ids_of",
]

DEFAULT_CONTEXT = 512


@dataclass(frozen=True)
class Corpus:
    """Sequences ready to be run, and which of their rows count."""

    windows: list[Window]
    #: (n,) for each window: which of its rows count.
    masks: list[Bools]
    special_ids: frozenset[int]
    skip_positions: int
    context: int | None
    #: Texts (or sequences of ids) that were read, empty ones counted.
    texts: int
    #: What the first so many texts were, for some numbers of them; `TextReader.digests`.
    digests: Mapping[str, str] = field(default_factory=dict)
    #: The bound on norms that was asked for, as a multiple of the median; whoever reads applies it.
    norm_bound: float | None = None

    @property
    def sequences(self) -> list[Ids]:
        """The token ids of each sequence."""
        return [window.ids for window in self.windows]

    def kept(self, ids: Ids) -> Bools:
        """Rows that count: no special token, not among the first `skip_positions`."""
        return kept_rows(ids, self.special_ids, self.skip_positions)


@dataclass(frozen=True)
class Cutting:
    """How texts become sequences, and which of their rows are read: what `extract` takes, for all
    that read texts. `rows` may be a pair where two models read them."""

    context: int | None
    chunking: Chunking
    prepend_bos: bool | None
    skip_positions: int
    max_tokens: int | None
    rows: Any = None

    def __post_init__(self) -> None:
        if self.max_tokens is not None:
            check_count("max_tokens", self.max_tokens, 1)
        if self.chunking not in get_args(Chunking):
            raise ValueError(
                f"chunking: {self.chunking!r}, expected one of {', '.join(get_args(Chunking))}"
            )
        check_count("skip_positions", self.skip_positions, 0)

    def counted(self, rows: Any) -> Rows:
        """`rows` and `skip_positions` as one. The default bound on norms is left to what uses the
        rows; one that was asked for stays."""
        chosen = as_rows(rows)
        skip = self.skip_positions
        if skip and chosen.skip_positions not in (0, skip):
            raise ValueError(
                f"skip_positions: {skip}, expected {chosen.skip_positions} as rows.skip_positions, "
                "or only one of them"
            )
        return replace(
            chosen, skip_positions=skip or chosen.skip_positions, norm_bound=chosen.asked_bound
        )


@dataclass(frozen=True)
class Batch:
    """Right-padded sequences: (batch, position) token ids, attention mask and counted rows."""

    ids: Tensor
    mask: Tensor
    kept: Tensor


def kept_rows(ids: Ids, special_ids: frozenset[int], skip: int) -> Bools:
    kept = ~np.isin(ids, np.fromiter(special_ids, np.int64, len(special_ids)))
    kept[:skip] = False
    return kept


def build_corpus(
    models: Mapping[str, nn.Module],
    tokenizer: Any,
    inputs: Any,
    cutting: Cutting,
    argument: str,
) -> Corpus:
    """Sequences of `inputs`, checked against every model that will run them.

    Special tokens, chat markers among them, do not count, nor do the first `skip_positions` of a
    sequence; `rows` (a `suture.Rows`, or a mask over all tokens) says otherwise. A bound on norms
    that it asks for is handed on with the corpus, to those who know the norms.
    """
    chosen = cutting.counted(cutting.rows)
    for name, model in models.items():
        check_vocabulary(chosen, getattr(text_config(model), "vocab_size", None), name)
    longest = longest_context(cutting.context, models.values())
    context = cutting.context
    reader: TextReader | None = None
    special_ids = special_ids_of(tokenizer, models.values())
    kind, items = kind_of(inputs, argument)
    if kind == "texts":
        context = context or min(DEFAULT_CONTEXT, longest or DEFAULT_CONTEXT)
        head = bos_head(tokenizer, cutting.prepend_bos, argument)
        reader = TextReader(tokenizer, argument)
        stream = windows_of_texts(
            items, reader, head, context, cutting.chunking, cutting.prepend_bos
        )
    else:
        stream = windows_of_ids(items, tokenizer, context or longest, argument)
    windows: list[Window] = []
    total = texts = 0
    # What does not need all rows to be known; "last" counts one row for each text.
    mark: frozenset[int] = frozenset() if chosen.special else special_ids
    for read, window in stream:
        texts = max(texts, read)
        if window is None:
            continue
        check_in_vocabulary(window.ids, len(windows), models, argument)
        windows.append(window)
        kept = kept_rows(window.ids, mark.union(chosen.leave_out), chosen.skip_positions)
        if chosen.positions == "generated" and window.generated is not None:
            kept &= window.generated
        total += min(int(kept.sum()), 1) if chosen.positions == "last" else int(kept.sum())
        if cutting.max_tokens is not None and total >= cutting.max_tokens:
            break
    if total == 0:
        raise ValueError(
            f"{argument}: no token is left of {len(windows)} sequences when special tokens and "
            f"the first {chosen.skip_positions} positions are masked, expected at least one"
        )
    masks = _masks(windows, chosen, special_ids, argument)
    digests = reader.digests(texts) if reader else {}
    return Corpus(
        windows, masks, mark, chosen.skip_positions, context, texts, digests, chosen.norm_bound
    )


def _masks(
    windows: Sequence[Window], chosen: Rows, special_ids: frozenset[int], argument: str
) -> list[Bools]:
    sizes = [len(window.ids) for window in windows]
    known = [window.generated for window in windows]
    kept = chosen.select(
        sum(sizes),
        token_ids=np.concatenate([window.ids for window in windows]),
        special_ids=special_ids,
        positions=np.concatenate([np.arange(size) for size in sizes]),
        texts=np.concatenate([window.text for window in windows]),
        generated=None if any(g is None for g in known) else np.concatenate(known),  # type: ignore[arg-type]
        name=argument,
    )
    return np.split(kept, np.cumsum(sizes)[:-1])


def longest_context(context: int | None, models: Iterable[nn.Module]) -> int | None:
    """The models' maximum, where they have one; refuses a `context` beyond it."""
    known = [getattr(text_config(model), "max_position_embeddings", None) for model in models]
    # XLNet says -1 where there is none.
    longest = min((n for n in known if n and n > 0), default=None)
    if context is not None:
        check_count("context", context, 2)
        if longest is not None and context > longest:
            raise ValueError(f"context: {context}, expected at most {longest}, the model's maximum")
    return longest


def batches(corpus: Corpus, batch_size: int, device: torch.device) -> Iterator[Batch]:
    """Right-padded batches in the order of the sequences."""
    for start in range(0, len(corpus.windows), batch_size):
        group = corpus.windows[start : start + batch_size]
        shape = (len(group), max(len(window.ids) for window in group))
        ids, mask = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        kept = np.zeros(shape, np.bool_)
        for row, window in enumerate(group):
            size = len(window.ids)
            ids[row, :size] = window.ids
            mask[row, :size] = 1
            kept[row, :size] = corpus.masks[start + row]
        yield Batch(*(torch.from_numpy(a).to(device) for a in (ids, mask, kept)))


def special_ids_of(tokenizer: Any, models: Iterable[nn.Module]) -> frozenset[int]:
    """Special tokens and chat markers; without a tokenizer, what the configurations say."""
    if tokenizer is not None:
        return special_token_ids(tokenizer)
    ids: set[int] = set()
    for model in models:
        for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
            value = getattr(text_config(model), name, None)
            values = value if isinstance(value, (list, tuple)) else [value]
            ids.update(i for i in values if i is not None)
    return frozenset(ids)


def check_in_vocabulary(
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
