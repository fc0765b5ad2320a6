# SPDX-License-Identifier: Apache-2.0
"""How often features fire before and after the transfer."""

from __future__ import annotations

from typing import Any

import matplotlib
import numpy as np

from suture.report.drawing import GREY, STYLE, figure, svg


def draw(result: dict[str, Any]) -> dict[str, str]:
    """Frequencies, coloured by attribution correlation."""
    with matplotlib.rc_context(STYLE):
        return {"How often features fire, before and after": frequencies(result)}


def frequencies(result: dict[str, Any]) -> str:
    """A dot a feature; on the diagonal it fires as often in B as in A."""
    drawing = figure(4.5)
    axes = drawing.subplots()
    rank = result["rank_frequency"]
    axes.set_title(
        f"{result['within_factor_two']:.0%} of the features within a factor of two"
        + ("" if rank is None else f", rank correlation {rank:.2f}"),
        fontsize=10, loc="left",
    )  # fmt: skip
    x, y = (np.array(result["frequency"][side]) for side in ("a", "b"))
    color = np.array([np.nan if c is None else c for c in result["correlation"]])
    # The strongest on top.
    order = np.argsort(np.nan_to_num(color, nan=-1), kind="stable")
    low, high = 0.7 / result["tokens"], 1.0
    axes.plot([low, high], [low, high], color=GREY, linewidth=1, zorder=0)
    dots = axes.scatter(
        x[order], y[order], s=7, c=color[order], cmap="viridis", vmin=0, vmax=1, linewidths=0,
        alpha=0.8, plotnonfinite=True, rasterized=True,
    )  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(low, high)
    axes.set_ylim(low, high)
    axes.set_aspect("equal")
    axes.set_xlabel("share of tokens, original in A")
    axes.set_ylabel("share of tokens, transferred in B")
    bar = drawing.colorbar(dots, ax=axes, shrink=0.8)
    bar.set_label("attribution correlation")
    bar.outline.set_visible(False)
    return svg(drawing, "How often features fire before and after the transfer")
