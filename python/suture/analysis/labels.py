# SPDX-License-Identifier: Apache-2.0
"""Whether what a feature was called in one model still describes it in another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .._arguments import instance
from .statistics import FeatureStatistics

__all__ = ["LabelOverlap", "label_overlap"]

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class LabelOverlap:
    """How many of a feature's top examples in A are its top examples in B.

    Attributes:
        count: examples of each feature.
        overlap: (d_sae,) share of A's top examples that are among B's; NaN for a feature that fires
            on fewer than `count` rows of A and so is not judged. A feature that is silent in B has
            0, so that dropping features never helps.
        control: (d_sae,) the same with B's examples of another feature, the next one in the order
            of how often judged features fire in A; NaN where there is no other.

    >>> import numpy as np
    >>> LabelOverlap(20, np.array([0.5, 0.1, np.nan]), np.zeros(3))
    LabelOverlap(2 features judged by 20 examples: mean overlap 0.30, 50 % at least half)
    """

    count: int
    overlap: Float64
    control: Float64

    @property
    def judged(self) -> int:
        """Features that fire often enough in A."""
        return int(np.isfinite(self.overlap).sum())

    @property
    def mean(self) -> float:
        """Mean overlap of judged features; NaN if there are none."""
        return _mean(self.overlap)

    @property
    def share_kept(self) -> float:
        """Share of judged features with an overlap of half or more; NaN if there are none."""
        return _mean(np.where(np.isnan(self.overlap), np.nan, self.overlap >= 0.5))

    @property
    def control_mean(self) -> float:
        """Mean overlap with another feature's examples."""
        return _mean(self.control)

    @property
    def control_share(self) -> float:
        """Share of judged features whose examples overlap with another's by at least half."""
        return _mean(np.where(np.isnan(self.control), np.nan, self.control >= 0.5))

    def __repr__(self) -> str:
        return (
            f"LabelOverlap({self.judged} features judged by {self.count} examples: mean overlap "
            f"{self.mean:.2f}, {self.share_kept:.0%} at least half)"
        ).replace("%", " %")


def label_overlap(statistics_a: FeatureStatistics, statistics_b: FeatureStatistics) -> LabelOverlap:
    """Whether features keep their labels: a label is read off the contexts in which a feature is
    most active, and holds in B if B's feature is most active in the same contexts.

    Examples are compared by the number of their row, so both sides must have seen paired rows: row
    i of A and row i of B are of the same token. Where a text repeats, its copies are different
    examples.

    Args:
        statistics_a: of the SAE on A, on held-out rows; its `top` is how many examples count.
        statistics_b: of what was moved of it to B, with as many features, on the rows of B that
            belong to those, with the same `top`.

    Returns:
        LabelOverlap: of each feature, with a control.

    Raises:
        TypeError, ValueError: naming the argument, its value and what was expected.

    >>> import suture
    >>> codes = suture.SparseCodes([[0], [1], [0], [0]], [[1.0], [4.0], [3.0], [2.0]], d_sae=2)
    >>> other = suture.SparseCodes([[0], [1], [1], [0]], [[1.0], [4.0], [3.0], [2.0]], d_sae=2)
    >>> a, b = (suture.analysis.FeatureStatistics(2, top=2).update(c) for c in (codes, other))
    >>> suture.analysis.label_overlap(a, b).overlap.tolist()
    [0.5, nan]
    """
    instance("statistics_a", statistics_a, FeatureStatistics, "FeatureStatistics")
    instance("statistics_b", statistics_b, FeatureStatistics, "FeatureStatistics")
    for name, what in (("d_sae", "features"), ("top", "examples"), ("tokens", "rows")):
        given, wanted = getattr(statistics_b, name), getattr(statistics_a, name)
        if given != wanted:
            raise ValueError(
                f"statistics_b has {name} = {given}, expected {wanted} as statistics_a: {what} of "
                "both are compared one by one"
            )
    if statistics_a.top == 0:
        raise ValueError("statistics_a has top = 0, expected at least 1 example of each feature")
    if statistics_a.tokens == 0:
        raise ValueError("statistics_a has tokens = 0, expected at least 1 row")
    rows_a, rows_b = statistics_a.example_rows, statistics_b.example_rows
    judged = np.flatnonzero(rows_a[:, -1] >= 0)
    order = judged[np.argsort(statistics_a.frequency[judged], kind="stable")]
    others = np.roll(order, -1)
    if len(order) > 1:
        # The most frequent one has none after it.
        others[-1] = order[-2]
    tokens = statistics_a.tokens
    overlap, control = (np.full(statistics_a.d_sae, np.nan) for _ in range(2))
    overlap[order] = _shared(rows_a[order], rows_b[order], tokens)
    if len(order) > 1:
        control[order] = _shared(rows_a[order], rows_b[others], tokens)
    return LabelOverlap(statistics_a.top, overlap, control)


def _shared(rows_a: Int64, rows_b: Int64, tokens: int) -> Float64:
    """Of each line of `rows_a` the share that is in the same line of `rows_b`; -1 is no row."""
    line = np.arange(len(rows_a))[:, None] * tokens
    found: Float64 = np.isin(rows_a + line, (rows_b + line)[rows_b >= 0]).mean(axis=1)
    return found


def _mean(values: Float64) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")
