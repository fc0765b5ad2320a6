# SPDX-License-Identifier: Apache-2.0
"""Figures of structural and semantic features."""

from __future__ import annotations

from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt

from suture.report.drawing import AMBER, BLUE, STYLE, figure, svg

COLORS = {"structural": BLUE, "semantic": AMBER}


def draw(result: dict[str, Any]) -> dict[str, str]:
    """Fig. 4b and Fig. 15."""
    return {
        "Fig. 4b": densities(result["up"], "SAE of A, moved to B"),
        "Fig. 15": densities(result["down"], "SAE of B, moved to A"),
    }


def densities(found: dict[str, Any], title: str) -> str:
    """Attribution correlations of structural and of semantic features, with their medians."""
    least = min((min(values, default=0.0) for values in found["values"].values()), default=0.0)
    places = np.linspace(min(-0.2, least), 1.0, 301)
    with matplotlib.rc_context(STYLE):
        drawing = figure(3.2)
        axes = drawing.subplots()
        for kind, color in COLORS.items():
            values = np.array(found["values"][kind])
            label = f"{kind} ({len(values):,})"
            height = density(values, places)
            axes.plot(places, height, color=color, linewidth=2, label=label)
            axes.fill_between(places, height, color=color, alpha=0.15, linewidth=0)
            if len(values):
                axes.axvline(np.median(values), color=color, linewidth=1.2, linestyle=(0, (4, 3)))
        axes.set_xlabel("attribution correlation")
        axes.set_ylabel("density of features")
        axes.set_title(title, fontsize=11)
        axes.set_xlim(places[0], places[-1])
        axes.set_ylim(bottom=0)
        axes.locator_params(axis="y", nbins=4)
        drawing.legend(frameon=False, loc="outside upper center", ncols=2, fontsize=10)
        return svg(
            drawing,
            "Densities of attribution correlation for structural and semantic features, medians "
            "dashed",
        )


def density(
    values: npt.NDArray[np.float64], places: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Gaussian kernels of Scott's width; what would lie beyond 1 is folded back."""
    if len(values) < 2 or values.std() == 0:
        return np.zeros(len(places))
    width = values.std() * len(values) ** -0.2
    total = np.zeros(len(places))
    for mirrored in (values, 2 - values):
        steps = (places[:, None] - mirrored[None, :]) / width
        total += np.exp(-0.5 * steps**2).sum(axis=1)
    found: npt.NDArray[np.float64] = total / (len(values) * width * np.sqrt(2 * np.pi))
    return found
