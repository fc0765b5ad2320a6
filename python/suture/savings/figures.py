# SPDX-License-Identifier: Apache-2.0
"""The experiment's figures, each as one SVG element."""

from __future__ import annotations

from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter, PercentFormatter

from suture.report.drawing import GREY, INK, MUTED, STYLE, figure, svg
from suture.savings.arms import ARMS, of_a

COLORS = {name: arm.color for name, arm in ARMS.items()}
STYLES: tuple[Any, ...] = ("-", "--", ":", "-.")


def draw(found: dict[str, Any]) -> dict[str, str]:
    """All figures by name, from the content of `savings.json`."""
    with matplotlib.rc_context(STYLE):
        return {
            "saved": saved(found),
            "curves": curves(found),
            "answers": answers(found),
            "thresholds": thresholds(found),
            "frontier": frontier(found),
            "cosine": cosine(found),
            "rates": rates(found),
        }


def saved(found: dict[str, Any]) -> str:
    """Share of operations saved to reach the random start's end, by width and start."""
    rows = [row for row in found["summary"] if "saved" in row]
    widths = _widths(found)
    arms = [arm for arm in ARMS if any(row["arm"] == arm for row in rows)]
    drawing = figure(3.8)
    axes = drawing.subplots()
    place = 0.8 / len(arms)
    for row in rows:
        value = row["saved"]["held_out"]
        x = widths.index(row["d_sae"]) + (arms.index(row["arm"]) - (len(arms) - 1) / 2) * place
        if value is None:
            look: Any = {"color": COLORS[row["arm"]], "ha": "center", "va": "bottom"}
            axes.text(x, 0.01, "not reached", rotation=90, fontsize=10, **look)
            continue
        ends = [[value["median"] - value["min"]], [value["max"] - value["median"]]]
        axes.bar(x, value["median"], 0.9 * place, color=COLORS[row["arm"]])
        axes.errorbar(x, value["median"], yerr=ends, color=INK, capsize=3, linewidth=1)
        axes.annotate(
            f"{value['median']:.0%}",
            (x, max(value["max"], 0)),
            (0, 4),
            textcoords="offset points",
            ha="center",
            fontsize=10,
        )
    _paper(axes)
    axes.set_xticks(range(len(widths)), [f"{width:,} latents" for width in widths])
    axes.set_ylim(top=max(axes.get_ylim()[1] + 0.05, 0.6))
    axes.set_ylabel("FLOPs saved")
    axes.yaxis.set_major_formatter(PercentFormatter(1, 0))
    axes.tick_params(axis="x", length=0)
    _legend(drawing, arms)
    return svg(drawing, "Bars of the share of FLOPs saved, by width and start")


def curves(found: dict[str, Any]) -> str:
    """Held-out explained variance over operations, a panel for each width."""
    widths = _widths(found)
    drawing = figure(1.4 + 2.3 * len(widths))
    panels = drawing.subplots(len(widths), 1, sharex=True, squeeze=False)[:, 0]
    for axes, width in zip(panels, widths, strict=True):
        for curve in found["curves"]:
            if curve["d_sae"] != width:
                continue
            color = COLORS[curve["arm"]]
            # A random start begins at no cost, which a logarithm cannot show.
            kept = [i for i, cost in enumerate(curve["flops"]) if cost > 0]
            flops, middle, low, high = (
                [curve[name][i] for i in kept] for name in ("flops", "median", "min", "max")
            )
            axes.fill_between(flops, low, high, color=color, alpha=0.2, linewidth=0)
            axes.plot(flops, middle, color=color, linewidth=1.8)
        _grid(axes)
        axes.set_xscale("log")
        axes.set_ylim(0.3, 1)
        axes.set_title(f"{width:,} latents", fontsize=11, loc="left")
        axes.set_ylabel("explained variance")
    panels[-1].set_xlabel("FLOPs, those of the start included")
    _legend(drawing, _arms(found))
    return svg(drawing, "Held-out explained variance over FLOPs, by width and start")


