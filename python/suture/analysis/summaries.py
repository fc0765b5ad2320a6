# SPDX-License-Identifier: Apache-2.0
"""All that is known of a feature in one place, in one model or in two."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from .._arguments import instance, whole_numbers
from .._inputs import Array
from .._progress import Progress
from ..activations import Activations
from ..sae import SAE
from .examples import Example, _layer, feature_examples, token_texts
from .logits import logit_weights
from .statistics import FeatureStatistics, feature_statistics

__all__ = ["FeaturePair", "FeatureSummary", "summarise_features"]


@dataclass(frozen=True)
class FeatureSummary:
    """One feature of one SAE.

    Attributes:
        feature: its number.
        frequency: share of the tokens it is active on.
        mean: mean activation over those, NaN if there are none.
        maximum: largest activation.
        promoted: tokens with the largest logit weights, and those weights.
        suppressed: tokens with the smallest.
        examples: where it is most active, strongest first.
        null_space_fraction: of its decoder row, where known.
    """

    feature: int
    frequency: float
    mean: float
    maximum: float
    promoted: list[tuple[str, float]] = field(default_factory=list)
    suppressed: list[tuple[str, float]] = field(default_factory=list)
    examples: list[Example] = field(default_factory=list)
    null_space_fraction: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """For JSON; what is undefined is None.

        >>> FeatureSummary(3, 0.0, float("nan"), 0.0).to_dict()["mean"] is None
        True
        """
        return {name: _plain(value) for name, value in asdict(self).items()}


@dataclass(frozen=True)
class FeaturePair:
    """One feature before and after a transfer, or in one model only.

    Attributes:
        original: in the model it was trained on.
        transferred: in the other one.
        attribution_correlation: of the two, where known.
        structural_score: of the original, where known.
        note: why it was chosen, say.
    """

    original: FeatureSummary
    transferred: FeatureSummary | None = None
    attribution_correlation: float | None = None
    structural_score: float | None = None
    note: str = ""

    @property
    def feature(self) -> int:
        """Number of the feature."""
        return self.original.feature

    def to_dict(self) -> dict[str, Any]:
        """For JSON; what is undefined is None.

        >>> FeaturePair(FeatureSummary(3, 0.0, 0.0, 0.0)).to_dict()["transferred"] is None
        True
        """
        return {name: _plain(value) for name, value in asdict(self).items()}


def summarise_features(
    sae: SAE,
    acts: Activations,
    features: npt.ArrayLike,
    W_U: Array,
    tokenizer: Any,
    *,
    layer: int | None = None,
    statistics: FeatureStatistics | None = None,
    null_space: npt.ArrayLike | None = None,
    words: int = 10,
    count: int = 8,
    before: int = 16,
    after: int = 6,
    progress: Progress = True,
) -> list[FeatureSummary]:
    """Summaries of some features of a SAE.

    Args:
        sae: the SAE.
        acts: activations with token ids, positions and sequence numbers.
        features: (n,) which features.
        W_U: (d, vocabulary): see `suture.models.unembedding`.
        tokenizer: a transformers tokenizer.
        layer: of `acts`; None: the only one.
        statistics: of `sae` on `acts`, where they have been made before; keep several times as many
            examples as `count`, of which those with the same text are shown once.
        null_space: (d_sae,) null-space fractions of all features, where known.
        words: promoted and suppressed tokens of each.
        count, before, after: as for `feature_examples`.

    Returns:
        A summary for each of `features`, in that order.

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
    >>> [summary] = suture.analysis.summarise_features(
    ...     sae, acts, [1], 2 * np.eye(3), Letters(), words=1
    ... )
    >>> summary.frequency, summary.promoted, summary.examples[0].tokens
    (0.3333333333333333, [('b', 2.0)], ['a', 'b', 'c'])
    """
    instance("sae", sae, SAE, "suture.SAE")
    instance("acts", acts, Activations, "suture.Activations")
    wanted = whole_numbers("features", features)
    beyond = wanted[(wanted < 0) | (wanted >= sae.d_sae)]
    if len(beyond) or not len(wanted):
        shown = beyond[0] if len(beyond) else "nothing"
        raise ValueError(f"features has {shown}, expected some of 0 to {sae.d_sae - 1}")
    if statistics is None:
        blocks = acts.shards(_layer(acts, layer))
        statistics = feature_statistics(sae, blocks, 8 * count, progress=progress)
    instance("statistics", statistics, FeatureStatistics, "FeatureStatistics")
    if statistics.d_sae != sae.d_sae:
        raise ValueError(f"statistics has d_sae = {statistics.d_sae}, expected {sae.d_sae}")
    fractions = None if null_space is None else np.asarray(null_space, np.float64)
    if fractions is not None and fractions.shape != (sae.d_sae,):
        raise ValueError(f"null_space has shape {fractions.shape}, expected ({sae.d_sae},)")
    weights = logit_weights(np.ascontiguousarray(sae.W_dec[wanted]), W_U, words, progress=progress)
    examples = feature_examples(
        sae, acts, wanted, statistics.example_rows[wanted], tokenizer, layer=layer, count=count,
        before=before, after=after,
    )  # fmt: skip
    frequency, mean, maximum = statistics.frequency, statistics.mean, statistics.maximum

    def spelt(tokens: npt.NDArray[np.int32], values: npt.NDArray[np.float32]) -> Any:
        return list(zip(token_texts(tokenizer, tokens), map(float, values), strict=True))

    return [
        FeatureSummary(
            feature=number,
            frequency=float(frequency[number]),
            mean=float(mean[number]),
            maximum=float(maximum[number]),
            promoted=spelt(weights.up_tokens[place], weights.up_values[place]),
            suppressed=spelt(weights.down_tokens[place], weights.down_values[place]),
            examples=examples[place],
            null_space_fraction=None if fractions is None else float(fractions[number]),
        )
        for place, number in enumerate(wanted.tolist())
    ]


def _plain(value: Any) -> Any:
    """NaN and infinity as None, which JSON has no words for."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
