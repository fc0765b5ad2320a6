# SPDX-License-Identifier: Apache-2.0
"""Which features to look at, out of thousands."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def pick_features(
    fired: npt.NDArray[np.float64],
    count: int,
    *,
    correlation: Floats | None = None,
    structural: Floats | None = None,
    least: float = 0.0,
    seed: int = 0,
) -> list[tuple[int, str]]:
    """`count` features in groups of about equal size, and the group of each: those with the highest
    and the lowest attribution correlation, the most structural and the most frequent ones, and some
    drawn at random; each group without what is in one before it.

    Args:
        fired: (d_sae,) how often each is active; what is not above `least` is left out.
        count: how many.
        correlation, structural: (d_sae,), where known; NaN is left out of its groups.
        seed: of the random ones.
    """
    orders: list[tuple[str, Floats]] = []
    if correlation is not None:
        orders.append(("highest attribution correlation", correlation))
        orders.append(("lowest attribution correlation", -correlation))
    if structural is not None:
        orders.append(("most structural", structural))
    orders.append(("most frequent", fired))
    drawn = np.random.default_rng(seed).random(len(fired))
    orders.append(("drawn at random", drawn))
    taken: dict[int, str] = {}
    for place, (note, values) in enumerate(orders):
        share = (count - len(taken)) // (len(orders) - place)
        usable = np.where((fired > least) & np.isfinite(values), values, -np.inf)
        for feature in np.argsort(-usable, kind="stable").tolist():
            if share == 0 or usable[feature] == -np.inf:
                break
            if feature not in taken:
                taken[feature] = note
                share -= 1
    return list(taken.items())
