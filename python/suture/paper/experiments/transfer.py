# SPDX-License-Identifier: Apache-2.0
"""Section 3: a SAE moved to the other model, as it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from suture.paper import moved
from suture.paper.finding import Finding, verdict

if TYPE_CHECKING:
    from suture.paper.ground import Ground

TITLE = "The moved sparse autoencoder"
SECTION = "3"


@dataclass(frozen=True)
class Settings:
    """What the experiment can be told: nothing beyond the sizes of the SAE."""


def run(ground: Ground, settings: Settings) -> dict[str, Any]:
    """The SAE on A, the same on B, and an untrained one on B (Table 2); beside it what other ways
    of moving it give."""
    table2 = ground.table2(ground.layers, ground.stitched, ground.trained_a, ground.held_out_rows)
    return {
        "rows": table2.result["rows"],
        "training": ground.trained_a.result["history"],
        "methods": moved.judged(ground),
    }


def findings(result: dict[str, Any]) -> list[Finding]:
    """Table 2."""
    original, stitched, random = result["rows"]
    usable = stitched["fvu"] < random["fvu"] and stitched["delta_loss"] < random["delta_loss"]
    alike = stitched["fvu"] <= 0.525
    alive = stitched["dead_fraction"] <= original["dead_fraction"] + 0.025
    likeness = result["methods"][0]["correlation"]
    return [
        Finding(
            "Table 2",
            "A SAE before and after the move",
            "Variance unexplained 0.17→0.52, 0.11→0.39, 0.21→0.42; added loss 0.36→2.16, "
            "0.08→0.96, 0.50→0.85; dead latents 5.2→2.9 %, <1 %, 1.5→3.5 %.",
            f"Variance unexplained {original['fvu']:.2f}→{stitched['fvu']:.2f} (untrained: "
            f"{random['fvu']:.2f}); added loss {original['delta_loss']:.2f}→"
            f"{stitched['delta_loss']:.2f} (untrained: {random['delta_loss']:.2f}); dead latents "
            f"{original['dead_fraction']:.1%}→{stitched['dead_fraction']:.1%}. "
            f"Its latents' activations correlate with the original's by {spread(likeness)}.",
            verdict(reproduced=usable and alike and alive, partly=usable),
            "" if alike else "It loses more variance than the paper's worst pair.",
        )
    ]


def spread(quartiles: list[float]) -> str:
    """A median with its quartiles.

    >>> spread([0.1, 0.2, 0.4])
    '0.20 in the median (quartiles 0.10 and 0.40)'
    """
    low, middle, high = quartiles
    return f"{middle:.2f} in the median (quartiles {low:.2f} and {high:.2f})"


#: Name of the figure that compares the ways of moving a SAE.
BY_METHOD = "The same SAE moved by stitch, with its decoder refitted, and by pairs"


def remarks(result: dict[str, Any]) -> dict[str, str]:
    """What is said of figures that the paper does not have."""
    said = "; ".join(
        f"{moved.METHODS[row['method']]}: variance unexplained {row['fvu']:.2f}, added loss "
        f"{row['delta_loss']:.2f}, correlation {spread(row['correlation'])}, "
        f"{row['share_active']:.0%} of A's active latents"
        for row in result["methods"]
    )
    first = result["methods"][0]
    # No "-0.00".
    control = round(first["control"], 2) + 0.0
    return {
        BY_METHOD: f"On held-out tokens. {said}. Correlations are those of a latent's activations "
        f"in A and in B, of the {first['judged']:,} latents that fire ten times in A, one that is "
        f"silent in B counting as 0; with other rows they are {control:.2f}. By pairs, "
        "activations of A are regressed on rows of B (suture.carry): not the paper's method."
    }
