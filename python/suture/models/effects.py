# SPDX-License-Identifier: Apache-2.0
"""Whether latents of two SAEs do the same in their models: what taking one out changes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from .._arguments import whole_numbers
from ..correspondence import Float64, Quartiles
from ..sae import SAE
from ..site import Site
from ._borrowing import borrowed
from ._causality import check_reading
from ._paths import directions_of
from ._progress import progress_bar
from ._residual import (
    check_layer,
    find_blocks,
    read_layers,
    residual_hooks,
    run,
    text_config,
)
from ._sites import warn_of_another_site
from ._tokens import Chunking, Corpus, Cutting, batches, build_corpus, check_count

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class AblationSummary:
    """All compared latents in a few numbers.

    Attributes:
        latents: that were compared.
        silent: of these, those without any effect in B; their correlation counts as 0.
        correlation: of the changes in A and in B, over latents.
        control: of the changes in A with those by another latent in B.
        strength: root-mean-square change in B as a multiple of that in A, over latents.

    >>> from suture import Quartiles
    >>> one = Quartiles(0.1, 0.2, 0.3)
    >>> print(AblationSummary(50, 2, one, Quartiles(0, 0, 0), Quartiles(1, 1, 1)))
    effects 0.20 (0.10, 0.30), by another latent 0.00 (0.00, 0.00), strength 1.00 (1.00, 1.00); ...
    """

    latents: int
    silent: int
    correlation: Quartiles
    control: Quartiles
    strength: Quartiles

    def __str__(self) -> str:
        return (
            f"effects {self.correlation}, by another latent {self.control}, strength "
            f"{self.strength}; {self.latents} latents ({self.silent} without effect in B)"
        )


@dataclass(frozen=True, eq=False)
class AblationEffects:
    """What taking latents out of A and their partners out of B changes, n latents compared.

    Attributes:
        latents, latents_b: (n,) of A, and their partners in B (-1: none).
        correlation: (n,) of the changes of log-probabilities in A and B, over vocabulary and
            positions; NaN where a side does not change.
        control: (n,) of the changes in A with those by the partner of another latent, at
            positions where that one fires: what any two ablations have in common.
        effect_a, effect_b: (n,) root mean squares of the changes.
        positions: (n,) at how many positions each was taken out.

    >>> import suture.models
    >>> model, _, tokenizer = suture.models.tiny_pair()
    >>> sae = suture.SAE.init(16, 32, k=4)
    >>> found = suture.models.ablation_effects(
    ...     model, 2, sae, model, 2, sae, ["some text"], tokenizer, latents=2, min_count=1
    ... )
    >>> bool((found.effect_a == found.effect_b).all())
    True
    """

    latents: Int64
    latents_b: Int64
    correlation: Float64
    control: Float64
    effect_a: Float64
    effect_b: Float64
    positions: Int64

    def summary(self) -> AblationSummary:
        """All compared latents in a few numbers."""
        with np.errstate(invalid="ignore", divide="ignore"):
            strength = self.effect_b / self.effect_a
        return AblationSummary(
            len(self.latents),
            int((self.effect_b == 0).sum()),
            _quartiles(np.nan_to_num(self.correlation)),
            _quartiles(np.nan_to_num(self.control)),
            _quartiles(strength[np.isfinite(strength)]),
        )

    def __str__(self) -> str:
        return str(self.summary())


@dataclass(frozen=True)
class _Side:
    """One model, and what its SAE says of the texts."""

    name: str
    model: nn.Module
    layer: int
    sae: SAE
    directions: Tensor

    @property
    def blocks(self) -> nn.ModuleList:
        return find_blocks(self.model, f"model_{self.name}")


def ablation_effects(
    model_a: nn.Module,
    layer_a: int | str | Site,
    sae_a: SAE,
    model_b: nn.Module,
    layer_b: int | str | Site,
    sae_b: SAE,
    token_ids_or_texts: Any,
    tokenizer: Any = None,
    *,
    tokenizer_b: Any = None,
    latents: Any = 100,
    latents_b: Any = None,
    positions: int = 8,
    min_count: int = 10,
    seed: int = 0,
    batch_size: int = 16,
    context: int | None = None,
    chunking: Chunking = "split",
    prepend_bos: bool | None = None,
    skip_positions: int = 0,
    max_tokens: int | None = None,
    progress: bool | None = None,
    device: str | torch.device | None = None,
) -> AblationEffects:
    """Whether latents that fire alike also do alike: takes a latent out of A's residual stream, its
    partner out of B's, and compares what becomes of the next token's log-probabilities.

    At positions of the texts where the latent fires in A, its activation times its decoder row is
    subtracted from A's residual stream, at that position alone; the rest of the reconstruction and
    its error stay. The same is done in B with its partner's own activation at that position: if
    it does not fire there, nothing changes. The changes of all log-probabilities, about their mean
    over the vocabulary, are correlated over the vocabulary and the positions.

    Any two ablations have something in common, such as what they do to frequent tokens. The control
    tells how much: A's changes with those by the partner of another of these latents, that fires
    nearly as often, where that other one fires.

    Args:
        model_a, model_b: transformers causal language models.
        layer_a, layer_b: where the SAEs read; layer l is the input of block l. Also names of the
            streams, or `suture.Site`.
        sae_a, sae_b: `suture.SAE`s on these layers.
        token_ids_or_texts: held-out texts or token ids, as for `extract`.
        tokenizer: that of both models; needed for texts, tells the special tokens.
        tokenizer_b: B's own, to be checked; changes over two vocabularies cannot be compared.
        latents: of A, or how many to draw of those that fire at least `min_count` times.
        latents_b: for each latent of A its partner in B, -1 for none, such as `BestMatches.match`:
            (d_sae_a,). None: latent i is latent i's, as in a carried SAE.
        positions: for each latent, at most so many positions, spread evenly over those at which it
            fires.
        min_count: see `latents`.
        seed: of the draw.
        batch_size, context, chunking, prepend_bos, skip_positions, progress, device: as for
            `extract`.
        max_tokens: read no sequence beyond the one that reaches this many counted rows.

    Raises:
        TypeError, ValueError: an argument is not usable, a given latent never fires in A, or the
            models have different vocabularies; the message names it.

    Warns:
        SutureWarning: the metadata of a SAE name another model, layer or stream.

    >>> import suture.models
    >>> model, _, tokenizer = suture.models.tiny_pair()
    >>> sae = suture.SAE.init(16, 32, k=4)
    >>> found = suture.models.ablation_effects(
    ...     model, 2, sae, model, 2, sae, ["a text", "another"], tokenizer, latents=4, min_count=2
    ... )
    >>> found.correlation.round(6).tolist()
    [1.0, 1.0, 1.0, 1.0]
    """
    sides = (
        _side("a", model_a, layer_a, sae_a),
        _side("b", model_b, layer_b, sae_b),
    )
    partners = _partners(latents_b, sae_a, sae_b)
    for name, count, least in (
        ("positions", positions, 1),
        ("min_count", min_count, 1),
        ("seed", seed, 0),
        ("batch_size", batch_size, 1),
    ):
        check_count(name, count, least)
    vocabulary = _vocabulary(sides, tokenizer, tokenizer_b)
    corpus = build_corpus(
        {"model_a": model_a, "model_b": model_b},
        tokenizer,
        token_ids_or_texts,
        Cutting(context, chunking, prepend_bos, skip_positions, max_tokens),
        "token_ids_or_texts",
    )
    for side in sides:
        warn_of_another_site(
            "ablation_effects", f"sae_{side.name}", side.sae, side.model, side.layer
        )
    with (
        borrowed(model_a, device) as device_a,
        borrowed(model_b, device) as device_b,
        progress_bar(1, "ablation effects", progress) as bar,
    ):
        places = {"a": device_a, "b": device_b}
        for side in sides:
            check_reading(
                side.model, side.blocks, [side.layer], corpus.sequences, places[side.name],
                names=(f"model_{side.name}", f"layer_{side.name}"),
            )  # fmt: skip
        in_a, in_b = (
            _Running(side, corpus, vocabulary, batch_size, places[side.name]) for side in sides
        )
        compared = _chosen(latents, in_a.counts, min_count, seed)
        found = _Comparison(len(compared))
        bar.reset(total=len(compared))
        # Neighbours in this order fire about equally often: each is the next one's control.
        order = np.argsort(-in_a.counts[compared], kind="stable")
        before = first = torch.empty(0, 0)
        for at, number in enumerate(order):
            latent = int(compared[number])
            rows = _spread(in_a.rows(latent), positions)
            change_a = in_a.changes(latent, rows)
            change_b = in_b.changes(int(partners[latent]), rows)
            found.add(number, change_a, change_b)
            if at == 0:
                first = change_a
            else:
                found.control[number] = _correlation(change_a, before)
            before = change_b
            bar.update(1)
        if len(order) > 1:
            found.control[order[0]] = _correlation(first, before)
    return AblationEffects(
        compared,
        partners[compared],
        found.correlation,
        found.control,
        found.effect_a,
        found.effect_b,
        found.positions,
    )


class _Comparison:
    """Numbers of each latent, as they come."""

    def __init__(self, count: int) -> None:
        self.correlation, self.control, self.effect_a, self.effect_b = (
            np.full(count, np.nan) for _ in range(4)
        )
        self.positions = np.zeros(count, np.int64)

    def add(self, number: Any, in_a: Tensor, in_b: Tensor) -> None:
        self.correlation[number] = _correlation(in_a, in_b)
        self.effect_a[number] = float(in_a.square().mean().sqrt())
        self.effect_b[number] = float(in_b.square().mean().sqrt())
        self.positions[number] = len(in_a)


class _Running:
    """A model at work: where the latents of its SAE fire, and what taking one out changes."""

    def __init__(
        self, side: _Side, corpus: Corpus, vocabulary: int, batch_size: int, where: torch.device
    ) -> None:
        self._side, self._corpus, self._where = side, corpus, where
        self._vocabulary, self._batch_size = vocabulary, batch_size
        #: Sequence and position of each counted row.
        self._places: list[tuple[int, int]] = []
        indices: list[Int64] = []
        values: list[npt.NDArray[np.float32]] = []
        owners: list[Int64] = []
        done = 0
        for batch in batches(corpus, batch_size, where):
            streams = read_layers(
                side.model, side.blocks, [side.layer], batch.ids, batch.mask, batch.kept
            )
            rows = streams[side.layer].float().cpu().numpy()
            sequences, positions = (x.cpu().numpy() for x in batch.kept.nonzero(as_tuple=True))
            first = len(self._places)
            self._places += zip((sequences + done).tolist(), positions.tolist(), strict=True)
            done += len(batch.ids)
            if len(rows):
                codes = side.sae.encode(np.ascontiguousarray(rows), progress=False)
                used = codes.indices >= 0
                indices.append(codes.indices[used].astype(np.int64))
                values.append(codes.values[used])
                owners.append(first + used.nonzero()[0])
        latents, active = np.concatenate(indices), np.concatenate(values)
        order = np.argsort(latents, kind="stable")
        self._rows, self._values = np.concatenate(owners)[order], active[order]
        self.counts = np.bincount(latents, minlength=side.sae.d_sae)
        self._starts = np.concatenate([[0], np.cumsum(self.counts)])

    def rows(self, latent: int) -> Int64:
        """Rows on which a latent fires, ascending."""
        found: Int64 = self._rows[self._starts[latent] : self._starts[latent + 1]]
        return found

    def changes(self, latent: int, rows: Int64) -> Tensor:
        """(rows, vocabulary): changes of the next token's log-probabilities, about their mean over
        the vocabulary, where a latent is taken out on each of these rows alone; -1 is none."""
        changes = torch.zeros(len(rows), self._vocabulary, dtype=torch.float64)
        if latent < 0:
            return changes
        _, fires, mine = np.intersect1d(rows, self.rows(latent), return_indices=True)
        active = self._values[self._starts[latent] + mine]
        for start in range(0, len(fires), self._batch_size):
            part = slice(start, start + self._batch_size)
            places = [self._places[row] for row in rows[fires[part]]]
            taken = torch.from_numpy(active[part])[:, None] * self._side.directions[latent]
            difference = self._difference(places, taken)
            changes[torch.from_numpy(fires[part])] = difference - difference.mean(1, keepdim=True)
        return changes

    def _difference(self, places: Sequence[tuple[int, int]], taken: Tensor) -> Tensor:
        """Of the log-probabilities at each place, when a vector is taken from the stream there."""
        side = self._side
        # What comes after a place cannot be seen from there.
        ids, mask = _prefixes(self._corpus, places, self._where)
        each = torch.arange(len(places))
        at = torch.tensor([position for _, position in places])

        def without(stream: Tensor) -> Tensor:
            kind = torch.promote_types(stream.dtype, torch.float32)
            new = stream.clone()
            new[each, at] = (stream[each, at].to(kind) - taken.to(stream.device, kind)).to(stream)
            return new

        def log_probabilities() -> Tensor:
            logits = getattr(run(side.model, ids, mask), "logits", None)
            if not isinstance(logits, Tensor):
                raise TypeError(
                    f"model_{side.name}: {type(side.model).__name__} gives no logits, expected a "
                    "model with a language-model head"
                )
            found = logits[each, at, : self._vocabulary].double().cpu()
            if not torch.isfinite(found).all():
                raise ValueError(
                    f"model_{side.name}: logits that are not finite, expected finite ones"
                )
            return found.log_softmax(dim=1)

        clean = log_probabilities()
        with residual_hooks(side.blocks, {side.layer: without}):
            return log_probabilities() - clean


def _side(name: str, model: nn.Module, layer: Any, sae: Any) -> _Side:
    number = check_layer(f"layer_{name}", layer, find_blocks(model, f"model_{name}"))
    return _Side(name, model, number, sae, directions_of(sae, model, f"sae_{name}"))


def _partners(latents_b: Any, sae_a: SAE, sae_b: SAE) -> Int64:
    if latents_b is None:
        if sae_a.d_sae != sae_b.d_sae:
            raise ValueError(
                f"sae_b: d_sae = {sae_b.d_sae}, expected {sae_a.d_sae} as sae_a, or latents_b: "
                "which latent of B goes with each of A"
            )
        return np.arange(sae_a.d_sae)
    found = whole_numbers("latents_b", latents_b)
    if len(found) != sae_a.d_sae:
        raise ValueError(
            f"latents_b: {len(found)} elements, expected {sae_a.d_sae}, one for each latent of "
            "sae_a"
        )
    wrong = (found < -1) | (found >= sae_b.d_sae)
    if wrong.any():
        at = int(np.argmax(wrong))
        raise ValueError(
            f"latents_b[{at}]: {found[at]}, expected -1 to {sae_b.d_sae - 1}, the latents of sae_b"
        )
    return found


def _vocabulary(sides: Sequence[_Side], tokenizer: Any, tokenizer_b: Any) -> int:
    """How many tokens both models know by the same ids."""
    reason = "changes of log-probabilities are compared token by token, over one vocabulary"
    if tokenizer_b is not None and tokenizer_b is not tokenizer:
        if tokenizer is None:
            raise ValueError("tokenizer: None, expected A's tokenizer beside tokenizer_b")
        words, words_b = tokenizer.get_vocab(), tokenizer_b.get_vocab()
        if words != words_b:
            alike = sum(words_b.get(word) == number for word, number in words.items())
            raise ValueError(
                f"tokenizer_b: {len(words_b)} tokens, of which {alike} are those of tokenizer with "
                f"the same id, expected all {len(words)} to be: {reason}"
            )
    sizes = {side.name: int(text_config(side.model).vocab_size) for side in sides}
    if tokenizer is None:
        if sizes["a"] != sizes["b"]:
            raise ValueError(
                f"model_b: a vocabulary of {sizes['b']} tokens, expected {sizes['a']} as model_a, "
                f"or the tokenizer of both: {reason}"
            )
        return sizes["a"]
    known = len(tokenizer)
    for name, size in sizes.items():
        if size < known:
            raise ValueError(
                f"model_{name}: a vocabulary of {size} tokens, expected at least the {known} of "
                f"tokenizer: {reason}"
            )
    return known


def _chosen(latents: Any, counts: Int64, min_count: int, seed: int) -> Int64:
    """The latents of A to compare, ascending where they are drawn."""
    if isinstance(latents, (int, np.integer)) and not isinstance(latents, bool):
        check_count("latents", latents, 1)
        frequent = np.flatnonzero(counts >= min_count)
        if not len(frequent):
            raise ValueError(
                f"min_count: {min_count}, expected at most {counts.max()}, how often the "
                "most frequent latent of sae_a fires on these texts"
            )
        drawn = np.random.default_rng(seed).choice(
            frequent, min(int(latents), len(frequent)), replace=False
        )
        return np.sort(drawn)
    found = whole_numbers("latents", latents)
    if not len(found):
        raise ValueError("latents: empty, expected at least one latent of sae_a, or how many")
    for at, latent in enumerate(found):
        if not 0 <= latent < len(counts):
            raise ValueError(
                f"latents[{at}]: {latent}, expected 0 to {len(counts) - 1}, the latents of sae_a"
            )
        if not counts[latent]:
            raise ValueError(
                f"latents[{at}]: {latent}, which never fires on these texts, expected latents of "
                "sae_a that do"
            )
    return found


def _spread(rows: Int64, most: int) -> Int64:
    """At most so many of them, evenly."""
    if len(rows) <= most:
        return rows
    return rows[np.arange(most) * len(rows) // most]


def _prefixes(
    corpus: Corpus, places: Sequence[tuple[int, int]], where: torch.device
) -> tuple[Tensor, Tensor]:
    """Right-padded sequences up to each place, and their attention mask."""
    shape = (len(places), max(position for _, position in places) + 1)
    ids, mask = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    for row, (sequence, position) in enumerate(places):
        ids[row, : position + 1] = corpus.windows[sequence].ids[: position + 1]
        mask[row, : position + 1] = 1
    return torch.from_numpy(ids).to(where), torch.from_numpy(mask).to(where)


def _correlation(in_a: Tensor, in_b: Tensor) -> float:
    """Pearson's, of changes about their means; of the first rows where one side has fewer."""
    count = min(len(in_a), len(in_b))
    a, b = in_a[:count], in_b[:count]
    size = float(a.square().sum().sqrt() * b.square().sum().sqrt())
    return float((a * b).sum()) / size if size else math.nan


def _quartiles(values: Float64) -> Quartiles:
    if not len(values):
        return Quartiles(math.nan, math.nan, math.nan)
    lower, median, upper = np.quantile(values, [0.25, 0.5, 0.75]).tolist()
    return Quartiles(lower, median, upper)
