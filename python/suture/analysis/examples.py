# SPDX-License-Identifier: Apache-2.0
"""Examples of features in context: the tokens around those on which they are most active."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from .._arguments import instance, integer, whole_numbers
from ..activations import Activations, as_float32
from ..codes import SparseCodes
from ..sae import SAE

__all__ = ["Example", "feature_examples", "token_texts"]


@dataclass(frozen=True)
class Example:
    """A token on which a feature is active, and the tokens around it.

    Attributes:
        row: number of the token among all activations.
        value: the activation there.
        tokens: texts of the tokens around it and of itself.
        activations: of the feature on each of them, 0 where it is not active.
        place: which of them it is.
    """

    row: int
    value: float
    tokens: list[str]
    activations: list[float]
    place: int


def feature_examples(
    sae: SAE,
    acts: Activations,
    features: npt.ArrayLike,
    rows: npt.ArrayLike,
    tokenizer: Any,
    *,
    layer: int | None = None,
    count: int = 8,
    before: int = 16,
    after: int = 6,
) -> list[list[Example]]:
    """Examples of some features in context.

    The context is what activations hold of the same sequence, as far as positions follow each
    other: it ends at special tokens, which are left out of them. Of examples with the same text
    only the first is taken, so that a formula that is repeated everywhere does not fill the list.

    Args:
        sae: the SAE, which encodes the contexts.
        acts: activations with token ids, positions and sequence numbers.
        features: (n,) which features.
        rows: (n, m) tokens on which each is most active, strongest first, -1 for none: the
            `example_rows[features]` of `FeatureStatistics`.
        tokenizer: a transformers tokenizer (it has `decode`).
        layer: of `acts`; None: the only one.
        count: examples of each feature at most.
        before, after: tokens of context at most.

    Returns:
        For each feature its examples, strongest first.

    Raises:
        TypeError, ValueError: naming the argument, its value and what was expected.

    >>> import numpy as np, suture
    >>> class Letters:
    ...     def decode(self, ids):
    ...         return "".join(chr(97 + i) for i in ids)
    >>> acts = suture.Activations(
    ...     {0: np.eye(3, dtype=np.float32)},
    ...     token_ids=[0, 1, 2], positions=[1, 2, 3], sequence=[0, 0, 0],
    ... )
    >>> sae = suture.SAE(
    ...     W_enc=np.eye(3), b_enc=np.zeros(3), W_dec=np.eye(3), b_dec=np.zeros(3), k=1
    ... )
    >>> [[example]] = suture.analysis.feature_examples(sae, acts, [1], [[1, -1]], Letters())
    >>> example.tokens, example.activations, example.place
    (['a', 'b', 'c'], [0.0, 1.0, 0.0], 1)
    """
    instance("sae", sae, SAE, "suture.SAE")
    instance("acts", acts, Activations, "suture.Activations")
    wanted = whole_numbers("features", features)
    beyond = wanted[(wanted < 0) | (wanted >= sae.d_sae)]
    if len(beyond):
        raise ValueError(f"features has {beyond[0]}, expected 0 to {sae.d_sae - 1}")
    places = np.asarray(rows)
    if places.ndim != 2 or len(places) != len(wanted) or places.dtype.kind not in "iu":
        raise ValueError(
            f"rows has dtype {places.dtype} and shape {places.shape}, expected whole numbers "
            f"({len(wanted)}, m): a row for each feature"
        )
    if places.size and places.max() >= len(acts):
        raise ValueError(f"rows has {places.max()}, expected less than {len(acts)}, those of acts")
    limits = [
        integer(name, value, least)
        for name, value, least in (("count", count, 1), ("before", before, 0), ("after", after, 0))
    ]
    blocks = acts.shards(_layer(acts, layer))
    if acts.d != sae.d_in:
        raise ValueError(f"acts has d = {acts.d}, expected {sae.d_in}, the d_in of sae")
    runs = _Runs(acts)
    chosen = [list(_distinct(runs, line, *limits)) for line in places.tolist()]
    needed = sorted({row for spans in chosen for _, span in spans for row in span})
    if not needed:
        return [[] for _ in chosen]
    codes = sae.encode(_take(blocks, np.array(needed)), progress=False)
    number = {row: place for place, row in enumerate(needed)}
    found = []
    for feature, spans in zip(wanted.tolist(), chosen, strict=True):
        examples = []
        for row, span in spans:
            first = number[span.start]
            values = _of_feature(codes, feature, slice(first, first + len(span)))
            examples.append(
                Example(
                    row=row,
                    value=values[row - span.start],
                    tokens=token_texts(tokenizer, runs.ids[span.start : span.stop]),
                    activations=values,
                    place=row - span.start,
                )
            )
        found.append(examples)
    return found


def token_texts(tokenizer: Any, ids: npt.ArrayLike) -> list[str]:
    """The text of each token by itself. Bytes of a character that is spread over several tokens are
    shown as ⟨c3⟩, where the tokenizer is a byte-level one.

    Args:
        tokenizer: a transformers tokenizer (it has `decode`).
        ids: (N,) token ids.

    >>> class Letters:
    ...     def decode(self, ids):
    ...         return "".join(chr(97 + i) for i in ids)
    >>> token_texts(Letters(), [7, 8])
    ['h', 'i']
    """
    if not callable(getattr(tokenizer, "decode", None)):
        raise TypeError(f"tokenizer is a {type(tokenizer).__name__}, expected one with decode()")
    return [_text(tokenizer, int(token)) for token in whole_numbers("ids", ids)]


def _text(tokenizer: Any, token: int) -> str:
    text = str(tokenizer.decode([token]))
    if "\ufffd" not in text or not hasattr(tokenizer, "convert_ids_to_tokens"):
        return text
    name = str(tokenizer.convert_ids_to_tokens(token))
    table = _bytes_of_characters()
    if not all(character in table for character in name):
        return name
    return "".join(
        chr(byte) if 0x20 <= byte < 0x7F else f"⟨{byte:02x}⟩"
        for byte in (table[character] for character in name)
    )


@cache
def _bytes_of_characters() -> dict[str, int]:
    """How byte-level tokenizers write bytes: printable ones as themselves, the others from U+0100
    on, in order (Radford et al. 2019)."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(256) if byte not in plain]
    return {chr(b): b for b in plain} | {chr(256 + n): b for n, b in enumerate(rest)}


