# SPDX-License-Identifier: Apache-2.0
"""Overlaps of top examples."""

from __future__ import annotations

from typing import Any

import matplotlib
import numpy as np
from matplotlib.ticker import MaxNLocator

from suture.paper.experiments.labels import OVERLAPS
from suture.paper.moved import METHODS
from suture.report.drawing import AMBER, BLUE, GREY, STYLE, TEAL, figure, svg


def draw(result: dict[str, Any]) -> dict[str, str]:
    """The one figure."""
    with matplotlib.rc_context(STYLE):
        return {OVERLAPS: overlaps(result)}


def overlaps(result: dict[str, Any]) -> str:
    """The share of features that keep at least so many examples, a line for each method."""
    drawing = figure(3.9)
    axes = drawing.subplots()
    top = result["top"]
    at_least = np.arange(top + 1)
    # Refitting leaves the encoder as it is: its line lies on that of the stitch.
    for row, color, style in zip(
        result["methods"], (AMBER, BLUE, TEAL), ("-", (0, (4, 3)), "-"), strict=True
    ):
        share = np.cumsum(row["counts"][::-1])[::-1] / result["judged"]
        label = f"{METHODS[row['method']]} (mean {row['mean']:.2f})"
        axes.plot(at_least, share, color=color, linewidth=2, linestyle=style, label=label)
    axes.axvline(top / 2, color=GREY, linewidth=1, zorder=0)
    axes.set_xlim(0, top)
    axes.set_ylim(0, 1)
    axes.set_xlabel(f"of the top {top} examples in A, at least so many are in B's")
    axes.set_ylabel("share of features")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    # Above, where no line can lie behind it.
    drawing.legend(frameon=False, loc="outside upper center", fontsize=10)
    return svg(drawing, "Share of features over how many of their top examples they keep")
