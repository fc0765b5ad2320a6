# SPDX-License-Identifier: Apache-2.0
"""Figures of steering to other languages."""

from __future__ import annotations

from typing import Any

import matplotlib
import numpy as np
from matplotlib.ticker import MaxNLocator

from suture.paper.experiments.steering import by_language, shares
from suture.report.drawing import AMBER, BLUE, GREY, INK, MUTED, STYLE, figure, svg

COLORS = {"none": GREY, "native": AMBER, "transferred": BLUE}
LABELS = {"none": "not steered", "native": "native vector", "transferred": "transferred vector"}


def draw(result: dict[str, Any]) -> dict[str, str]:
    """Fig. 3b, 3c, Tables 5 and 6, Fig. 11."""
    with matplotlib.rc_context(STYLE):
        return {
            "Fig. 3b": success(result),
            "Fig. 3c": gaps(result),
            "Tables 5 and 6": languages(result),
            "Fig. 11": trend(result),
        }


def success(result: dict[str, Any]) -> str:
    """Mean share in the language by strength, of both directions."""
    ways = _ways(result)
    drawing = figure(3.1)
    grid = drawing.subplots(1, len(ways), sharey=True, squeeze=False)[0]
    strengths = result["strengths"]
    for axes, (way, rows) in zip(grid, ways.items(), strict=True):
        part = result | {"rows": rows}
        bars = [("none", None, 0.0)] + [
            (kind, strength, place + 1 + (0.2 if kind == "transferred" else -0.2))
            for place, strength in enumerate(strengths)
            for kind in ("native", "transferred")
        ]
        for kind, strength, place in bars:
            found = shares(part, kind, strength)
            values = [share["share"] for share in found]
            first = strength in (None, strengths[0])
            axes.bar(
                place, np.mean(values), 0.38, color=COLORS[kind],
                label=LABELS[kind] if first else None,
            )  # fmt: skip
            axes.scatter([place] * len(values), values, s=9, color=INK, linewidths=0, zorder=3)
        axes.set_xticks(
            range(len(strengths) + 1), ["none"] + [f"{strength:g} z̄" for strength in strengths]
        )
        axes.set_title(way, fontsize=11)
        axes.set_ylim(0, 1.02)
    grid[0].set_ylabel("share of responses\nin the target language")
    handles, labels = grid[0].get_legend_handles_labels()
    drawing.legend(
        handles, labels, frameon=False, loc="outside upper center", ncols=3, fontsize=10,
        columnspacing=1.2, handlelength=1.2,
    )  # fmt: skip
    return svg(
        drawing,
        "Mean share of responses in the target language without steering, by native and by "
        "transferred vectors; a point a language",
    )


def languages(result: dict[str, Any]) -> str:
    """Shares with their intervals, language by language, in both directions."""
    ways = _ways(result)
    count = max(map(len, ways.values()))
    drawing = figure(1.0 + 0.62 * count)
    grid = drawing.subplots(1, len(ways), sharey=True, squeeze=False)[0]
    strength = result["strengths"][0]
    for axes, (way, rows) in zip(grid, ways.items(), strict=True):
        part = result | {"rows": rows}
        for kind, shift, at in (
            ("none", -0.24, None), ("native", 0.0, strength), ("transferred", 0.24, strength),
        ):  # fmt: skip
            found = shares(part, kind, at)
            values = np.array([share["share"] for share in found])
            low = values - [share["low"] for share in found]
            high = np.array([share["high"] for share in found]) - values
            axes.errorbar(
                values, np.arange(len(found)) + shift, xerr=np.maximum([low, high], 0), fmt="o",
                color=COLORS[kind], markersize=5, elinewidth=1.6, label=LABELS[kind],
            )  # fmt: skip
        for place, row in enumerate(rows):
            known = result["real"].get(row["language"])
            if known is not None:
                axes.plot(
                    [known["share"]] * 2, [place - 0.38, place + 0.38], color=MUTED, linewidth=1.2,
                    linestyle=":", label="real text" if place == 0 else None,
                )  # fmt: skip
        axes.set_yticks(range(len(rows)), [row["language"] for row in rows])
        axes.set_title(way, fontsize=11)
        axes.set_xlim(-0.03, 1.03)
        axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
        axes.set_xlabel(f"share, at {strength:g} z̄")
    # Shared by all.
    grid[0].set_ylim(count - 0.5, -0.5)
    handles, labels = grid[0].get_legend_handles_labels()
    drawing.legend(handles, labels, frameon=False, loc="outside upper center", ncols=2, fontsize=10)
    return svg(
        drawing,
        "Share of responses in each target language with its 95 % interval: not steered, by the "
        "native and by the transferred vector; dotted, what langdetect recognises of real text",
    )


def gaps(result: dict[str, Any]) -> str:
    """How many languages have which relative transfer gap."""
    drawing = figure(2.8)
    axes = drawing.subplots()
    edges = np.linspace(0, 1, 11)
    found = {
        strength: [row["gaps"][f"{strength:g}"] for row in result["rows"]]
        for strength in result["strengths"][:2]
    }
    axes.hist(
        list(found.values()), bins=list(edges), color=[BLUE, AMBER][: len(found)],
        label=[f"at {strength:g} z̄" for strength in found],
    )  # fmt: skip
    axes.set_xlim(0, 1)
    axes.set_xlabel("relative transfer gap: transferred / native, at most 1")
    axes.set_ylabel("languages,\nboth directions")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    drawing.legend(frameon=False, loc="outside upper center", ncols=2, fontsize=10)
    return svg(drawing, "Histogram of the relative transfer gap over languages and directions")


def trend(result: dict[str, Any]) -> str:
    """The gap against the language's share of the training text."""
    drawing = figure(3.2)
    axes = drawing.subplots()
    key = f"{result['strengths'][0]:g}"
    frequency = result["frequency"]
    for way, marker, color in zip(_ways(result).items(), "o^", (BLUE, AMBER), strict=False):
        name, rows = way
        axes.scatter(
            [frequency[row["language"]] for row in rows], [row["gaps"][key] for row in rows],
            marker=marker, s=34, color=color, label=name, linewidths=0, zorder=3,
        )  # fmt: skip
    points = by_language(result)
    for place, (language, share, _) in enumerate(points):
        # On three heights: languages of the same frequency would cover each other's names.
        axes.annotate(
            language, (share, 0.04 + 0.08 * (place % 3)), ha="center", fontsize=10.5, color=INK
        )
    axes.set_ylim(0, 1.05)
    axes.set_xlim(0, 1.15 * max(share for _, share, _ in points))
    axes.set_xlabel("share of the training text's tokens")
    axes.set_ylabel(f"relative transfer gap,\nat {key} z̄")
    drawing.legend(frameon=False, loc="outside upper center", ncols=2, fontsize=10)
    return svg(drawing, "Relative transfer gap of each language against its share of the text")


def _ways(result: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Rows by direction."""
    ways: dict[str, list[dict[str, Any]]] = {}
    for row in result["rows"]:
        ways.setdefault(f"{row['source'].upper()} to {row['target'].upper()}", []).append(row)
    return ways
