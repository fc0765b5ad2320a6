# SPDX-License-Identifier: Apache-2.0
"""What a fit reports: the terms of its objective, and warnings."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from .norms import RowReport

__all__ = ["FitReport", "Objective", "SutureWarning"]

WARNINGS = {
    1: "rank deficient: a covariance has not full rank (few tokens, or dead coordinates); a "
    "ridge of {ridge_a:.3g} was added",
    2: "not converged: max_iterations was reached before the tolerance",
    4: "few tokens: fewer than ten per dimension, so the held-out error will be well above the "
    "fitted one",
    8: "unlike scales: coordinates of {larger} are {ratio:.3g} times as large as those of "
    "{smaller} (roots of the mean variances), so that the raw objective hardly hears {smaller}; "
    "objective='scaled' weighs both alike",
    16: "{few_rows}",
}


class SutureWarning(UserWarning):
    """A result is usable, but less good than it could be.

    >>> import suture
    >>> issubclass(suture.SutureWarning, UserWarning)
    True
    """


@dataclass(frozen=True)
class Objective:
    """The terms of the stitching objective (arXiv 2506.06609, eq. 2-3): mean squared errors over
    tokens and coordinates, and what they are as shares of the variance.

    Attributes:
        alpha: weight of the two inversion terms.
        up: MSE(up(h_A), h_B).
        down: MSE(down(h_B), h_A).
        a_round_trip: MSE(down(up(h_A)), h_A), before the factor alpha.
        b_round_trip: MSE(up(down(h_B)), h_B), before the factor alpha.
        total: up + down + alpha * (a_round_trip + b_round_trip), the paper's objective: what a fit
            with objective="raw" minimises.
        scaled_total: the same sum of unexplained shares of variance, that is of each term divided
            by the variance of its stream: what a fit with objective="scaled" minimises.
        up_explained_variance: share of h_B's variance that up(h_A) explains.
        down_explained_variance: share of h_A's variance that down(h_B) explains.
        a_round_trip_explained_variance: share of h_A's variance that comes back through B.
        b_round_trip_explained_variance: share of h_B's variance that comes back through A.
        variance_a, variance_b: mean variance per coordinate of the two streams, in these rows.
        tokens: rows that the figures rest on.
    """

    alpha: float
    up: float
    down: float
    a_round_trip: float
    b_round_trip: float
    total: float
    scaled_total: float
    up_explained_variance: float
    down_explained_variance: float
    a_round_trip_explained_variance: float
    b_round_trip_explained_variance: float
    variance_a: float
    variance_b: float
    tokens: int


@dataclass(frozen=True)
class FitReport:
    """What a fit did.

    Attributes:
        before: objective of the least-squares start (the solution for alpha = 0).
        after: objective at the end; both on the fitted rows. The same for method="ridge" and
            "procrustes", which take no steps.
        gradient_norm: norm of the gradient at the end, relative to that at P = 0.
        ridge_a, ridge_b: ridges that were added to the covariance of A (for the way up) and of B
            (for the way down), relative to their mean diagonals.
        iterations: steps taken.
        converged: whether the tolerance was reached.
        rank_a, rank_b: numerical ranks of the covariances.
        rows: which rows counted, and how their norms are spread (`RowReport`).
        warnings: sentences, also issued as `SutureWarning`.
        seconds: time it took, without gathering the moments.
    """

    before: Objective
    after: Objective
    gradient_norm: float
    ridge_a: float
    ridge_b: float
    iterations: int
    converged: bool
    rank_a: int
    rank_b: int
    rows: RowReport
    warnings: tuple[str, ...]
    seconds: float


def fit_report(values: dict[str, Any], rows: RowReport, names: dict[str, str]) -> FitReport:
    """The report of the core as a record; `names` are what the caller calls h_a and h_b."""
    after = Objective(**values["after"])
    roots = {"h_a": math.sqrt(after.variance_a), "h_b": math.sqrt(after.variance_b)}
    smaller, larger = sorted(roots, key=roots.__getitem__)
    details = {
        "ridge_a": values["ridge_a"],
        "smaller": smaller,
        "larger": larger,
        "ratio": roots[larger] / roots[smaller] if roots[smaller] else math.inf,
        "few_rows": rows.warning(),
    }
    found = [text for bit, text in WARNINGS.items() if values["warnings"] & bit]
    return FitReport(
        **values
        | {
            "before": Objective(**values["before"]),
            "after": after,
            "rows": rows,
            "warnings": tuple(
                re.sub(r"\bh_[ab]\b", lambda side: names.get(side[0], side[0]), text)
                for text in (text.format(**details) for text in found)
            ),
        }
    )
