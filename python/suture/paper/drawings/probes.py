# SPDX-License-Identifier: Apache-2.0
"""Figures of the experiment on probes."""

from __future__ import annotations

from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from suture.paper.experiments.probes import average
from suture.paper.probe_curves import CURVES
from suture.report.drawing import AMBER, BLUE, GREY, INK, STYLE, TEAL, figure, svg

COLORS = {
    "ground truth": INK,
    "transferred, refitted": TEAL,
    "transferred, as it is": BLUE,
    "random features": GREY,
    "dense on B": INK,
    "dense, transferred": AMBER,
    "dense, carried by pairs": TEAL,
}
ACROSS = 2


def draw(result: dict[str, Any]) -> dict[str, str]:
    """Fig. 3a: means over tasks; Fig. 9: a panel for each."""
    with matplotlib.rc_context(STYLE):
        return {"Fig. 3a": means(result), "Fig. 9": panels(result)}


def means(result: dict[str, Any]) -> str:
    """Accuracy over the number of features, mean of all tasks."""
    drawing = figure(4.0)
    axes = drawing.subplots()
    _curves(axes, result["ks"], {name: average(result, name) for name in CURVES})
    axes.set_xlabel("features of the probe (k)")
    axes.set_ylabel("accuracy")
    _legend(drawing)
    return svg(drawing, "Accuracy of probes over their number of features, mean of all tasks")


def panels(result: dict[str, Any]) -> str:
    """The same for each task."""
    tasks = result["tasks"]
    down = -(-len(tasks) // ACROSS)
    drawing = figure(0.8 + 1.75 * down)
    grid = drawing.subplots(down, ACROSS, sharex=True, sharey=True, squeeze=False)
    for axes, task in zip(grid.flat, tasks, strict=False):
        _curves(axes, result["ks"], task["curves"], width=1.4)
        # Two lines where the name is long.
        axes.set_title(task["name"].replace(", ", ",\n"), fontsize=10, loc="left")
    for place, axes in enumerate(grid.flat):
        if place >= len(tasks):
            axes.set_visible(False)
        elif place + ACROSS >= len(tasks):  # the lowest of its column
            axes.tick_params(labelbottom=True)
    drawing.supxlabel("features of the probe (k)", fontsize=11)
    drawing.supylabel("accuracy", fontsize=11)
    _legend(drawing)
    return svg(drawing, "Accuracy of probes over their number of features, task by task")


def _curves(axes: Axes, ks: list[int], values: dict[str, Any], width: float = 2.0) -> None:
    for name in CURVES:
        found = values[name]
        if found is None:
            continue
        if isinstance(found, list):
            # The refitted one mostly lies under the other: broader, so that both are seen.
            broad = width + 2 if name == "transferred, refitted" else width
            axes.plot(ks, found, color=COLORS[name], linewidth=broad, marker="o", markersize=3)
        else:
            axes.axhline(found, color=COLORS[name], linewidth=width, linestyle="--")
    axes.set_xscale("log")
    axes.set_xticks(ks, [str(k) for k in ks])
    axes.minorticks_off()
    axes.set_ylim(0.45, 1.02)
    axes.grid(axis="y", color="#e5eaef")


def _legend(drawing: Figure) -> None:
    handles = [
        matplotlib.lines.Line2D(
            [],
            [],
            color=COLORS[name],
            linewidth=2,
            linestyle="--" if name.startswith("dense") else "-",
            label=name,
        )
        for name in CURVES
    ]
    drawing.legend(handles=handles, frameon=False, loc="outside upper center", ncols=2, fontsize=10)
