# SPDX-License-Identifier: Apache-2.0
"""Section 3: a SAE moved to the other model, as it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from suture.paper.finding import Finding, verdict

if TYPE_CHECKING:
    from suture.paper.ground import Ground

TITLE = "The moved sparse autoencoder"
SECTION = "3"


@dataclass(frozen=True)
class Settings:
    """What the experiment can be told: nothing beyond the sizes of the SAE."""


def run(ground: Ground, settings: Settings) -> dict[str, Any]:
    """The SAE on A, the same on B, and an untrained one on B (Table 2)."""
    table2 = ground.table2(ground.layers, ground.stitched, ground.trained_a, ground.held_out_rows)
    return {"rows": table2.result["rows"], "training": ground.trained_a.result["history"]}


def findings(result: dict[str, Any]) -> list[Finding]:
    """Table 2."""
    original, moved, random = result["rows"]
    usable = moved["fvu"] < random["fvu"] and moved["delta_loss"] < random["delta_loss"]
    alike = moved["fvu"] <= 0.525
    alive = moved["dead_fraction"] <= original["dead_fraction"] + 0.025
    return [
        Finding(
            "Table 2",
            "A SAE before and after the move",
            "Variance unexplained 0.17→0.52, 0.11→0.39, 0.21→0.42; added loss 0.36→2.16, "
            "0.08→0.96, 0.50→0.85; dead latents 5.2→2.9 %, <1 %, 1.5→3.5 %.",
            f"Variance unexplained {original['fvu']:.2f}→{moved['fvu']:.2f} (untrained: "
            f"{random['fvu']:.2f}); added loss {original['delta_loss']:.2f}→"
            f"{moved['delta_loss']:.2f} (untrained: {random['delta_loss']:.2f}); dead latents "
            f"{original['dead_fraction']:.1%}→{moved['dead_fraction']:.1%}.",
            verdict(reproduced=usable and alike and alive, partly=usable),
            "" if alike else "It loses more variance than the paper's worst pair.",
        )
    ]
