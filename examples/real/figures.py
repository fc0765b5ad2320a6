# SPDX-License-Identifier: Apache-2.0
"""Figures of what only this report has."""

from __future__ import annotations

from typing import Any

import matplotlib
from suture.report.drawing import AMBER, BLUE, GREY, INK, STYLE, figure, svg


def control(found: dict[str, Any]) -> str:
    """How far llama.cpp's shift of each layer is from Suture's, on a logarithmic scale."""
    rows = [row for row in found["layers"] if row["layer"] >= found["layer"]]
    layers = [row["layer"] for row in rows]
    with matplotlib.rc_context(STYLE):
        drawing = figure(2.8)
        axes = drawing.subplots()
        axes.plot(layers, [row["shift"] for row in rows], "o-", color=BLUE, label="shift")
        every = found["layers"]
        axes.plot(
            [row["layer"] for row in every],
            [row["plain"] for row in every],
            "-",
            color=GREY,
            label="plain stream",
        )
        axes.axhline(found["tolerance"], color=AMBER, linewidth=1.5)
        axes.text(1, found["tolerance"], " tolerance", va="bottom", color=INK, fontsize=10)
        axes.set_yscale("log")
        axes.set_ylim(1e-8, 1e-2)
        axes.set_xlabel("layer")
        axes.set_ylabel("largest relative\ndifference of a row")
        axes.legend(frameon=False, loc="lower right", fontsize=10)
        return svg(drawing, "Difference of residual streams in llama.cpp and transformers by layer")


def control_verdict(found: dict[str, Any]) -> str:
    """Whether both programs do the same."""
    moved = max(row["shift"] for row in found["layers"] if row["layer"] >= found["layer"])
    same = [
        kind for kind in ("plain", "steered") if all(len({*t[kind]}) == 1 for t in found["texts"])
    ]
    said = {
        0: "the greedy texts differ",
        1: f"the greedy texts agree where {''.join(same)} only",
        2: "both write the same greedy text, with the vector and without",
    }[len(same)]
    return (
        f"From layer {found['layer']} on, llama.cpp moves the residual stream as "
        f"suture.models.steer does: at most {moved:.1g} of a row's shift apart, where "
        f"{found['tolerance']:g} is allowed, and before it not at all. Of {len(found['texts'])} "
        f"prompts {said}."
    )
