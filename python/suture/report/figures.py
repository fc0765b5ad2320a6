# SPDX-License-Identifier: Apache-2.0
"""The report's figures, each as one SVG element whose text stays text: sharp and searchable."""

from __future__ import annotations

from typing import Any

import matplotlib
import numpy as np

from suture.report.drawing import AMBER, BLUE, GREY, INK, STYLE, TEAL, figure, svg


def svcca_grid(svcca: dict[str, Any]) -> str:
    """Heat map of mean canonical correlations, A's layers down, B's across."""
    grid = np.asarray(svcca["grid"])
    with matplotlib.rc_context(STYLE):
        drawing = figure(0.9 + 0.5 * grid.shape[0])
        axes = drawing.subplots()
        image = axes.imshow(grid, cmap="YlGnBu", vmin=0, vmax=1, aspect="auto")
        for (row, column), value in np.ndenumerate(grid):
            axes.text(
                column,
                row,
                f"{value:.2f}",
                ha="center",
                va="center",
                color="white" if value > 0.6 else INK,
                fontsize=11,
            )
        row = svcca["layers_a"].index(svcca["layer_a"])
        column = svcca["layers_b"].index(svcca["layer_b"])
        axes.add_patch(
            matplotlib.patches.Rectangle(
                (column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor=AMBER, linewidth=3
            )
        )
        axes.set_xticks(range(grid.shape[1]), svcca["layers_b"])
        axes.set_yticks(range(grid.shape[0]), svcca["layers_a"])
        axes.set_xlabel("layer of B")
        axes.set_ylabel("layer of A")
        axes.spines[:].set_visible(False)
        drawing.colorbar(image, ax=axes, label="mean canonical correlation", shrink=0.9)
        return svg(drawing, "Heat map of SVCCA between the layers of A and B")


def stitches(comparison: dict[str, Any]) -> str:
    """What each stitch explains of held-out rows, there and back: bars side by side."""
    rows = comparison["stitches"]
    ways = (("up_explained_variance", "A→B", BLUE), ("down_explained_variance", "B→A", TEAL))
    # Far below the mean it no longer matters how far.
    least = -0.5
    with matplotlib.rc_context(STYLE):
        drawing = figure(0.9 + 0.62 * len(rows))
        axes = drawing.subplots()
        for offset, (key, label, color) in zip((-0.2, 0.2), ways, strict=True):
            values = [row["ordinary"][key] for row in rows]
            bars = axes.barh(
                np.arange(len(rows)) + offset,
                [max(value, least) for value in values],
                0.36,
                label=label,
                color=color,
            )
            labels = [f"{value:.2f}".replace("-", "−") for value in values]
            axes.bar_label(bars, labels, padding=3, fontsize=10)
        axes.axvline(0, color=INK, linewidth=0.8)
        axes.set_yticks(range(len(rows)), [row["label"] for row in rows])
        axes.invert_yaxis()
        low = min(0.0, *(row["ordinary"][key] for row in rows for key, _, _ in ways))
        axes.set_xlim(max(low, least) - (0.2 if low < 0 else 0), 1.0)
        axes.set_xlabel("explained variance of held-out ordinary rows")
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(low == 0)
        axes.legend(frameon=False, loc="lower right", fontsize=10)
        return svg(drawing, "Bars of explained variance by stitch, in both directions")


def losses(table1: dict[str, Any]) -> str:
    """Horizontal bars of the six next-token losses."""
    names = list(table1["losses"])
    values = [table1["losses"][name]["loss"] for name in names]
    changes = [table1["losses"][name]["relative_change"] for name in names]
    colors = [GREY if change is None else BLUE for change in changes]
    with matplotlib.rc_context(STYLE):
        drawing = figure(2.9)
        axes = drawing.subplots()
        bars = axes.barh(names, values, color=colors, height=0.66)
        labels = [
            f"{value:.3f}" + ("" if change is None else f"  ({change:+.1%})")
            for value, change in zip(values, changes, strict=True)
        ]
        axes.bar_label(bars, labels, padding=4)
        axes.set_xlim(0, max(values) * 1.38)
        axes.invert_yaxis()
        axes.set_xlabel("next-token loss on held-out text (nats)")
        axes.tick_params(axis="y", length=0)
        return svg(drawing, "Bars of next-token losses with and without the stitch")


def transfer(table2: list[dict[str, Any]]) -> str:
    """Three panels: FVU, delta loss and dead latents of the original, transferred, random SAE."""
    panels = [
        ("fvu", "variance\nunexplained", "{:.3f}"),
        ("delta_loss", "added loss\n(nats)", "{:.3f}"),
        ("dead_fraction", "dead latents", "{:.1%}"),
    ]
    labels = [row["label"] for row in table2]
    colors = [GREY, TEAL, AMBER][: len(labels)]
    with matplotlib.rc_context(STYLE):
        drawing = figure(3.4)
        for axes, (key, title, pattern) in zip(drawing.subplots(1, 3), panels, strict=True):
            values = [row[key] for row in table2]
            bars = axes.bar(range(len(values)), values, color=colors, width=0.7)
            axes.bar_label(bars, [pattern.format(v) for v in values], padding=3, fontsize=10)
            axes.set_title(title, fontsize=11)
            axes.set_xticks(range(len(labels)), labels, rotation=35, ha="right", fontsize=10)
            # Dead latents below one in ten are good: do not let them fill the panel.
            least = 0.1 if key == "dead_fraction" else 0.0
            axes.set_ylim(0, 1.2 * max(*values, least))
            axes.set_yticks([])
            axes.spines["left"].set_visible(False)
        return svg(drawing, "Bars comparing the original, the transferred and a random SAE")


def objective(stitch: dict[str, Any]) -> str:
    """The four terms, as shares of their stream's variance: least squares, the fit, and the fit on
    held-out rows."""
    terms = [
        ("up", "A→B"),
        ("down", "B→A"),
        ("a_round_trip", "A→B→A"),
        ("b_round_trip", "B→A→B"),
    ]
    series = [
        ("before", "least squares (start)", GREY),
        ("after", "fitted", BLUE),
        ("held_out", "held out", TEAL),
    ]
    with matplotlib.rc_context(STYLE):
        drawing = figure(3.3)
        axes = drawing.subplots()
        width = 0.27
        for offset, (key, label, color) in enumerate(series):
            values = [1 - stitch[key][f"{term}_explained_variance"] for term, _ in terms]
            positions = np.arange(len(terms)) + (offset - 1) * width
            axes.bar(positions, values, width, label=label, color=color)
        axes.set_xticks(range(len(terms)), [label for _, label in terms])
        axes.set_ylabel("variance not explained")
        axes.legend(frameon=False, loc="upper right", fontsize=10)
        axes.margins(y=0.25)
        return svg(drawing, "Terms of the stitching objective before and after the fit")


def training(history: list[dict[str, Any]]) -> str:
    """Explained variance over tokens while the SAE trained."""
    tokens = [row["tokens"] / 1e6 for row in history]
    with matplotlib.rc_context(STYLE):
        drawing = figure(2.7)
        axes = drawing.subplots()
        axes.plot(tokens, [row["explained_variance"] for row in history], color=TEAL, linewidth=2)
        axes.set_ylim(0, 1)
        axes.set_xlabel("tokens seen (millions)")
        axes.set_ylabel("explained variance")
        axes.grid(axis="y", color="#e5eaef")
        return svg(drawing, "Explained variance during training")
