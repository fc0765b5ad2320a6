# SPDX-License-Identifier: Apache-2.0
"""Fig. 5a: null-space fraction against the largest activation."""

from __future__ import annotations

from typing import Any

import matplotlib
import numpy as np

from suture.report.drawing import AMBER, BLUE, INK, STYLE, TEAL, figure, svg


def draw(result: dict[str, Any]) -> dict[str, str]:
    """Fig. 5a."""
    with matplotlib.rc_context(STYLE):
        return {"Fig. 5a": scatter(result)}


def scatter(result: dict[str, Any]) -> str:
    """Every feature in A and in B; those with the largest fractions in A marked in both."""
    drawing = figure(3.3)
    axes = drawing.subplots(1, 2, sharey=True)
    marked = np.array(result["strongest"]["places"])
    for place, (side, title, color) in enumerate(
        (("a", "original, A", BLUE), ("b", "transferred, B", TEAL))
    ):
        x, y = np.array(result["fraction"][side]), np.array(result["maximum"][side])
        # As an image: thousands of dots are slow as vectors.
        axes[place].scatter(x, y, s=5, color=color, alpha=0.3, linewidths=0, rasterized=True)
        axes[place].scatter(
            x[marked], y[marked], s=22, facecolors="none", edgecolors=INK, linewidths=0.9,
            label=f"the {len(marked)} largest fractions in A" if place == 0 else None,
        )  # fmt: skip
        chance = result["null_space"][side]["largest_by_chance"]
        axes[place].axvline(
            chance, color=AMBER, linewidth=1.2, linestyle="--",
            label="largest of random directions" if place == 0 else None,
        )  # fmt: skip
        axes[place].set_title(title, fontsize=11)
        axes[place].set_xlabel("null-space fraction")
        axes[place].set_xlim(left=0)
    axes[0].set_ylabel("largest activation")
    axes[0].set_ylim(bottom=0)
    drawing.legend(frameon=False, loc="outside upper center", ncols=2, fontsize=10)
    return svg(drawing, "Null-space fraction against largest activation, before and after transfer")
