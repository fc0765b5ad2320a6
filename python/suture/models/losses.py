# SPDX-License-Identifier: Apache-2.0
"""Next-token cross-entropy of a language model."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ._borrowing import borrowed
from ._causality import check_causal
from ._progress import progress_bar
from ._residual import check_decoder, run
from ._tokens import Batch, Chunking, Cutting, batches, build_corpus, check_count

# Rows of logits taken to float32 at once: with a vocabulary of 256k that is 0.5 GB, not all of it.
_ROWS_AT_ONCE = 512


def next_token_loss(
    model: nn.Module,
    token_ids_or_texts: Any,
    tokenizer: Any = None,
    *,
    score_special: bool = False,
    batch_size: int = 16,
    context: int | None = None,
    chunking: Chunking = "split",
    prepend_bos: bool | None = None,
    skip_positions: int = 0,
    max_tokens: int | None = None,
    progress: bool | None = None,
    device: str | torch.device | None = None,
) -> float:
    """Mean next-token cross-entropy in nats, over the predictions made from text tokens.

    A prediction counts when the token it is made *from* is no special token and not among the
    first `skip_positions` of its sequence, and a next token exists; that is the same set for
    which `stitched_loss` and `spliced_loss` count, so the numbers compare.

    Args:
        model: a transformers causal language model.
        token_ids_or_texts: texts or token ids, as for `extract`.
        tokenizer: needed for texts; tells the special tokens. None: BOS, EOS and PAD of the
            model's configuration.
        score_special: count the predictions made from special tokens too: then this is the loss
            `model(ids, labels=ids)` gives.
        batch_size, context, chunking, prepend_bos, skip_positions, progress, device: as for
            `extract`.
        max_tokens: read no sequence beyond the one that reaches this many counted rows.

    >>> import suture.models
    >>> model, _, tokenizer = suture.models.tiny_pair()
    >>> 4 < suture.models.next_token_loss(model, ["a text", "another"], tokenizer) < 8
    True
    """
    check_decoder(model)
    check_count("batch_size", batch_size, 1)
    corpus = build_corpus(
        {"model": model},
        tokenizer,
        token_ids_or_texts,
        Cutting(context, chunking, prepend_bos, skip_positions, max_tokens),
        "token_ids_or_texts",
    )
    mean = LossSum("model")
    with (
        borrowed(model, device) as where,
        progress_bar(len(corpus.sequences), "loss", progress) as bar,
    ):
        check_causal(model, corpus.sequences, where)
        for batch in batches(corpus, batch_size, where):
            mean.add(run(model, batch.ids, batch.mask), batch, all_positions=score_special)
            bar.update(len(batch.ids))
    return mean.value()


class LossSum:
    """Sums cross-entropies of batches in float64."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._sum = 0.0
        self.count = 0

    def add(self, output: Any, batch: Batch, all_positions: bool = False) -> None:
        logits = getattr(output, "logits", None)
        if not isinstance(logits, Tensor):
            raise TypeError(
                f"{self._path}: its output {type(output).__name__} has no logits, "
                "expected a model with a language-model head"
            )
        ids, mask, kept = (t.to(logits.device) for t in (batch.ids, batch.mask, batch.kept))
        scored = (mask.bool() if all_positions else kept)[:, :-1] & mask[:, 1:].bool()
        rows, positions = scored.nonzero(as_tuple=True)
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            at = slice(start, start + _ROWS_AT_ONCE)
            losses = nn.functional.cross_entropy(
                logits[rows[at], positions[at]].float(),
                ids[rows[at], positions[at] + 1],
                reduction="none",
            )
            self._sum += float(losses.double().sum())
        self.count += len(rows)

    def value(self) -> float:
        if self.count == 0:
            raise ValueError(
                "token_ids_or_texts: no counted token has a next one, expected sequences of at "
                "least two text tokens"
            )
        if not math.isfinite(self._sum):
            raise ValueError(f"{self._path}: the loss is {self._sum}, expected finite logits")
        return self._sum / self.count