class _Runs:
    """Which rows follow each other in their text."""

    def __init__(self, acts: Activations) -> None:
        self.ids = acts.token_ids
        together = (acts.sequence[1:] == acts.sequence[:-1]) & (
            acts.positions[1:] == acts.positions[:-1] + 1
        )
        # Rows that begin a run, and the end of all.
        self._starts = np.concatenate([[0], np.flatnonzero(~together) + 1, [len(self.ids)]])

    def around(self, row: int, before: int, after: int) -> range:
        run = int(np.searchsorted(self._starts, row, side="right")) - 1
        low, high = int(self._starts[run]), int(self._starts[run + 1])
        return range(max(low, row - before), min(high, row + after + 1))


def _distinct(
    runs: _Runs, rows: Sequence[int], count: int, before: int, after: int
) -> Iterator[tuple[int, range]]:
    """The first examples with different texts, each with its context."""
    seen: set[tuple[bytes, int]] = set()
    for row in rows:
        if row < 0 or len(seen) == count:
            continue
        span = runs.around(row, before, after)
        text = (runs.ids[span.start : span.stop].tobytes(), row - span.start)
        if text not in seen:
            seen.add(text)
            yield row, span


def _layer(acts: Activations, layer: int | None) -> int:
    if layer is not None:
        return integer("layer", layer, 0)
    if len(acts.layers) != 1:
        raise ValueError(f"layer is None, expected one of {list(acts.layers)}")
    return acts.layers[0]


def _take(blocks: Any, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Some rows, in ascending order, of blocks that follow each other."""
    parts = []
    start = 0
    for block in blocks:
        here = rows[(rows >= start) & (rows < start + len(block))] - start
        if len(here):
            parts.append(as_float32(block[here]))
        start += len(block)
    return np.concatenate(parts)


def _of_feature(codes: SparseCodes, feature: int, rows: slice) -> list[float]:
    values: npt.NDArray[np.float32] = np.where(
        codes.indices[rows] == feature, codes.values[rows], np.float32(0)
    ).sum(axis=1)
    return [float(value) for value in values]
