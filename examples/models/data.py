# SPDX-License-Identifier: Apache-2.0
"""Token windows for training and for the held-out loss; each begins with BOS."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from transformers import PreTrainedTokenizerFast

import corpus
from corpus import Page
from tokenizer import BOS_ID, EOS_ID, PAD_ID

#: Positions a model sees at once: BOS and 127 tokens of text; 128 tokens are predicted.
CONTEXT = 128

Tokens = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """Training and held-out pages of all languages."""

    train: list[Page]
    heldout: list[Page]


def split(pages: dict[str, list[Page]]) -> Split:
    """Divide pages by the hash of their name; cap each language's training text."""
    train: list[Page] = []
    heldout: list[Page] = []
    for lang in pages:
        for side, cap, wanted in (
            (train, corpus.TRAIN_CAP, False),
            (heldout, corpus.HELDOUT_CAP, True),
        ):
            used = 0
            for page in pages[lang]:
                if corpus.is_heldout(page.page) == wanted and used + len(page.text) <= cap:
                    used += len(page.text)
                    side.append(page)
    return Split(train, heldout)


def encode(tokenizer: PreTrainedTokenizerFast, pages: Iterable[Page]) -> list[list[int]]:
    """Token ids of each page without special tokens."""
    texts = [page.text for page in pages]
    return list(tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"])


def stream(tokenizer: PreTrainedTokenizerFast, pages: list[Page], seed: int) -> Tokens:
    """All pages one after another in a shuffled order, EOS after each."""
    order = np.random.default_rng(seed).permutation(len(pages))
    ids = encode(tokenizer, pages)
    return np.array([t for i in order for t in [*ids[i], EOS_ID]], dtype=np.int64)


def batches(tokens: Tokens, batch: int, seed: int, first: int) -> Iterator[Tokens]:
    """Endless batches of windows from step ``first`` on, the same whenever they are asked for.

    Each epoch cuts the stream anew at a random offset and shuffles the windows.
    A row is BOS and then ``CONTEXT`` tokens.
    """
    steps = (len(tokens) // CONTEXT - 1) // batch
    epoch, step = divmod(first, steps)
    while True:
        rng = np.random.default_rng((seed, epoch))
        offset = int(rng.integers(CONTEXT))
        order = rng.permutation(steps * batch)
        for index in range(step, steps):
            starts = offset + CONTEXT * order[index * batch : (index + 1) * batch]
            rows = tokens[starts[:, None] + np.arange(CONTEXT)]
            yield np.concatenate([np.full((batch, 1), BOS_ID), rows], axis=1)
        epoch, step = epoch + 1, 0


def windows(ids: Iterable[list[int]]) -> Tokens:
    """Consecutive windows of pages for the held-out loss: BOS, ``CONTEXT`` tokens, padding."""
    rows = []
    for page in ids:
        for start in range(0, len(page), CONTEXT):
            piece = page[start : start + CONTEXT]
            rows.append([BOS_ID, *piece] + [PAD_ID] * (CONTEXT - len(piece)))
    return np.array(rows, dtype=np.int64)
