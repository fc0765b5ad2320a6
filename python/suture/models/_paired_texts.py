# SPDX-License-Identifier: Apache-2.0
"""The same texts as two models read them, and the rows at which both have read the same."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from ..alignment import shared_ends
from ..reports import SutureWarning
from ..rows import Rows, both_sides, check_vocabulary
from ._offsets import Bools, Ids, TextReader, TokenisedText
from ._residual import text_config
from ._tokens import (
    DEFAULT_CONTEXT,
    Chunking,
    Corpus,
    Cutting,
    check_in_vocabulary,
    kept_rows,
    longest_context,
    special_ids_of,
)
from ._windows import Window, bos_head, kind_of, window_of

Cuts = Iterator[tuple[slice, slice]]


@dataclass(frozen=True)
class PairedCorpus:
    """Windows of both models over the same stretches of text, one beside the other.

    a, b: their masks have the paired rows, as many in window i of both, in order; counted_a,
    counted_b: rows that would count alone; single: (pairs,), whose tokens also begin at one place;
    skipped: stretches of text left out because no end is shared within a context;
    without_pairs: texts with tokens but without a pair; identical: both tokenizers read all texts
    as the same tokens, of which the same are special.
    """

    a: Corpus
    b: Corpus
    counted_a: int
    counted_b: int
    single: Bools
    skipped: int
    without_pairs: int
    identical: bool

    def shares(self, kept: Bools) -> dict[str, Any]:
        """For metadata; `kept` are those of the first pairs that stay."""
        pairs = len(self.single) * float(kept.mean())
        return {
            "pairs": int(kept.sum()),
            "kept_a": pairs / self.counted_a,
            "kept_b": pairs / self.counted_b,
            "one_to_one": float(self.single[: len(kept)][kept].mean()),
            "skipped_windows": self.skipped,
            "texts_without_pairs": self.without_pairs,
        }


class _Side:
    """One model's half."""

    def __init__(
        self,
        name: str,
        model: nn.Module,
        tokenizer: Any,
        cutting: Cutting,
        rows: Rows,
        argument: str,
    ) -> None:
        self.name, self.model, self.tokenizer, self.rows = name, model, tokenizer, rows
        self.prepend_bos = cutting.prepend_bos
        self.argument = argument
        longest = longest_context(cutting.context, [model])
        self.context = cutting.context or min(DEFAULT_CONTEXT, longest or DEFAULT_CONTEXT)
        check_vocabulary(rows, getattr(text_config(model), "vocab_size", None), f"model_{name}")
        with_name = f"tokenizer_{name}"
        if tokenizer is None or not callable(tokenizer):
            raise TypeError(
                f"{with_name}: {type(tokenizer).__name__}, expected a transformers tokenizer"
            )
        self.reader = TextReader(tokenizer, argument)
        if not self.reader.has_offsets:
            raise ValueError(
                f"{with_name}: {type(tokenizer).__name__}, which cannot tell which part of a text "
                "a token is, expected a fast tokenizer (is_fast)"
            )
        self.head = bos_head(tokenizer, cutting.prepend_bos, argument)
        self.special_ids = special_ids_of(tokenizer, [model])
        self.unknown = getattr(tokenizer, "unk_token_id", None)
        self.windows: list[Window] = []
        self.masks: list[Bools] = []
        self.counted = 0
        self.unreadable: list[int] = []

    @property
    def body(self) -> int:
        return self.context - len(self.head)

    def window(self, tokens: TokenisedText, text: int, part: slice) -> Window:
        found = window_of(tokens, text, part, self.head, self.prepend_bos)
        check_in_vocabulary(
            found.ids, len(self.windows), {f"model_{self.name}": self.model}, self.argument
        )
        return found

    def counts(self, window: Window) -> Bools:
        """Rows that would count alone."""
        marked = frozenset() if self.rows.special else self.special_ids
        kept = kept_rows(window.ids, marked.union(self.rows.leave_out), self.rows.skip_positions)
        if self.rows.positions == "generated":
            if window.generated is None:
                raise ValueError(
                    f"rows.positions is 'generated', expected 'all': {self.argument} holds texts "
                    "without a continuation; pass (prompt, continuation) pairs"
                )
            kept &= window.generated
        return kept

    def note_unreadable(self, tokens: TokenisedText, number: int) -> None:
        if tokens.blank:
            return
        if not len(tokens.ids) or (self.unknown is not None and self.unknown in tokens.ids):
            self.unreadable.append(number)

    def keep_last(self, text: int) -> None:
        """Keeps the last pair of the text that was read last."""
        found = False
        for window, mask in zip(reversed(self.windows), reversed(self.masks), strict=True):
            if int(window.text[0]) != text:
                break
            places = np.flatnonzero(mask)
            mask[places if found else places[:-1]] = False
            found = found or len(places) > 0

    def corpus(self, texts: int) -> Corpus:
        marked: frozenset[int] = frozenset() if self.rows.special else self.special_ids
        return Corpus(
            self.windows,
            self.masks,
            marked,
            self.rows.skip_positions,
            self.context,
            texts,
            self.reader.digests(texts),
            self.rows.norm_bound,
        )


