# SPDX-License-Identifier: Apache-2.0
"""Figures of section 2."""

from __future__ import annotations

from typing import Any

import matplotlib
import numpy as np

from suture.report import figures
from suture.report.drawing import BLUE, STYLE, TEAL, figure, svg


def draw(result: dict[str, Any]) -> dict[str, str]:
    """Fig. 6, Table 1 and Fig. 7."""
    return {
        "Fig. 6": figures.svcca_grid(result["svcca"]),
        "Table 1": figures.losses(result["table1"]),
        "Fig. 7": weights(result["alphas"]),
    }


def weights(fits: list[dict[str, Any]]) -> str:
    """The four held-out errors, a group of bars for each weight."""
    series = [
        ("up", "A→B", BLUE, 1.0),
        ("down", "B→A", BLUE, 0.5),
        ("a_round_trip", "A→B→A", TEAL, 1.0),
        ("b_round_trip", "B→A→B", TEAL, 0.5),
    ]
    with matplotlib.rc_context(STYLE):
        drawing = figure(3.2)
        axes = drawing.subplots()
        width = 0.8 / len(series)
        for offset, (name, label, color, alpha) in enumerate(series):
            places = np.arange(len(fits)) + (offset - (len(series) - 1) / 2) * width
            values = [row["held_out"][name] for row in fits]
            axes.bar(places, values, width, color=color, alpha=alpha, label=label)
        axes.set_xticks(range(len(fits)), [f"α = {row['alpha']:g}" for row in fits])
        axes.set_ylabel("held-out mean squared error")
        axes.tick_params(axis="x", length=0)
        drawing.legend(frameon=False, loc="outside upper center", ncols=4, fontsize=10)
        return svg(drawing, "Held-out errors of stitches fitted with different weights")