def answers(found: dict[str, Any]) -> str:
    """Both questions at the first width: explained variance, and likeness to A's features, over
    operations."""
    width = _widths(found)[0]
    own = [curve for curve in found["curves"] if curve["d_sae"] == width]
    drawing = figure(6.2)
    above, below = drawing.subplots(2, 1, sharex=True)
    for curve in own:
        kept = [i for i, cost in enumerate(curve["flops"]) if cost > 0]
        look: Any = {"color": COLORS[curve["arm"]], "linewidth": 1.8}
        for axes, name in ((above, "median"), (below, "correlation")):
            if name in curve:
                points = [[curve[key][i] for i in kept] for key in ("flops", name)]
                axes.plot(*points, **look)
                if of_a(curve["arm"]):  # where training begins
                    axes.plot(points[0][0], points[1][0], "o", markersize=5, **look)
    [answer] = [row for row in found["answers"] if row["d_sae"] == width]
    above.axhline(answer["target"]["median"], color=MUTED, linewidth=0.8, linestyle="--")
    if answer["floor"] is not None:
        below.axhline(answer["floor"]["median"], color=MUTED, linewidth=0.8, linestyle="--")
    above.set_xscale("log")
    above.set_ylim(0.5, 0.95)
    below.set_ylim(bottom=0)
    # The random start comes from far below.
    least = min(curve["flops"][0] for curve in own if curve["arm"] != "random")
    above.set_xlim(left=0.6 * least)
    above.set_title(f"{width:,} latents", fontsize=11, loc="left")
    above.set_ylabel("explained variance")
    below.set_ylabel("correlation with A's\nlatents, median")
    below.set_xlabel("FLOPs, those of the start included")
    for axes in (above, below):
        _grid(axes)
    _legend(drawing, [curve["arm"] for curve in own])
    return svg(drawing, "Explained variance and likeness to A's features over FLOPs, by start")


def thresholds(found: dict[str, Any]) -> str:
    """Share saved at each level of explained variance (Fig. 2a)."""
    widths = _widths(found)
    arms = [arm for arm in _arms(found) if arm != "random"]
    drawing = figure(4.0)
    axes = drawing.subplots()
    low = high = 0.0
    for arm in arms:
        for width, style in zip(widths, STYLES, strict=False):
            rows = [
                row for row in found["thresholds"] if (row["arm"], row["d_sae"]) == (arm, width)
            ]
            if not rows:
                continue
            levels, values = (
                [row["level"] for row in rows],
                [row["median"] for row in rows],
            )
            low, high = min(low, *values), max(high, *values)
            axes.plot(levels, values, color=COLORS[arm], linestyle=style, linewidth=1.8)
    _paper(axes)
    # What costs half as much again leaves the picture.
    axes.set_ylim(max(low, -0.5) - 0.02, max(high, 0.5) + 0.05)
    axes.set_xlabel("held-out explained variance to reach")
    axes.set_ylabel("FLOPs saved")
    axes.yaxis.set_major_formatter(PercentFormatter(1, 0))
    _grid(axes)
    styles = [
        Line2D([], [], color=INK, linestyle=style, label=f"{width:,}")
        for width, style in zip(widths, STYLES, strict=False)
    ]
    axes.legend(handles=styles, frameon=False, title="latents", fontsize=10, loc="lower right")
    _legend(drawing, arms)
    return svg(drawing, "Share of FLOPs saved over the explained variance to reach")


