# SPDX-License-Identifier: Apache-2.0
"""What the curves of the experiment say: costs to reach a level, frontiers, lines, cosines."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["cosines", "cost_to_reach", "frontier", "power_law", "saved", "spread"]

Floats = Sequence[float] | npt.NDArray[np.float64]


def cost_to_reach(costs: Floats, levels: Floats, level: float) -> float | None:
    """The cost at which a curve first reaches a level, linear between its points; None: never.

    Args:
        costs: (n,) rising.
        levels: (n,) the curve.
        level: what is to be reached.

    >>> cost_to_reach([0, 10, 20], [0.0, 0.5, 0.7], 0.6), cost_to_reach([5, 6], [0.7, 0.8], 0.6)
    (15.0, 5.0)
    """
    above = np.flatnonzero(np.asarray(levels) >= level)
    if not len(above):
        return None
    at = int(above[0])
    if at == 0:
        return float(costs[0])
    share = (level - levels[at - 1]) / (levels[at] - levels[at - 1])
    return float(costs[at - 1] + share * (costs[at] - costs[at - 1]))


def saved(cost: float | None, reference: float | None) -> float | None:
    """Share of a reference cost that a cost saves; negative where it is higher.

    >>> saved(25, 100), saved(None, 100)
    (0.75, None)
    """
    return None if cost is None or not reference else 1 - cost / reference


def frontier(costs: Floats, values: Floats) -> tuple[list[float], list[float]]:
    """The points that no cheaper point equals or undercuts, in order of their cost.

    >>> frontier([3, 1, 2, 4], [0.2, 0.5, 0.6, 0.3])
    ([1.0, 3.0], [0.5, 0.2])
    """
    least = float("inf")
    kept: list[tuple[float, float]] = []
    for cost, value in sorted(zip(map(float, costs), map(float, values), strict=True)):
        if value < least:
            least = value
            kept.append((cost, value))
    return [cost for cost, _ in kept], [value for _, value in kept]


def power_law(costs: Floats, values: Floats) -> tuple[float, float]:
    """`(A, beta)` of `value = A cost^-beta`, by least squares in the logarithms (Table 4).

    Args:
        costs, values: (n,) above 0; at least two costs.

    >>> A, beta = power_law([1, 4, 16], [8, 4, 2])
    >>> round(A, 6), round(beta, 6)
    (8.0, 0.5)
    """
    x, y = np.log(np.asarray(costs, float)), np.log(np.asarray(values, float))
    slope = float(((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum())
    return float(np.exp(y.mean() - slope * x.mean())), -slope


def cosines(
    end: npt.NDArray[np.float32], start: npt.NDArray[np.float32], kept: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float64]:
    """Cosine of each row to its start (Fig. 2b).

    Args:
        end, start: (d_sae, d_in) decoders.
        kept: (d_sae,) the rows to look at: those of latents that are not dead.

    Returns:
        One cosine for each kept row; rows of norm 0 give 0.

    >>> eye = np.eye(2, dtype=np.float32)
    >>> cosines(eye, 3 * eye[::-1], np.array([True, False])).tolist()
    [0.0]
    """
    a, b = end[kept].astype(np.float64), start[kept].astype(np.float64)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    found: npt.NDArray[np.float64] = (a * b).sum(axis=1) / np.where(norms > 0, norms, 1)
    return found


def spread(values: Sequence[float | None]) -> dict[str, float] | None:
    """Median, least and greatest; None where a value is missing.

    >>> spread([3.0, 1.0, 2.0])
    {'median': 2.0, 'min': 1.0, 'max': 3.0}
    """
    known = [value for value in values if value is not None]
    if len(known) < len(values) or not known:
        return None
    return {"median": statistics.median(known), "min": min(known), "max": max(known)}