def pair_corpus(
    models: Mapping[str, nn.Module],
    tokenizers: Mapping[str, Any],
    inputs: Any,
    cutting: Cutting,
    argument: str,
    *,
    strict: bool = False,
) -> PairedCorpus:
    """Texts in windows that both models begin at the same byte, and the rows of these windows that
    end at the same byte: there both have read the same text, and nothing before it.

    Windows are cut at shared ends, so that each is at most `context` tokens of either tokenizer. A
    stretch without a shared end within that is skipped; the next one goes on behind it.

    Raises:
        ValueError, TypeError: an argument is not usable, or no row is in a pair.

    Warns:
        SutureWarning: a tokenizer cannot encode some of the texts.
    """
    if cutting.chunking == "pack":
        raise ValueError(
            "chunking: 'pack', expected 'split' or 'truncate': sequences of two tokenizers fill up "
            "at different places"
        )
    chosen = _rows_of(cutting)
    sides = tuple(
        _Side(name, models[name], tokenizers[name], cutting, chosen[name], argument)
        for name in ("a", "b")
    )
    a, b = sides
    alike = same_vocabulary(tokenizers["a"], tokenizers["b"])
    if not alike and not isinstance(cutting.rows, tuple) and a.rows.leave_out:
        raise ValueError(
            f"rows is {a.rows!r}, expected (rows_a, rows_b): token ids to leave out are those of "
            "one tokenizer"
        )
    kind, items = kind_of(inputs, argument)
    if kind != "texts":
        raise TypeError(f"{argument}: token ids, expected texts: the tokenizers read them")
    pairs = skipped = without = texts = 0
    # Of A's rows in each window, whether they are in a pair of two tokens that begin at one place.
    single: list[Bools] = []
    identical = a.special_ids == b.special_ids
    copies = itertools.tee(items)
    readings = (side.reader.read(copy) for side, copy in zip(sides, copies, strict=True))
    for number, (one, two) in enumerate(zip(*readings, strict=True)):
        texts = number + 1
        for side, tokens in zip(sides, (one, two), strict=True):
            side.note_unreadable(tokens, number)
        same = alike and bool(np.array_equal(one.ids, two.ids))
        identical = identical and same
        before = pairs
        cuts = _Cutter(one, two, a.body, b.body, same)
        for part_a, part_b in cuts.windows(cutting.chunking):
            window_a, window_b = a.window(one, number, part_a), b.window(two, number, part_b)
            counts_a, counts_b = a.counts(window_a), b.counts(window_b)
            a.counted += int(counts_a.sum())
            b.counted += int(counts_b.sum())
            rows_a, rows_b = _pairs(window_a, window_b, same)
            both = counts_a[rows_a] & counts_b[rows_b]
            rows_a, rows_b = rows_a[both], rows_b[both]
            begins = window_a.begins[rows_a]
            alone = (begins >= 0) & (begins == window_b.begins[rows_b])
            if same:
                alone[:] = True
            if strict:
                rows_a, rows_b, alone = rows_a[alone], rows_b[alone], alone[alone]
            for side, window, places in ((a, window_a, rows_a), (b, window_b, rows_b)):
                mask = np.zeros(len(window.ids), np.bool_)
                mask[places] = True
                side.windows.append(window)
                side.masks.append(mask)
            single.append(np.zeros(len(window_a.ids), np.bool_))
            single[-1][rows_a[alone]] = True
            pairs += len(rows_a)
        skipped += cuts.skipped
        a.counted += cuts.left_out[0]
        b.counted += cuts.left_out[1]
        if a.rows.positions == "last" and pairs > before:
            pairs = before + 1
            for side in sides:
                side.keep_last(number)
        without += int(pairs == before and len(one.ids) > 0 and len(two.ids) > 0)
        if cutting.max_tokens is not None and pairs >= cutting.max_tokens:
            break
    if pairs == 0:
        raise ValueError(
            f"{argument}: no end of a token of tokenizer_a is one of tokenizer_b in {texts} texts, "
            "where rows of both count, expected at least one"
        )
    for side in sides:
        if side.unreadable:
            warnings.warn(
                f"tokenizer_{side.name}: {len(side.unreadable)} of {texts} texts have characters "
                f"that it cannot encode, first {argument}[{side.unreadable[0]}]; no row is taken "
                "at such a token, but the rows after it have not read quite what the other "
                "model's have",
                SutureWarning,
                stacklevel=3,
            )
    return PairedCorpus(
        a.corpus(texts),
        b.corpus(texts),
        a.counted,
        b.counted,
        np.concatenate([row[mask] for row, mask in zip(single, a.masks, strict=True)]),
        skipped,
        without,
        identical,
    )


