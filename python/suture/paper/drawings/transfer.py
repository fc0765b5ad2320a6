# SPDX-License-Identifier: Apache-2.0
"""Figures of section 3's transfer without training."""

from __future__ import annotations

from typing import Any

import matplotlib

from suture.paper.experiments.transfer import BY_METHOD
from suture.report import figures
from suture.report.drawing import AMBER, BLUE, INK, STYLE, TEAL, figure, svg

#: Of the ways of moving a SAE, in their order, with short names.
COLORS = (AMBER, BLUE, TEAL)
SHORT = {"stitch": "stitch", "refit": "refitted", "pairs": "pairs"}


def draw(result: dict[str, Any]) -> dict[str, str]:
    """Table 2 as bars, and the ways of moving beside each other."""
    return {
        "Table 2": figures.transfer(result["rows"]),
        BY_METHOD: by_method(result["methods"]),
    }


def by_method(rows: list[dict[str, Any]]) -> str:
    """Variance unexplained, added loss, and correlations with their quartiles."""
    names = [SHORT[row["method"]] for row in rows]
    with matplotlib.rc_context(STYLE):
        drawing = figure(3.0)
        panels = drawing.subplots(1, 3)
        for axes, key, title in (
            (panels[0], "fvu", "variance\nunexplained"),
            (panels[1], "delta_loss", "added loss\n(nats)"),
        ):
            values = [row[key] for row in rows]
            bars = axes.bar(names, values, color=COLORS, width=0.7)
            axes.bar_label(bars, [f"{value:.2f}" for value in values], padding=3, fontsize=10)
            axes.set_title(title, fontsize=11)
            axes.set_ylim(min(0.0, *values), 1.2 * max(*values, 1e-3))
        axes = panels[2]
        middle = [row["correlation"][1] for row in rows]
        bars = axes.bar(names, middle, color=COLORS, width=0.7)
        reach = [
            [row["correlation"][1] - row["correlation"][0] for row in rows],
            [row["correlation"][2] - row["correlation"][1] for row in rows],
        ]
        axes.errorbar(names, middle, reach, fmt="none", ecolor=INK, elinewidth=1, capsize=3)
        for place, row in enumerate(rows):
            axes.annotate(
                f"{row['correlation'][1]:.2f}", (place, row["correlation"][2]), (0, 4),
                textcoords="offset points", ha="center", fontsize=10,
            )  # fmt: skip
        axes.set_title("correlation with A\n(median, quartiles)", fontsize=11)
        axes.set_ylim(0, 1)
        for axes in panels:
            axes.tick_params(axis="x", rotation=35, length=0)
            axes.set_yticks([])
            axes.spines["left"].set_visible(False)
        return svg(drawing, "Bars comparing SAEs moved by stitch, refitted, and by pairs")