def frontier(found: dict[str, Any]) -> str:
    """Unexplained variance over operations, all widths, and the lines (Fig. 1c)."""
    drawing = figure(3.8)
    axes = drawing.subplots()
    for line in found["lines"]:
        color = COLORS[line["arm"]]
        axes.plot(line["flops"], line["fvu"], "o", color=color, markersize=4, alpha=0.7)
        if line["A"] is not None:
            ends = np.array([line["flops"][0], line["flops"][-1]])
            axes.plot(ends, line["A"] * ends ** -line["beta"], color=color, linewidth=1.8)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:.2f}")
    axes.yaxis.set_minor_formatter("{x:.2f}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("FLOPs, those of the start included")
    axes.set_ylabel("variance unexplained")
    _grid(axes)
    _legend(drawing, [line["arm"] for line in found["lines"]])
    return svg(drawing, "Frontier of unexplained variance over FLOPs, with fitted lines")


def cosine(found: dict[str, Any]) -> str:
    """How far decoder rows turned from their start, without dead latents (Fig. 2b)."""
    widths = _widths(found)
    drawing = figure(1.4 + 1.6 * len(widths))
    panels = drawing.subplots(len(widths), 1, sharex=True, squeeze=False)[:, 0]
    for axes, width in zip(panels, widths, strict=True):
        for row in found["summary"]:
            if row["d_sae"] != width:
                continue
            counts = np.asarray(row["cosine_counts"], float)
            edges = np.linspace(-1, 1, len(counts) + 1)
            axes.stairs(
                counts / max(counts.sum(), 1), edges, color=COLORS[row["arm"]], linewidth=1.8
            )
        axes.set_xlim(-0.3, 1)
        axes.set_title(f"{width:,} latents", fontsize=11, loc="left")
        axes.yaxis.set_major_formatter(PercentFormatter(1, 0))
        axes.set_ylabel("of latents")
    panels[-1].set_xlabel("cosine of a decoder row to its start")
    _legend(drawing, _arms(found))
    return svg(drawing, "Distribution of cosines between decoder rows and their start")


def rates(found: dict[str, Any]) -> str:
    """What each learning rate reaches, and what is saved by starts that train at the same rate."""
    rows = found["rates"]["rows"]
    arms = list(dict.fromkeys(row["arm"] for row in rows))
    drawing = figure(4.6)
    above, below = drawing.subplots(2, 1, sharex=True)
    for arm in arms:
        own = sorted((row for row in rows if row["arm"] == arm), key=lambda row: row["lr"])
        look: Any = {"color": COLORS[arm], "linewidth": 1.8, "marker": "o", "markersize": 4}
        above.plot([row["lr"] for row in own], [row["end"] for row in own], **look)
        kept = [row for row in own if row["saved_alike"] is not None]
        if arm != "random":
            below.plot([row["lr"] for row in kept], [row["saved_alike"] for row in kept], **look)
    above.set_ylabel("explained variance\nat the end")
    below.set_ylabel("FLOPs saved at\nthe same rate")
    below.set_xscale("log")
    below.set_xlabel("learning rate")
    below.set_ylim(0, 1)
    below.yaxis.set_major_formatter(PercentFormatter(1, 0))
    for axes in (above, below):
        _grid(axes)
    _paper(below)
    _legend(drawing, arms)
    return svg(drawing, "End of training and share of FLOPs saved over the learning rate")


def _widths(found: dict[str, Any]) -> list[int]:
    return list(dict.fromkeys(row["d_sae"] for row in found["summary"]))


def _arms(found: dict[str, Any]) -> list[str]:
    return list(dict.fromkeys(row["arm"] for row in found["summary"]))


def _paper(axes: Axes) -> None:
    """A band over the paper's 30 to 50 %, and the line of no gain."""
    axes.axhspan(0.3, 0.5, color=GREY, alpha=0.3, linewidth=0, zorder=0)
    axes.axhline(0, color=MUTED, linewidth=0.8)
    axes.annotate(
        "the paper: 30 to 50 %",
        (1, 0.5),
        (-4, 3),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        ha="right",
        va="bottom",
        fontsize=9,
        color=MUTED,
        zorder=0,
    )


def _grid(axes: Axes) -> None:
    axes.grid(color="#e5eaef", linewidth=0.8)
    axes.set_axisbelow(True)


def _legend(drawing: Any, arms: list[str]) -> None:
    handles = [
        Line2D([], [], color=COLORS[arm], linewidth=3, label=ARMS[arm].label) for arm in arms
    ]
    drawing.legend(
        handles=handles,
        loc="outside upper center",
        ncols=min(2, len(handles)),
        frameon=False,
        fontsize=10,
    )