def _rows_of(cutting: Cutting) -> dict[str, Rows]:
    sides = zip("ab", both_sides(cutting.rows), strict=True)
    found = {name: cutting.counted(side) for name, side in sides}
    for side in found.values():
        if side.mask is not None:
            raise ValueError(
                f"rows is {side!r}, expected none with a mask: the rows of texts are not known "
                "before they are read; leave rows out of the activations instead"
            )
    if found["a"].positions != found["b"].positions:
        raise ValueError(
            f"rows_b.positions is {found['b'].positions!r}, expected {found['a'].positions!r} as "
            "rows_a: a pair is one place of a text"
        )
    return found


def same_vocabulary(a: Any, b: Any) -> bool:
    """Whether equal ids of the two tokenizers are equal tokens."""
    if a is b:
        return True
    try:
        return bool(a.get_vocab() == b.get_vocab())
    except (AttributeError, NotImplementedError):
        return False


class _Cutter:
    """Where two tokenisations of one text are cut into windows."""

    def __init__(
        self, a: TokenisedText, b: TokenisedText, body_a: int, body_b: int, same: bool
    ) -> None:
        self._sizes = len(a.ids), len(b.ids)
        self._bodies = body_a, body_b
        self._same = same
        self._at_a, self._at_b = _shared(a.ends, b.ends)
        #: Stretches left out, and the tokens in them.
        self.skipped = 0
        self.left_out = [0, 0]

    def windows(self, chunking: Chunking) -> Cuts:
        """Parts of both lists of tokens."""
        (size_a, size_b), (body_a, body_b) = self._sizes, self._bodies
        if not size_a or not size_b:
            return
        if chunking == "truncate":
            yield slice(0, min(size_a, body_a)), slice(0, min(size_b, body_b))
            return
        if self._same:
            step = min(body_a, body_b)
            for start in range(0, size_a, step):
                part = slice(start, min(start + step, size_a))
                yield part, part
            return
        i = j = 0
        while i < size_a and j < size_b:
            if size_a - i <= body_a and size_b - j <= body_b:
                yield slice(i, size_a), slice(j, size_b)
                return
            # The farthest shared end that both contexts hold.
            reach = min(
                int(np.searchsorted(self._at_a, i + body_a)),
                int(np.searchsorted(self._at_b, j + body_b)),
            )
            first = max(int(np.searchsorted(self._at_a, i)), int(np.searchsorted(self._at_b, j)))
            if reach > first:
                stop_a, stop_b = int(self._at_a[reach - 1]) + 1, int(self._at_b[reach - 1]) + 1
                yield slice(i, stop_a), slice(j, stop_b)
            elif first < len(self._at_a):
                stop_a, stop_b = int(self._at_a[first]) + 1, int(self._at_b[first]) + 1
                self._skip(stop_a - i, stop_b - j)
            else:
                break
            i, j = stop_a, stop_b
        if i < size_a or j < size_b:
            self._skip(size_a - i, size_b - j)

    def _skip(self, tokens_a: int, tokens_b: int) -> None:
        self.skipped += 1
        self.left_out[0] += tokens_a
        self.left_out[1] += tokens_b


def _shared(ends_a: Ids, ends_b: Ids) -> tuple[Ids, Ids]:
    """The last tokens at shared ends, of those whose ends are known."""
    known_a, known_b = np.flatnonzero(ends_a >= 0), np.flatnonzero(ends_b >= 0)
    at_a, at_b = shared_ends(ends_a[known_a], ends_b[known_b])
    return known_a[at_a], known_b[at_b]


def _pairs(a: Window, b: Window, same: bool) -> tuple[Ids, Ids]:
    """Rows of two windows that go together."""
    if same:
        # Heads may differ: a model without BOS, or one that has it spelt out.
        count = min(len(a.ids), len(b.ids))
        shift = np.arange(count, dtype=np.int64)
        return shift + len(a.ids) - count, shift + len(b.ids) - count
    if a.start < 0 or a.start != b.start:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    return _shared(a.ends, b.ends)
