# SPDX-License-Identifier: Apache-2.0
"""Fig. 4a and 14: attribution correlations."""

from __future__ import annotations

from typing import Any

import matplotlib
import numpy as np

from suture.paper.experiments.attribution import BY_METHOD, label
from suture.paper.moved import METHODS
from suture.report.drawing import AMBER, BLUE, GREY, INK, STYLE, TEAL, figure, svg


def draw(result: dict[str, Any]) -> dict[str, str]:
    """Fig. 4a and Fig. 14."""
    with matplotlib.rc_context(STYLE):
        return {
            "Fig. 4a": trained(result),
            "Fig. 14": against_random(result),
            BY_METHOD: by_method(result),
        }


def trained(result: dict[str, Any]) -> str:
    """Histograms of the trained SAEs, one above the other."""
    saes = result["saes"]
    drawing = figure(0.9 + 1.15 * len(saes))
    for axes, sae in zip(_rows(drawing, saes), saes, strict=True):
        found = sae["trained"]
        axes.stairs(found["counts"], result["edges"], fill=True, color=TEAL)
        axes.axvline(found["median"], color=INK, linewidth=1)
        axes.set_title(f"{label(sae)}: median {found['median']:.2f}", fontsize=10, loc="left")
        axes.set_ylabel("features")
    _scale(drawing, result)
    return svg(drawing, "Histograms of the attribution correlation of features with transfers")


def against_random(result: dict[str, Any]) -> str:
    """Densities of trained and of untrained features, a row for each size."""
    saes = result["saes"]
    drawing = figure(1.2 + 1.15 * len(saes))
    edges = np.array(result["edges"])
    for axes, sae in zip(_rows(drawing, saes), saes, strict=True):
        for kind, color, name in (("random", AMBER, "untrained"), ("trained", TEAL, "trained")):
            found = sae[kind]
            density = np.array(found["counts"]) / found["features"] / np.diff(edges)
            axes.stairs(density, edges, fill=True, color=color, alpha=0.35)
            axes.stairs(density, edges, color=color, linewidth=1.4, label=name)
        axes.set_title(label(sae), fontsize=10, loc="left")
        axes.set_ylabel("density")
    _scale(drawing, result)
    handles, labels = drawing.axes[0].get_legend_handles_labels()
    drawing.legend(handles, labels, frameon=False, loc="outside upper center", ncols=2, fontsize=10)
    return svg(drawing, "Densities of attribution correlations, trained and untrained SAEs")


def by_method(result: dict[str, Any]) -> str:
    """Histograms of the same features by the way of moving, one above the other."""
    found = result["methods"]
    drawing = figure(0.9 + 1.15 * len(found))
    axes_of = _rows(drawing, found)
    for axes, row, color in zip(axes_of, found, (AMBER, BLUE, TEAL), strict=True):
        axes.stairs(row["counts"], result["edges"], fill=True, color=color)
        axes.axvline(row["median"], color=INK, linewidth=1)
        title = f"{METHODS[row['method']]}: median {row['median']:.2f}"
        axes.set_title(title, fontsize=10, loc="left")
        axes.set_ylabel("features")
    counts = np.sum([row["counts"] for row in found], 0)
    _span(drawing, result["edges"], counts)
    return svg(drawing, "Histograms of the attribution correlation by the way of moving the SAE")


def _rows(drawing: Any, saes: list[Any]) -> Any:
    return drawing.subplots(len(saes), 1, sharex=True, squeeze=False)[:, 0]


def _scale(drawing: Any, result: dict[str, Any]) -> None:
    """From the lowest thousandth of the features to 1."""
    counts = np.sum([sae[k]["counts"] for sae in result["saes"] for k in ("trained", "random")], 0)
    _span(drawing, result["edges"], counts)


def _span(drawing: Any, edges: list[float], counts: Any) -> None:
    first = int(np.searchsorted(np.cumsum(counts), 0.001 * counts.sum()))
    for axes in drawing.axes:
        axes.set_xlim(min(edges[first], -0.1), 1)
        axes.axvline(0, color=GREY, linewidth=0.8, zorder=0)
    drawing.axes[-1].set_xlabel("attribution correlation, A with B")
