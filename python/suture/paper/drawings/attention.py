# SPDX-License-Identifier: Apache-2.0
"""Figures of features that deactivate attention heads."""

from __future__ import annotations

from typing import Any

import matplotlib
import numpy as np

from suture.report.drawing import AMBER, BLUE, GREY, MUTED, STYLE, figure, svg

COLORS = {"positive": BLUE, "negative": AMBER}
MEANINGS = {"positive": "turns the head to BOS", "negative": "turns it away"}


def draw(result: dict[str, Any]) -> dict[str, str]:
    """Fig. 5b and Fig. 16."""
    found = {"Fig. 16": agreement(result["features"])}
    shown = [example for example in result["examples"] if example is not None]
    return ({"Fig. 5b": examples(shown)} if shown else {}) | found


def examples(shown: list[dict[str, Any]]) -> str:
    """For one feature of each sign: change of p(BOS) against activation, in A and in B."""
    with matplotlib.rc_context(STYLE):
        drawing = figure(0.6 + 2.3 * len(shown))
        grid = drawing.subplots(len(shown), 2, squeeze=False)
        for row, example in zip(grid, shown, strict=True):
            for axes, name in zip(row, ("a", "b"), strict=True):
                part = example[name]
                x, y = np.array(part["points"]).T
                axes.axhline(0, color=MUTED, linewidth=0.8)
                axes.scatter(x, y, s=7, color=COLORS[example["sign"]], alpha=0.45, linewidths=0)
                axes.set_title(
                    f"{name.upper()}, head {part['layer']}.{part['head']}", fontsize=10.5
                )
                axes.locator_params(nbins=4)
                axes.set_xlim(left=0)
            row[0].set_ylabel(f"feature {example['feature']}\nchange of p(BOS)")
        for axes in grid[-1]:
            axes.set_xlabel("activation")
        return svg(
            drawing,
            "Change of a head's attention to BOS when a feature is taken out of its query, against "
            "the feature's activation, before and after the transfer",
        )


def agreement(features: list[dict[str, Any]]) -> str:
    """Mean change of p(BOS) in A against that in B, a point a feature."""
    with matplotlib.rc_context(STYLE):
        drawing = figure(4.2)
        axes = drawing.subplots()
        axes.axhline(0, color=MUTED, linewidth=0.8)
        axes.axvline(0, color=MUTED, linewidth=0.8)
        for kind, sign, color, label in (
            ("random", None, GREY, "at random"),
            ("strongest", "positive", COLORS["positive"], MEANINGS["positive"]),
            ("strongest", "negative", COLORS["negative"], MEANINGS["negative"]),
        ):
            points = [
                (entry["a"]["change"], entry["b"]["change"])
                for entry in features
                if entry["kind"] == kind
                and sign in (None, entry["sign"])
                and None not in (entry["a"]["change"], entry["b"]["change"])
            ]
            if points:
                x, y = np.array(points).T
                axes.scatter(x, y, s=26, color=color, label=label, linewidths=0, alpha=0.9)
        axes.set_xlabel("mean change of p(BOS), A")
        axes.set_ylabel("mean change of p(BOS), B")
        axes.locator_params(nbins=5)
        drawing.legend(frameon=False, loc="outside upper center", ncols=3, fontsize=10)
        return svg(
            drawing,
            "Mean change of attention to BOS when a feature is taken out, in A and after the "
            "transfer in B",
        )
